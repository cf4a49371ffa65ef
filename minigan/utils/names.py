"""How a name that is not accepted is refused: with the nearest one that is."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any


def choose(what: str, name: Any, accepted: Any, also: str = "") -> Any:
    """accepted[name]; ValueError that names the nearest accepted names if there is none.

    `also` says what is accepted besides.
    """
    if isinstance(name, str) and name in accepted:
        return accepted[name]
    near = get_close_matches(str(name).lower(), accepted, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join([*accepted, also] if also else accepted)
    raise ValueError(f"unknown {what} {name!r}{hint} (accepted: {listed})")
