"""The command line: minigan train | sample | film | evaluate | doctor | report | export | ..."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import minigan

from ..utils.interrupts import allow_interrupts
from ..utils.names import list_names, printable
from . import (
    bench,
    check,
    doctor,
    evaluate,
    export,
    film,
    info,
    presets,
    report,
    reproduce,
    sample,
    train,
    translate,
)
from .completion import SHELLS, PrintCompletion
from .parser import Parser
from .terminal import printed_notices, usable_streams
from .threads import add_threads_option, use_threads

# The errors that a user's input can raise are printed as one line, with exit status 2.
USER_ERRORS = (ValueError, TypeError, OSError, RuntimeError, MemoryError, ArithmeticError)
MAX_MESSAGE_CHARACTERS = 2000

# The module and a line of help of each command. A module has add_arguments(parser) and
# run(options), which returns the exit status.
COMMANDS = {
    "train": (train, "train a GAN and leave a folder of pictures"),
    "sample": (sample, "draw new samples from a trained run"),
    "translate": (translate, "repair, enlarge or translate pictures by a run of --task"),
    "film": (film, "join the pictures of a run into a film"),
    "evaluate": (evaluate, "measure a run against held-out data"),
    "doctor": (doctor, "say what is wrong with runs, and what to try"),
    "report": (report, "write one HTML file that shows a run, or several beside each other"),
    "export": (export, "write a run's generator for ONNX, PyTorch or numpy"),
    "check": (check, "check the gradients of every op, or the ops of a file and their kernels"),
    "reproduce": (reproduce, "measure a published table again, over seeds"),
    "bench": (bench, "time kernels and steps beside their peers"),
    "info": (info, "describe a run, or versions, processor, devices, and which kernel runs where"),
    "presets": (presets, "list the presets of `minigan train`"),
}
THREADED = (
    "train",
    "sample",
    "translate",
    "evaluate",
    "report",
    "export",
    "check",
)  # with the option --threads


class PrintVersion(argparse.Action):
    """The option `--version`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        print(f"minigan {minigan.__version__}")
        parser.exit()


def build_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="minigan",
        description="Train a GAN on hand-written kernels, and look inside.",
        epilog="Start with `minigan train`: it draws digits in a minute or two and says where.",
    )
    parser.add_argument(
        "--version", action=PrintVersion, nargs=0, help="print the version and exit"
    )
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        help=f"print the completion script of a shell: {list_names(SHELLS)}",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (module, text) in COMMANDS.items():
        description = text[0].upper() + text[1:] + "."
        command = commands.add_parser(name, help=text, description=description)
        module.add_arguments(command)
        if name in THREADED:
            add_threads_option(command)
        command.set_defaults(run=module.run)
        parser.commands[name] = command
    return parser


@usable_streams()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

        main(["train", "--data", "ring"])

    Args:
        arguments: the words after `minigan`; None: those of the command line.
    """
    allow_interrupts()  # From here on they are caught below.
    command = "minigan"
    try:
        parser = build_parser()
        options = parser.parse_command(list(sys.argv[1:] if arguments is None else arguments))
        if options.command is None:
            parser.print_help()
            return 0
        command = f"minigan {options.command}"
        use_threads(options)
        with printed_notices(options.command):
            status = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\nminigan: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # The reader has closed stdout, as in `minigan info | head`.
        return 0
    except USER_ERRORS as error:
        if os.environ.get("MINIGAN_TRACEBACK"):
            raise
        text = printable(" ".join(str(error).split())) or type(error).__name__
        if len(text) > MAX_MESSAGE_CHARACTERS:
            text = text[:MAX_MESSAGE_CHARACTERS] + " ..."
        print(f"{command}: error: {text}", file=sys.stderr)
        return 2
