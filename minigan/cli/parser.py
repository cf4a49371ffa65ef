"""Parse command lines; errors are one line, and misspelt names get a suggestion."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ..utils.names import choose


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, with a suggestion for a misspelt option.

    `option_names` are its options as they are written, "--steps"; `commands` its subcommands by
    name.
    """

    def __init__(self, **settings: Any) -> None:
        self.option_names: list[str] = []
        self.commands: dict[str, Parser] = {}
        # An abbreviation would change its meaning with the next option that is added.
        super().__init__(allow_abbrev=False, **settings)

    def add_argument(self, *names: str, group: Any = None, **settings: Any) -> argparse.Action:
        """Add an argument, to an argument group of this parser if one is given."""
        if group is None:
            action = super().add_argument(*names, **settings)
        else:
            action = group.add_argument(*names, **settings)
        self.option_names += action.option_strings
        return action

    def parse_command(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the options of a command line; exit with status 2 where there is an error."""
        if words and not words[0].startswith("-") and words[0] not in self.commands:
            self._reject("command", words[0], self.commands)
        options, unknown = self.parse_known_args(words)
        if unknown:
            parser = self.commands.get(options.command, self)
            parser._reject("option", unknown[0].split("=")[0], parser.option_names)
        return options

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def _reject(self, kind: str, word: str, accepted: Iterable[str]) -> None:
        """Exit with status 2 and a line with the nearest accepted name."""
        try:
            choose(kind, word, dict.fromkeys(name for name in accepted if name != "-h"))
        except ValueError as error:
            self.error(str(error))
