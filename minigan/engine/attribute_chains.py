"""Read from bytecode which variables a function uses, and which attributes of them."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator

GLOBAL, CLOSURE, LOCAL, IMPORT = "global", "closure", "local", "import"

VARIABLES = {
    "LOAD_GLOBAL": GLOBAL,
    "LOAD_NAME": GLOBAL,
    "LOAD_DEREF": CLOSURE,
    "LOAD_FAST": LOCAL,
}
# Functions that take the name of an attribute or global variable as a string.
BY_NAME = {"getattr": LOCAL, "vars": LOCAL, "attrgetter": LOCAL, "globals": GLOBAL}

Chain = tuple[str, str, list[str]]


def attribute_chains(code: types.CodeType) -> Iterator[Chain]:
    """Iterate over the reads of variables in a code and in the functions defined in it.

    `state.net.alpha` is ("state", kind, ["net", "alpha"]), where the kind is that of the variable.
    An attribute of another expression, as in `f().alpha`, is ("", LOCAL, ["alpha"]), and a string
    beside `getattr` is taken for one. A module that the code imports is (name, IMPORT, []).
    """
    chain: Chain | None = None
    module = ""
    for instruction in dis.get_instructions(code):
        name, argument = instruction.opname, instruction.argval
        if name == "COPY":  # `x.a += 1` copies x, for the store
            continue
        if name in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            if chain is None:
                yield "", LOCAL, [argument]
            else:
                chain[2].append(argument)
            continue
        if chain is not None:
            yield chain
            chain = None
        kind = "LOAD_FAST" if "LOAD_FAST" in name else name
        if kind in VARIABLES:  # an instruction of newer Pythons loads two variables
            chain = argument if isinstance(argument, str) else argument[-1], VARIABLES[kind], []
        elif name in ("IMPORT_NAME", "IMPORT_FROM"):
            module = argument if name == "IMPORT_NAME" else module
            yield module, IMPORT, [argument] if name == "IMPORT_FROM" else []
    yield from _strings(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from attribute_chains(constant)


def _strings(code: types.CodeType) -> Iterator[Chain]:
    """Iterate over the strings in a code that may be names of attributes or global variables."""
    names = {*code.co_names, *code.co_freevars}
    kinds = {kind for name, kind in BY_NAME.items() if name in names}
    if "__dict__" in names:
        kinds.add(LOCAL)
    for constant in code.co_consts:
        if isinstance(constant, str) and constant.isidentifier():
            if LOCAL in kinds:
                yield "", LOCAL, [constant]
            if GLOBAL in kinds:
                yield constant, GLOBAL, []
