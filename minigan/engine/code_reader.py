"""Follow the names in the code of a captured step to the Python values that it reads."""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
import types
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np

from .guards import CONSTANTS, UNCHANGING, Guard, Source, guard, is_container
from .tensor import Tensor

MAX_GUARDS = 2000  # of one capture
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class Reader:
    """The values that the code of a step reads, and guards of them.

    Names in the code of minigan and of installed libraries are not followed.

    Attributes:
        guards: a guard for each value, by its source.
        reads: the number of times that the code names a value, by its source.
        tensors: the tensors among the values, and in small containers of them.
        generators: the random generators of numpy and Python among the values, by name.
    """

    def __init__(self) -> None:
        self.guards: dict[Source, Guard] = {}
        self.reads: Counter[Source] = Counter()
        self.tensors: list[Tensor] = []
        self.generators: dict[str, Any] = {}
        self._visited: set[Any] = set()
        self._kept: list[Any] = []  # keeps alive the objects whose ids are in use

    def read_function(self, function: Any) -> None:
        """Follow the names in a function, method, partial or object with a method `__call__`."""
        owner = None
        while not isinstance(function, types.FunctionType):
            if isinstance(function, types.MethodType):
                owner, function = function.__self__, function.__func__
            elif isinstance(function, functools.partial):
                for x in (*function.args, *function.keywords.values()):
                    self._read_value("an argument of a partial", x, set())
                function = function.func
            elif hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            elif isinstance(vars(type(function)).get("__call__"), types.FunctionType):
                owner, function = function, type(function).__call__
            else:
                return
        self._read_code(function, owner)

    def _read_code(self, function: types.FunctionType, owner: Any) -> None:
        """Follow the names in a function, or in a method of `owner`, whose `self` is the owner."""
        code = function.__code__
        if not self._is_new(code, owner) or _is_library(function):
            return
        chains = list(_attribute_chains(code))
        closure = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self_name = code.co_varnames[0] if owner is not None and code.co_argcount else None
        local_attributes = {
            x for name, kind, xs in chains for x in xs if kind == LOCAL and name != self_name
        }
        for x in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            name = f"a default of {function.__name__}"
            self._read_chain(name, x, "", functools.partial(_constant, x), [], local_attributes)
        for name, kind, attributes in chains:
            if name == self_name and kind != GLOBAL:
                self._read_attributes(name, owner, attributes, local_attributes)
            elif kind == GLOBAL and name in function.__globals__:
                variables = function.__globals__
                read = functools.partial(variables.get, name)
                self._read_chain(name, variables, name, read, attributes, local_attributes)
            elif kind == CLOSURE and name in closure:
                read = functools.partial(_cell_value, closure[name])
                self._read_chain(name, closure[name], "", read, attributes, local_attributes)

    def _read_chain(
        self,
        name: str,
        owner: Any,
        key: str,
        read: Callable[[], Any],
        attributes: list[str],
        local_attributes: set[str],
    ) -> None:
        """Guard the value that `read` returns from its owner, and follow the attributes after it.

        `name` is the value's name in messages, `key` its name in the owner.
        """
        value = read()
        source = id(owner), key
        self.reads[source] += 1
        self._kept.append(owner)
        is_changed_only = bool(attributes) and attributes[0] in CHANGING_METHODS
        if source not in self.guards and len(self.guards) < MAX_GUARDS:
            self.guards[source] = Guard(name, read, value) if is_changed_only else guard(name, read)
        if isinstance(value, Tensor):
            self.tensors.append(value)
        elif isinstance(value, GENERATORS):
            self.generators[name] = value
        if attributes:
            self._read_attributes(name, value, attributes, local_attributes)
        else:
            self._read_value(name, value, local_attributes)

    def _read_attributes(
        self, name: str, owner: Any, attributes: list[str], local_attributes: set[str]
    ) -> None:
        """Follow a chain of attributes: values in dicts of objects, and methods of their types."""
        if not attributes:
            return
        attribute, *rest = attributes
        values = getattr(owner, "__dict__", {})
        if attribute in values:
            read = functools.partial(values.get, attribute)
            self._read_chain(f"{name}.{attribute}", owner, attribute, read, rest, local_attributes)
            return
        member = getattr(type(owner), attribute, None)
        member = member.fget if isinstance(member, property) else member
        if isinstance(member, types.FunctionType):
            self._read_code(member, owner)
        elif isinstance(member, CONSTANTS) and not _is_library(type(owner)):
            # A constant of the class, which an attribute of the object may hide later.
            for x, table in ((type(owner), vars(type(owner))), (owner, values)):
                read = functools.partial(table.get, attribute)
                self._read_chain(f"{name}.{attribute}", x, attribute, read, [], set())

    def _read_value(self, name: str, value: Any, local_attributes: set[str]) -> None:
        """Follow a value, and each element of a small container."""
        for x in elements(value):
            if isinstance(x, Tensor):
                self.tensors.append(x)
            elif isinstance(x, GENERATORS):
                self.generators[name] = x
            elif isinstance(x, FUNCTIONS):
                self.read_function(x)
            elif not isinstance(x, (*UNCHANGING, np.ndarray)):
                # The code may assign the object to a local variable and read attributes of that.
                for attribute in sorted(local_attributes):
                    if self._is_new(x, attribute):
                        self._read_attributes(name, x, [attribute], local_attributes)
                self.read_function(x)

    def _is_new(self, x: Any, key: Any) -> bool:
        """Return whether this is the first call with the object x and this key."""
        pair = id(x), key if isinstance(key, str) else id(key)
        if pair in self._visited:
            return False
        self._visited.add(pair)
        self._kept.append((x, key))
        return True


