"""Follow the names in the code of a captured step to the Python values that it reads."""

from __future__ import annotations

import functools
import io
import sys
import sysconfig
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from queue import Queue, SimpleQueue
from random import Random
from typing import Any

import numpy as np

from .attribute_chains import CLOSURE, GLOBAL, IMPORT, LOCAL, attribute_chains
from .guards import MAPPINGS, UNCHANGING, Guard, Source, guard, is_container
from .tensor import Tensor

LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class Reader:
    """The values that the code of a step reads, and guards of them.

    Names in the code of minigan and of installed libraries are not followed.

    Attributes:
        guards: a guard for each value, by its source.
        reads: the number of times that the code names a value, by its source.
        tensors: the tensors among the values, and in containers of at most MAX_ELEMENTS.
        generators: the random generators of numpy and Python among the values, by name.
        iterators: the names of the iterators and queues among the values.
    """

    def __init__(self) -> None:
        self.guards: dict[Source, Guard] = {}
        self.reads: Counter[Source] = Counter()
        self.tensors: list[Tensor] = []
        self.generators: dict[str, Any] = {}
        self.iterators: list[str] = []
        self._local_attributes: Counter[str] = Counter()  # of all code that was read
        self._visited: set[Any] = set()
        self._kept: list[Any] = []  # keeps alive the objects whose ids are in use

    def read_step(self, step: Any, arguments: Sequence[Any]) -> None:
        """Follow the names in a step, and those of its arguments that are no tensors."""
        self.read_function(step)
        for x in arguments:
            self._read_value("an argument", x, self._local_attributes)

    def read_function(self, function: Any) -> None:
        """Follow the names in a function, method, partial or object with a method `__call__`."""
        owner = None
        while not isinstance(function, types.FunctionType):
            if isinstance(function, types.MethodType):
                owner, function = function.__self__, function.__func__
            elif isinstance(function, functools.partial):
                arguments = [*function.args, *function.keywords.values()]
                for i, x in enumerate(arguments):
                    read = functools.partial(_constant, x)
                    name, names = "an argument of a partial", self._local_attributes
                    self._read_chain(name, function, str(i), read, [], names)
                function = function.func
            elif hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            elif isinstance(vars(type(function)).get("__call__"), types.FunctionType):
                owner, function = function, type(function).__call__
            else:
                return
        self._read_code(function, owner)

    def _read_code(self, function: types.FunctionType, owner: Any) -> None:
        code = function.__code__
        if not self._is_new(code, owner) or _is_library(function):
            return
        chains = list(attribute_chains(code))
        closure = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self_name = code.co_varnames[0] if owner is not None and code.co_argcount else None
        local_attributes = Counter(
            x for name, kind, xs in chains for x in xs if kind == LOCAL and name != self_name
        )
        self._local_attributes |= local_attributes
        for key in ("__defaults__", "__kwdefaults__"):
            if getattr(function, key):
                read = functools.partial(getattr, function, key)
                name = f"a default of {function.__name__}"
                self._read_chain(name, function, key, read, [], local_attributes)
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
            elif kind == IMPORT:
                self._read_import(name, function, attributes or sorted(local_attributes))
        if owner is not None and "super" in code.co_names:
            self._read_methods(owner, local_attributes.__contains__)

    def _read_import(self, name: str, function: Any, attributes: list[str]) -> None:
        """Follow attributes of a module that a function imports."""
        package = function.__globals__.get("__package__")
        module = sys.modules.get(name) or sys.modules.get(f"{package}.{name}")
        if module is not None and not _is_library(module):
            for attribute in attributes:
                self._read_attributes(name, module, [attribute], Counter())

    def _read_methods(self, owner: Any, is_called: Callable[[str], bool]) -> None:
        """Follow the methods with certain names of all classes of an object, or of a class."""
        for cls in (owner if isinstance(owner, type) else type(owner)).__mro__:
            if not _is_library(cls):
                for name, member in list(vars(cls).items()):
                    function = getattr(member, "__func__", member)  # of a classmethod
                    if is_called(name) and isinstance(function, types.FunctionType):
                        self._read_code(function, owner)

    def _read_chain(
        self,
        name: str,
        owner: Any,
        key: str,
        read: Callable[[], Any],
        attributes: list[str],
        local_attributes: Counter[str],
    ) -> None:
        """Guard the value that `read` returns from its owner, and follow the attributes after it.

        `name` is the value's name in messages, `key` its name in the owner.
        """
        value = read()
        source = id(owner), key
        self.reads[source] += 1
        self._kept.append(owner)
        is_changed_only = bool(attributes) and attributes[0] in CHANGING_METHODS
        if source not in self.guards:
            self.guards[source] = Guard(name, read, value) if is_changed_only else guard(name, read)
            if isinstance(value, ContextVar):
                self.guards[id(value), ""] = guard(name, functools.partial(value.get, None))
        if attributes:
            if not isinstance(value, Iterator) or attributes[0] in ("__next__", "send"):
                self._note(name, value)
            self._read_attributes(name, value, attributes, local_attributes)
        if not attributes or (is_container(value) and not is_changed_only):
            self._read_value(name, value, local_attributes)

    def _note(self, name: str, value: Any) -> bool:
        """Add a tensor, random generator, iterator or queue; return whether the value is one."""
        if isinstance(value, Tensor):
            self.tensors.append(value)
        elif isinstance(value, GENERATORS):
            self.generators[name] = value
        elif isinstance(value, (Iterator, Queue, SimpleQueue)) and not isinstance(value, io.IOBase):
            self.iterators.append(name)
        else:
            return False
        return True

    def _read_attributes(
        self, name: str, owner: Any, attributes: list[str], local_attributes: Counter[str]
    ) -> None:
        """Follow a chain of attributes, through the dicts of objects and members of their types."""
        if not attributes:
            return
        attribute, *rest = attributes
        values = getattr(owner, "__dict__", {})
        if attribute == "__dict__":
            read = functools.partial(getattr, owner, attribute, None)
            self._read_chain(f"{name}.{attribute}", owner, attribute, read, [], local_attributes)
            return
        if attribute in values and not isinstance(owner, type):
            read = functools.partial(values.get, attribute)
            self._read_chain(f"{name}.{attribute}", owner, attribute, read, rest, local_attributes)
            return
        cls = owner if isinstance(owner, type) else type(owner)
        definitions = [x for x in cls.__mro__ if attribute in vars(x)]
        if not definitions:
            self._read_methods(owner, "__getattr__".__eq__)
            return
        defining = definitions[0]
        member = vars(defining)[attribute]
        if _function(member) is not None:
            for x in definitions:  # The methods of base classes are called by `super()`.
                member = vars(x)[attribute]
                function = _function(member)
                if function is not None:
                    is_method = not isinstance(member, (classmethod, staticmethod))
                    self._read_code(function, owner if is_method else cls)
        elif isinstance(member, types.MemberDescriptorType):  # of `__slots__`
            read = functools.partial(getattr, owner, attribute, None)
            self._read_chain(f"{name}.{attribute}", owner, attribute, read, rest, local_attributes)
        elif not _is_library(defining):
            # A value of the class, which a subclass or the object may hide later.
            read = functools.partial(_class_value, cls, attribute)
            class_name = f"{cls.__name__}.{attribute}"
            self._read_chain(class_name, cls, attribute, read, rest, local_attributes)
            if owner is not cls:
                read = functools.partial(values.get, attribute)
                self._read_chain(f"{name}.{attribute}", owner, attribute, read, [], Counter())

    def _read_value(self, name: str, value: Any, local_attributes: Counter[str]) -> None:
        """Follow a value, and each element of a small container."""
        for x in elements(value):
            if self._note(name, x):
                continue
            if isinstance(x, FUNCTIONS):
                self.read_function(x)
            elif isinstance(x, type):
                if not _is_library(x):  # The code may create an object of the class.
                    self._read_local_attributes(name, x, local_attributes)
                    self._read_methods(x, _is_special)
            elif not isinstance(x, (*UNCHANGING, np.ndarray)):
                self._read_local_attributes(name, x, local_attributes)
                self.read_function(x)
                self._read_methods(x, lambda key: _is_special(key) and key != "__init__")

    def _read_local_attributes(self, name: str, x: Any, local_attributes: Counter[str]) -> None:
        """Follow the attributes of an object that the code may assign to a local variable."""
        for attribute, count in sorted(local_attributes.items()):
            if self._is_new(x, attribute):
                self._read_attributes(name, x, [attribute], local_attributes)
                if count > 1 and (id(x), attribute) in self.reads:
                    self.reads[id(x), attribute] += count - 1

    def _is_new(self, x: Any, key: Any) -> bool:
        """Return whether this is the first call with the object x and this key."""
        pair = id(x), key if isinstance(key, str) else id(key)
        if pair in self._visited:
            return False
        self._visited.add(pair)
        self._kept.append((x, key))
        return True


