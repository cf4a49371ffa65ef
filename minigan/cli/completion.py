"""Print the script by which a shell completes the words of the command `minigan`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from ..training.config import Config
from ..training.options import options

SHELLS = ("bash", "zsh", "tcsh")
FILES, FOLDERS = ("FILE", "PATH", "FILE.py:NAME"), ("DIR", "RUN")  # the names of such values


class PrintCompletion(argparse.Action):
    """The option `--print-completion SHELL`."""

    def __call__(self, parser: Any, namespace: Any, shell: Any, option_string: Any = None) -> None:
        import shtab

        for action in _actions(parser):
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.metavar in FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
            elif action.dest == "preset":
                from ..gan.presets import PRESETS

                action.choices = list(PRESETS)
            elif action.dest in options(Config) and action.choices is None:
                action.choices = options(Config)[action.dest].accepted_names
        print(shtab.complete(parser, shell))
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Iterate over all arguments of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
