"""Read from bytecode which variables a function uses, and which attributes of them."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator

GLOBAL, CLOSURE, LOCAL, IMPORT = "global", "closure", "local", "import"

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
        if name in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            if chain is None:
                yield "", LOCAL, [argument]
            else:
                chain[2].append(argument)
            continue
        if chain is not None:
            yield chain
            chain = None
        if name in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = argument, GLOBAL, []
        elif name == "LOAD_DEREF":
            chain = argument, CLOSURE, []
        elif "LOAD_FAST" in name:  # an instruction of newer Pythons loads two variables
            chain = argument if isinstance(argument, str) else argument[-1], LOCAL, []
        elif name == "IMPORT_NAME":
            module = argument
            yield module, IMPORT, []
        elif name == "IMPORT_FROM":
            yield module, IMPORT, [argument]
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