# A step that calls one of these has changed a container, such as a log, and not read it.
CHANGING_METHODS = {"add", "append", "appendleft", "clear", "extend", "insert", "remove", "update"}
GENERATORS = (np.random.Generator, np.random.RandomState, Random)
FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)


# Special methods that a step hardly calls. A dataclass has comparisons that read all its fields.
NOT_FOLLOWED = {"__repr__", "__str__", "__del__", "__setattr__", "__hash__"}
NOT_FOLLOWED |= {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}


def _is_special(name: str) -> bool:
    """Return whether a method may be called without its name: by an operator, `with` or `for`."""
    return name.startswith("__") and name not in NOT_FOLLOWED


def _function(member: Any) -> types.FunctionType | None:
    """Return the function of a method, class method, static method or property of a class."""
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, functools.cached_property):
        member = member.func
    elif isinstance(member, (classmethod, staticmethod)):
        member = member.__func__
    return member if isinstance(member, types.FunctionType) else None


def _class_value(cls: type, attribute: str) -> Any:
    """Return the value of an attribute of a class or of a class above it, None without it."""
    return next((vars(x)[attribute] for x in cls.__mro__ if attribute in vars(x)), None)


def elements(value: Any) -> Iterator[Any]:
    """Iterate over a value, or over the elements of a small container."""
    if is_container(value):
        for x in value.values() if isinstance(value, MAPPINGS) else value:
            yield from elements(x)
    else:
        yield value


def _is_library(x: types.FunctionType | type | types.ModuleType) -> bool:
    """Return whether a function, class or module is of minigan, a library or Python itself."""
    module = x.__name__ if isinstance(x, types.ModuleType) else x.__module__ or ""
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
