"""Read and write JSON as its standard defines it (RFC 8259), which Python's module does not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn


def dumps(value: Any, **options: Any) -> str:
    """Return the value as JSON; `options` are those of `json.dumps`.

    Raises:
        TypeError: JSON cannot hold a value.
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(value, allow_nan=False, **options)


def with_null(value: Any) -> Any:
    """Return the value with None in place of each number that is NaN or infinite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: with_null(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_null(x) for x in value]
    return value


def loads(content: bytes | str, accept_nan: bool = False) -> Any:
    """Return the value that JSON text holds.

    Args:
        content: the text, or its bytes in UTF-8.
        accept_nan: read NaN and Infinity, as Python's module writes them, as None.

    Raises:
        ValueError: the content is not JSON in UTF-8, has a name twice in an object, NaN, Infinity
            or a number too large for a float, or is nested too deeply.
    """
    text = content.decode() if isinstance(content, bytes) else content
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_none if accept_nan else _refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dict; ValueError if a name occurs twice, where `json` would keep the last."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"the name {name!r} occurs twice")
        result[name] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _none(name: str) -> None:
    return None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large for a float")
    return number
