"""Declare the options of a run: each once, at its field of `Config`.

The checks, the command line's parser and help, and the table in README.md are made from these
declarations:

    @dataclass(frozen=True)
    class Config:
        steps: int = option(12_000, "training steps", group="training", check=POSITIVE_INTEGER)

The field's annotation is the option's type (str, int, float or bool, or one of them or None).
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, cast

from ..utils.code_files import is_code
from ..utils.names import choose, list_names, shorten

T = TypeVar("T")
OWN_CODE = "your own FILE.py:NAME"
SEPARATOR_NAMES = {"+": "+", ",": "commas"}  # the names of the separators in `--help`


@dataclass(frozen=True)
class Check:
    """A range of numbers; `text` completes the sentence "steps = 0 is not ..."."""

    text: str
    accepts: Callable[[Any], bool]


POSITIVE_INTEGER = Check("a positive integer", lambda x: x >= 1)
NOT_NEGATIVE_INTEGER = Check("an integer of at least 0", lambda x: x >= 0)
SEED = Check("an integer in [0, 2^64)", lambda x: 0 <= x < 2**64)
POSITIVE = Check("a positive number", lambda x: 0 < x < math.inf)
NOT_NEGATIVE = Check("a finite number of at least 0", lambda x: 0 <= x < math.inf)
FRACTION = Check("in [0, 1)", lambda x: 0 <= x < 1)

MAX_INTEGER = 2**64 - 1


def at_most(limit: int) -> Check:
    """Return the check of a size with a limit, as its memory is taken before any other check."""
    return Check(f"a positive integer of at most {limit}", lambda x: 1 <= x <= limit)


Choices = Collection[str] | Callable[[], Collection[str]]
Default = str | Callable[[], str]


def option(
    default: Any,
    help: str,
    *,
    group: str,
    choices: Choices | None = None,
    separator: str = "",
    code: bool = False,
    check: Check | None = None,
    metavar: str = "",
    default_text: Default = "",
) -> Any:
    """Return a dataclass field that declares an option.

    Args:
        default: the default value.
        help: a description in one line. The choices and the default are added to it.
        group: the title under which `--help` and README.md list the option.
        choices: the names that are accepted, as a collection that may grow, or a function.
        separator: the text between several of these names; "" where only one is accepted.
        code: whether code of the user's own is accepted too, as FILE.py:NAME.
        check: the range of a number.
        metavar: the name of the value in `--help`, such as its unit; "": that of its type.
        default_text: a description of the default None, as text or as a function that returns it.
    """
    declaration = {
        "help": help,
        "group": group,
        "choices": choices,
        "separator": separator,
        "code": code,
        "check": check,
        "metavar": metavar,
        "default_text": default_text,
    }
    return field(default=default, metadata=declaration)


@dataclass(frozen=True)
class Option:
    """An option as its field declares it; see `option`."""

    name: str
    type: type
    optional: bool  # whether None is accepted
    default: Any
    help: str
    group: str
    choices: Choices | None
    separator: str
    code: bool
    check: Check | None
    metavar: str
    default_text: Default

    @property
    def accepted_names(self) -> Collection[str] | None:
        """The names that are accepted now; None for an option without a choice of names.

        Code that was loaded from a file is in a table too, but is no name.
        """
        names = self.choices() if callable(self.choices) else self.choices
        return None if names is None else [name for name in names if not is_code(name)]

    def describe_default(self) -> str:
        """Return the default as text: 0.0002, no, mlp for images."""
        if self.default_text:
            return self.default_text() if callable(self.default_text) else self.default_text
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        if self.default is None:
            return "none"
        return f"{self.default:g}" if self.type is float else str(self.default)

    def describe(self) -> str:
        """Return the help text with the choices."""
        text = self.help
        if self.accepted_names is not None:
            text += f": {list_names([*self.accepted_names, *([OWN_CODE] if self.code else [])])}"
        if self.separator:
            text += f", or several joined by {SEPARATOR_NAMES[self.separator]}"
        return text

    def describe_accepted(self) -> str:
        """Return the accepted values in Markdown: the names, or the range."""
        if self.accepted_names is not None:
            names = [f"`{name}`" for name in self.accepted_names]
            text = list_names([*names, OWN_CODE] if self.code else names)
            return f"{text}, joined by `{self.separator}`" if self.separator else text
        if self.check is not None:
            text = self.check.text
            return f"a number {text}" if text.startswith("in ") else text
        return {str: "a string", bool: "yes or no", float: "a number", int: "an integer"}[self.type]

    def check_value(self, value: Any) -> None:
        """Raise ValueError, with the option's name, for a value that is not accepted."""
        if value is None and self.optional:
            return
        if self.separator:
            for name in split_names(self.name, value, self.separator):
                alternative = f"several joined by {SEPARATOR_NAMES[self.separator]}"
                choose(self.label, name, _without_none(self.accepted_names or ()), alternative)
        elif self.accepted_names is not None:
            if not (self.code and is_code(value)):
                also = OWN_CODE if self.code else ""
                choose(self.label, value, dict.fromkeys(self.accepted_names), also)
        elif self.type is str:
            if not isinstance(value, str):
                raise ValueError(f"{self.name} = {value!r} is not a string")
        elif self.type is bool:
            if type(value) is not bool:
                raise ValueError(f"{self.name} = {value!r} is neither True nor False")
        else:
            self._check_number(value)

    def _check_number(self, value: Any) -> None:
        text = self.check.text if self.check else "an integer"
        if self.type is float:
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{self.name} = {value!r} is not a number")
            try:
                float(value)
            except OverflowError:
                raise ValueError(f"{self.name} = {str(value)[:40]} is too large") from None
        elif type(value) is not int:
            raise ValueError(f"{self.name} = {value!r} is not {text}")
        if self.check is not None and not self.check.accepts(value):
            raise ValueError(f"{self.name} = {str(value)[:40]} is not {text}")
        if self.type is int and abs(value) > MAX_INTEGER:
            raise ValueError(f"{self.name} = {str(value)[:40]} is not an integer of 64 bits")

    @property
    def label(self) -> str:
        """The name of the option in messages."""
        return self.name.replace("_", " ")


