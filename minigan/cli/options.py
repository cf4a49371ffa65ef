"""Make the options of `minigan train` from the fields of Config."""

from __future__ import annotations

import argparse
from typing import Any

from ..training.config import SHORTHANDS, Config, Shorthand
from ..training.options import Option, by_group, options
from ..translation.config import GROUP, TranslationConfig
from .parser import Parser

METAVARS = {int: "INT", float: "FLOAT", str: "NAME"}


def add_train_options(parser: Parser) -> None:
    """Add an option for each field, under the title of its group.

    An option that is not given leaves no attribute: a preset or a resumed run may set it.
    """
    shorthands = {shorthand.fields[0]: shorthand for shorthand in SHORTHANDS}
    groups = by_group(Config) | {GROUP: by_group(TranslationConfig)[GROUP]}
    for title, declared in groups.items():
        group = parser.add_argument_group(title)
        for item in declared:
            if item.name in shorthands:
                _add_option(parser, group, item, shorthands[item.name])
            _add_option(parser, group, item)


def _add_option(
    parser: Parser, group: Any, item: Option, shorthand: Shorthand | None = None
) -> None:
    name, text = (
        (item.name, item.describe()) if shorthand is None else (shorthand.name, shorthand.help)
    )
    settings: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
    if item.type is not bool:
        settings = {"type": item.type, "metavar": item.metavar or METAVARS[item.type]}
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        group=group,
        help=f"{text} [{item.describe_default()}]",
        default=argparse.SUPPRESS,
        **settings,
    )


def add_code_options(parser: Parser) -> None:
    """Add the options that name the code of a run, which is not run unless the user names it."""
    for name in ("model", "loss"):
        parser.add_argument(
            f"--{name}",
            metavar="FILE.py:NAME",
            help=f"the code of the run's own {name}, if it must be named [the copy in the run]",
        )


def add_step_option(parser: Parser) -> None:
    """Add the option that names a step of a run."""
    parser.add_argument(
        "--step",
        type=_step,
        metavar="STEP",
        help="step of a snapshot of the run, or best: the one with the best quick measure"
        " [the last step]",
    )


def _step(text: str) -> int | str:
    if text == "best":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a number, or best, is accepted") from None


def named_code(namespace: argparse.Namespace) -> dict[str, str | None]:
    """Return the code of a run that a command line names, by option."""
    return {"model": namespace.model, "loss": namespace.loss}


def config_options(namespace: argparse.Namespace) -> dict[str, Any]:
    """Return the options of Config or TranslationConfig that a command line sets, by name.

    An option for one field wins over a shorthand for several.
    """
    values, known = vars(namespace), {*options(Config), *options(TranslationConfig)}
    result = {
        field: values[shorthand.name]
        for shorthand in SHORTHANDS
        for field in shorthand.fields
        if shorthand.name in values
    }
    return result | {name: value for name, value in values.items() if name in known}
