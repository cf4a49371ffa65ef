"""Look up a name in a table, and list names in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

MOST_LISTED = 10  # Of more accepted names a message has the nearest three.


def choose(what: str, name: Any, accepted: Any, also: str = "", listed_by: str = "") -> Any:
    """Return accepted[name], or raise an error that suggests the nearest accepted names.

        choose("loss", "hinged", LOSSES)  # unknown loss 'hinged'; did you mean 'hinge'? ...

    Args:
        what: the kind of the name, for the message.
        name: the name to look up.
        accepted: a mapping whose keys are the accepted names.
        also: a description of other accepted values, for the message.
        listed_by: the command that lists all accepted names, if they are many.

    Raises:
        ValueError: the name is not accepted.
    """
    if isinstance(name, str) and name in accepted:
        return accepted[name]
    matches = get_close_matches(str(name).lower(), accepted, n=1)
    hint = f"; did you mean {matches[0]!r}?" if matches else ""
    names, title = list(accepted), "accepted"
    if len(names) > MOST_LISTED:
        title = f"the nearest of {len(names)}" + (f", which {listed_by} lists" * bool(listed_by))
        names = get_close_matches(str(name).lower(), names, n=3, cutoff=0)
    text = ", ".join([*names, also] if also else names)
    raise ValueError(f"unknown {what} {name!r}{hint} ({title}: {text})")


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
