"""Run the tests and benchmarks that need a GPU, within some minutes: `--minutes 9 --out DIR`."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from ...cli.parser import Parser
from ...engine.device import get_device
from ...utils.names import choose
from .parts import PARTS, Part
from .runner import MARKDOWN, Run
from .settings import SETTINGS

COMMAND = "python -m minigan.bench.gpu"


def build_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(prog=COMMAND, description=__doc__)
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder for all results")
    parser.add_argument(
        "--minutes", type=float, default=9.0, metavar="FLOAT", help="time in all [%(default)s]"
    )
    parser.add_argument(
        "--parts", metavar="NAMES", help=f"only these of {','.join(PARTS)}, in that order [all]"
    )
    parser.add_argument(
        "--device",
        default="cuda",
        metavar="NAME",
        help="cuda, or cuda-emulator to try the command with tiny sizes [%(default)s]",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the parts, and return the exit status: 1 if a part failed, 2 for a wrong option."""
    options = build_parser().parse_args(arguments)
    try:
        if not 0 < options.minutes < math.inf:
            raise ValueError(f"--minutes {options.minutes} is not a positive number")
        choose("device", options.device, SETTINGS)
        parts = _chosen_parts(options.parts)
        get_device(options.device)  # Without a GPU this raises, before the folder is made.
        folder = _new_folder(Path(options.out))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{COMMAND}: error: {error}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    run = Run(options.device, parts, folder, options.minutes, say=_say)
    try:
        run.run()
    except KeyboardInterrupt:
        print(f"\n{COMMAND}: interrupted; {folder / MARKDOWN} has what was done", file=sys.stderr)
        return 130
    except OSError as error:  # The folder cannot be written any more.
        print(f"{COMMAND}: error: {error}", file=sys.stderr)
        return 2
    print(f"\n{(folder / MARKDOWN).read_text()}\n{folder / MARKDOWN} has this text.")
    return 1 if run.has_problems() else 0


def _chosen_parts(text: str | None) -> list[Part]:
    """Return the parts of a comma-separated list of names, in the order of the table."""
    names = list(PARTS) if text is None else [name.strip() for name in text.split(",")]
    chosen = {choose("part", name, PARTS).name for name in names}
    return [part for name, part in PARTS.items() if name in chosen]


def _new_folder(folder: Path) -> Path:
    """Create the folder, or accept an empty one; return its absolute path."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder; give another --out")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


def _say(text: str) -> None:
    print(text, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM, as from `timeout`, end the run like Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
