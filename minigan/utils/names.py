"""Look up a name in a table, and list names in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any


def choose(what: str, name: Any, accepted: Any, also: str = "") -> Any:
    """Return accepted[name], or raise an error that suggests the nearest accepted name.

        choose("loss", "hinged", LOSSES)  # unknown loss 'hinged'; did you mean 'hinge'? ...

    Args:
        what: the kind of the name, for the message.
        name: the name to look up.
        accepted: a mapping whose keys are the accepted names.
        also: a description of other accepted values, for the message.

    Raises:
        ValueError: the name is not accepted.
    """
    if isinstance(name, str) and name in accepted:
        return accepted[name]
    matches = get_close_matches(str(name).lower(), accepted, n=1)
    hint = f"; did you mean {matches[0]!r}?" if matches else ""
    names = ", ".join([*accepted, also] if also else accepted)
    raise ValueError(f"unknown {what} {name!r}{hint} (accepted: {names})")


def list_names(names: Iterable[str]) -> str:
    """Return "a", "a or b", "a, b or c", ..."""
    *rest, last = names
    return f"{', '.join(rest)} or {last}" if rest else last


def shorten(names: Sequence[str], most: int = 5) -> str:
    """Return the names joined by commas; of more than `most`, the first and the others' number."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def printable(text: str) -> str:
    """Return the text in one line, with escapes for control characters."""
    return "".join(x if x.isprintable() else ascii(x)[1:-1] for x in text)
