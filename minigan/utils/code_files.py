"""Read code of the user's own that an option names as FILE.py:NAME, and describe its errors."""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ..kernels.runtime.files import read_bounded

MAX_SOURCE_BYTES = 1 << 20
FROM_PYTHON = "python:"  # how the name of data that a program handed over begins
_PATTERN = re.compile(r"(.+\.py):([A-Za-z_]\w*)", re.DOTALL)
_PACKAGE = str(Path(__file__).parents[1])


class CodeError(ValueError):
    """A file of the user's own code cannot be used; the message names the file and its line."""


def is_code(text: Any) -> bool:
    """Return whether a value names code, as FILE.py:NAME."""
    return isinstance(text, str) and _PATTERN.fullmatch(text) is not None


def split_code(text: str) -> tuple[Path, str]:
    """Return the absolute path and the name of FILE.py:NAME."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not the name of code, such as net.py:Mine")
    return Path(match[1]).expanduser().absolute(), match[2]


def read_source(path: Path) -> bytes:
    """Return the content of a file of code.

    Raises:
        CodeError: there is no such file, or it cannot be read.
    """
    try:
        return read_bounded(path, MAX_SOURCE_BYTES)
    except FileNotFoundError:
        raise CodeError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise CodeError(f"{path} cannot be read: {error}") from None


def run_source(path: Path, source: bytes, name: str) -> Any:
    """Run a file's source as a module, and return what it calls `name`.

    The same source of the same path is run once in a process. Its folder is not added to
    `sys.path`: the file stands alone, so that a copy of it does the same.

    Raises:
        CodeError: it raises an error, or has nothing of that name.
    """
    digest = hashlib.sha256(source).hexdigest()[:16]
    module_name = f"minigan_own_code.{path.stem}_{digest}"
    module = sys.modules.get(module_name)
    if module is None:
        module = ModuleType(module_name)
        module.__file__ = str(path)
        sys.modules[module_name] = module  # dataclasses look their module up
        try:
            exec(compile(source, str(path), "exec"), vars(module))
        except Exception as error:
            del sys.modules[module_name]
            raise CodeError(f"{path} cannot be run: {describe_error(error)}") from error
    if not hasattr(module, name):
        raise CodeError(f"{path} defines no {name}")
    return getattr(module, name)


def describe_error(error: Exception) -> str:
    """Return the type and message of an error, and the last line of the user's code behind it."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    others = (_PACKAGE, "<", *(sysconfig.get_path(name) for name in ("stdlib", "purelib")))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(others)]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else text


def short_name(text: str) -> str:
    """Return a short name of data or of a net, for a folder: Mine of net.py:Mine, a path's stem."""
    if is_code(text):
        return split_code(text)[1]
    return Path(text.removeprefix(FROM_PYTHON)).stem