@cache
def options(cls: type) -> dict[str, Option]:
    """Return the options that the fields of a dataclass declare, by name, in their order."""
    hints = typing.get_type_hints(cls)
    result = {}
    for declared in dataclasses.fields(cls):
        hint, optional = hints[declared.name], False
        if isinstance(hint, types.UnionType):  # X | None
            hint, optional = typing.get_args(hint)[0], True
        result[declared.name] = Option(
            declared.name, hint, optional, declared.default, **declared.metadata
        )
    return result


def from_values(cls: type[T], values: dict[str, Any]) -> T:
    """Return the dataclass with these values of its options.

    Raises:
        TypeError, ValueError: there is another option, or a value is not accepted.
    """
    declared = options(cast(type, cls))
    unknown = [name for name in values if name not in declared]
    if unknown:
        raise ValueError(
            f"unknown option {shorten(list(map(repr, unknown)))}; it may be of another version of"
            " minigan"
        )
    return cls(**values)


def split_names(option_name: str, value: Any, separator: str) -> tuple[str, ...]:
    """Return the names that a value joins; none for "none".

    Raises:
        ValueError: the value is no string, or names something twice.
    """
    if not isinstance(value, str):
        raise ValueError(f"{option_name} = {value!r} is not a string")
    names = tuple(part.strip() for part in value.split(separator))
    if len(set(names)) < len(names):
        raise ValueError(f"{option_name} = {value!r} names one twice")
    return () if names == ("none",) else names


def _without_none(names: Collection[str]) -> dict[str, None]:
    return dict.fromkeys(name for name in names if name != "none")


def by_group(cls: type) -> dict[str, list[Option]]:
    """Return the options by the title of their group, in the order of the fields."""
    groups: dict[str, list[Option]] = {}
    for declared in options(cls).values():
        groups.setdefault(declared.group, []).append(declared)
    return groups


def most_common_first(values: dict[str, Any]) -> str:
    """Return values by name as "100; toy: 2; resnet: 128", the most common one without names."""
    numbers = list(values.values())
    usual = max(dict.fromkeys(numbers), key=numbers.count)
    others: dict[Any, list[str]] = {}
    for name, value in values.items():
        if value != usual:
            others.setdefault(value, []).append(name)
    return "; ".join([f"{usual:g}", *(f"{', '.join(n)}: {v:g}" for v, n in others.items())])


def markdown_table(cls: type, only: str | None = None) -> str:
    """Return Markdown that lists the options, by group: name, default, accepted values, help.

    `only` is the title of the one group to list; None: all.
    """
    parts = []
    for title, group in by_group(cls).items():
        if only not in (None, title):
            continue
        rows = ["| option | accepted | default | what it does |", "| --- | --- | --- | --- |"]
        rows += [
            f"| `{item.name}` | {item.describe_accepted()} | {item.describe_default()} |"
            f" {item.help} |"
            for item in group
        ]
        parts.append(f"**{title}**\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"