# A step that calls one of these changes a container, such as a log, but does not read it.
CHANGING_METHODS = {"add", "append", "appendleft", "clear", "extend", "insert", "remove", "update"}
GENERATORS = (np.random.Generator, np.random.RandomState, Random)
FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
GLOBAL, CLOSURE, LOCAL = "global", "closure", "local"


def _attribute_chains(code: types.CodeType) -> Iterator[tuple[str, str, list[str]]]:
    """Iterate over the reads of variables in a code object and in the functions defined in it.

    `state.net.alpha` is ("state", kind, ["net", "alpha"]); the kind is that of the variable.
    """
    chain: tuple[str, str, list[str]] | None = None
    for instruction in dis.get_instructions(code):
        name, argument = instruction.opname, instruction.argval
        if name == "COPY":  # `x.a += 1` copies x for the later store
            continue
        if name in ("LOAD_ATTR", "LOAD_METHOD") and chain is not None:
            chain[2].append(argument)
            continue
        if chain is not None:
            yield chain
            chain = None
        if name in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = argument, GLOBAL, []
        elif name == "LOAD_DEREF":
            chain = argument, CLOSURE, []
        elif "LOAD_FAST" in name:  # one instruction of Python 3.13 loads two variables
            chain = argument if isinstance(argument, str) else argument[-1], LOCAL, []
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _attribute_chains(constant)


def elements(value: Any) -> Iterator[Any]:
    """Iterate over a value, or over the elements of a small container."""
    if is_container(value):
        for x in value.values() if isinstance(value, dict) else value:
            yield from elements(x)
    else:
        yield value


def _is_library(x: types.FunctionType | type) -> bool:
    """Return whether a function or class belongs to minigan, a library or Python itself."""
    module = x.__module__ or ""
    if isinstance(x, types.FunctionType):
        path = x.__code__.co_filename
    else:
        path = getattr(sys.modules.get(module), "__file__", None) or ""
    package = module.partition(".")[0]
    return package in ("builtins", __name__.partition(".")[0]) or path.startswith(LIBRARIES)


def _constant(value: Any) -> Any:
    return value


def _cell_value(cell: types.CellType) -> Any:
    """Return the value of a closed-over variable; None before its first assignment."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
