"""Add things of the user's own to a table of the library, by a decorator."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, MutableMapping
from typing import Any, TypeVar

T = TypeVar("T")


class Registry:
    """The decorator `register` of a table: of models, of losses or of data sets.

        @mg.models.register("mine")
        def build(sample_shape, latent_size): ...

    A name of the library's own cannot be registered; one of the user's own can be again, as when
    the cell of a notebook is run twice.

    Args:
        kind: what the table holds, for messages.
        table: the entries by name.
        convert: a function of (name, thing) that returns the entry, or raises TypeError.
        built_in: the library's names; None: those that are in the table now.
    """

    def __init__(
        self,
        kind: str,
        table: MutableMapping[str, Any],
        convert: Callable[[str, Any], Any],
        built_in: Collection[str] | None = None,
    ) -> None:
        self.kind, self.table, self.convert = kind, table, convert
        self.built_in = frozenset(table if built_in is None else built_in)

    def __call__(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a function or class under `name`, and returns it.

        Raises:
            ValueError: the name is the library's, or not made of letters, digits, "-" and "_".
        """
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"register: {name!r} is not a name of letters, digits, - and _")
        if name in self.built_in or name == "none":
            raise ValueError(f"register: {self.kind} {name!r} is minigan's own; take another name")

        def decorate(thing: T) -> T:
            self.add(name, thing)
            return thing

        return decorate

    def add(self, name: str, thing: Any) -> None:
        """Enter a function or class in the table."""
        self.table[name] = self.convert(name, thing)
