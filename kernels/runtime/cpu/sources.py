"""Hash the source files that a compiled kernel depends on.

A kernel depends on its own file and on those that it imports, directly or not: functions that it
calls are compiled into it, and so are constants. Imports are read from the text, as a module
does not have its globals while it is being imported.

A kernel of a user's own program is hashed by itself (`function_hash`), as it may be in a notebook,
and the rest of its file changes more often.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np

KERNELS_FOLDER = Path(__file__).resolve().parents[2]
PACKAGE = __name__.removesuffix(".runtime.cpu.sources")
# Modules without compiled functions: no part of them is compiled into a kernel.
HOST_MODULES = {
    KERNELS_FOLDER / "runtime" / name
    for name in ("cache.py", "files.py", "recording.py", "host_memory.py", "cpu/ahead.py")
}

_IMPORT = re.compile(r"^\s*from +([\w.]+) +import +(\(.*?\)|[^(\n]+)", re.MULTILINE | re.DOTALL)


def own_file(function: object) -> Path | None:
    """Return the file of a function, or of the module that generated it; None if it has none."""
    code_file = Path(function.__code__.co_filename)  # type: ignore[attr-defined]
    if code_file.is_file():
        return code_file.resolve()
    module_file = getattr(sys.modules.get(function.__module__), "__file__", None)
    return Path(module_file).resolve() if module_file else None


def _imported(path: Path) -> Iterator[Path]:
    """Yield the files of the kernel modules that a file imports, by `from module import names`."""
    for module, names in _IMPORT.findall(path.read_text("utf-8")):
        dots = len(module) - len(module.lstrip("."))
        if not dots and not f"{module}.".startswith(f"{PACKAGE}."):
            continue
        folder = path.parents[dots - 1] if dots else KERNELS_FOLDER
        parts = module.lstrip(".") if dots else module.removeprefix(PACKAGE).lstrip(".")
        base = folder.joinpath(*filter(None, parts.split(".")))
        for name in re.findall(r"\w+", re.sub(r"\bas +\w+|#.*", "", names)):
            candidates = (base.with_suffix(".py"), base / f"{name}.py", base / "__init__.py")
            yield from (file for file in candidates[:2] if file.is_file())
            if not candidates[0].is_file() and candidates[2].is_file():
                yield candidates[2]


@cache
def sources(path: Path) -> tuple[Path, ...]:
    """Return a file and all kernel modules that it imports, directly or not, in order."""
    files, waiting = {path}, [path]
    while waiting:
        for file in _imported(waiting.pop()):
            if file not in files | HOST_MODULES:
                files.add(file)
                waiting.append(file)
    return tuple(sorted(files))


@cache
def source_hash(path: Path | None = None) -> str:
    """Return a hash of the sources of the kernels of a file, by default of all kernels."""
    files = sources(path) if path else sorted(KERNELS_FOLDER.rglob("*.py"))
    return files_hash(
        f"{numba.__version__} {np.__version__} {path and path.name}", files, KERNELS_FOLDER
    )


def files_hash(text: str, files: Iterable[Path], root: Path) -> str:
    """Return a hash of a text, and of the contents of files and their names below a folder."""
    digest = hashlib.sha256(text.encode())
    for file in files:
        name = file.relative_to(root) if file.is_relative_to(root) else ""
        digest.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def function_hash(function: Any, *options: object) -> str:
    """Return a hash of a function and of all that numba compiles into it, and of the options.

    These are its code and constants, and its closed-over and global variables: numbers, arrays,
    functions, and those of modules that it names as `module.function`.
    """
    digest = hashlib.sha256(f"{sys.version} {numba.__version__} {np.__version__}".encode())
    for text in _describe([function, *options], set()):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


def _describe(x: Any, known: set[int]) -> Iterator[str]:
    """Yield texts that differ where what numba compiles of x differs."""
    x = getattr(x, "py_func", x)  # the Python function of a compiled one
    if isinstance(x, FunctionType):
        file = own_file(x)
        if file is not None and file.is_relative_to(KERNELS_FOLDER):
            yield f"{x.__qualname__} {source_hash(file)}"
        elif id(x) not in known:
            known.add(id(x))
            cells = [cell.cell_contents for cell in x.__closure__ or () if not _is_empty(cell)]
            yield from _describe([x.__code__, x.__defaults__, *cells], known)
            yield from _describe_globals(x, known)
    elif isinstance(x, CodeType):
        yield f"{x.co_code.hex()} {x.co_names} {x.co_varnames}"
        yield from _describe(x.co_consts, known)
    elif isinstance(x, (list, tuple)):
        yield f"{type(x).__name__} of {len(x)}"
        for element in x:
            yield from _describe(element, known)
    elif isinstance(x, np.ndarray):
        yield f"{x.dtype} {x.shape} {hashlib.sha256(x.tobytes()).hexdigest()}"
    elif isinstance(x, (set, frozenset)):
        yield f"{sorted(map(repr, x))}"
    else:
        yield f"{type(x).__name__} {re.sub(' at 0x[0-9a-f]+', '', repr(x))}"


def _describe_globals(function: FunctionType, known: set[int]) -> Iterator[str]:
    """Yield texts for the globals that a function names, and for attributes of such modules."""
    names = sorted(_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        if value is None:
            continue
        yield name
        yield from _describe(value, known)
        if isinstance(value, ModuleType):
            attributes = (getattr(value, attribute, None) for attribute in names)
            yield from _describe([x for x in attributes if x is not None], known)


def _names(code: CodeType) -> set[str]:
    """Return the names of globals and attributes in a function and in those within it."""
    inner = (_names(x) for x in code.co_consts if isinstance(x, CodeType))
    return set(code.co_names).union(*inner)


def _is_empty(cell: Any) -> bool:
    """Return whether a closed-over variable has no value (yet)."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False
