"""Compile kernels with numba, and cache the machine code on disk.

numba's own cache checks only the source file of the function that it compiles: after a change in a
helper of another file it would run a stale kernel. So the kernels of a file have a cache folder
that is named by a hash of this file, of all that it imports, numba's version and numpy's; a file in
it is never stale, and a change elsewhere compiles nothing again.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from filelock import FileLock, Timeout
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    NullCache,
    _CacheLocator,
)
from numba.core.compiler_lock import global_compiler_lock

from ..cache import mark_used, prune, report_unusable
from ..files import cache_root, with_digest, without_digest
from ..locks import wait_at_fork
from .sources import function_hash, own_file, source_hash

wait_at_fork(global_compiler_lock)

OWN_HASH = "_minigan_hash"  # the attribute of a user's function that names its cache folder

# Functions that wait until another process has compiled a kernel for arguments of these types.
compiled_elsewhere: dict[tuple[Any, tuple[Any, ...]], Callable[[], Any]] = {}

# Called with the name of each kernel that is about to be compiled (not found in the cache).
compile_listener: Callable[[str], None] | None = None


# ------------------------------------------------------------------------------- compilation
@cache
def cache_folder() -> Path | None:
    """Return the folder of all compiled kernels; None, with a warning, if the user has no home."""
    try:
        return cache_root() / "kernels"
    except RuntimeError as error:
        report_unusable(None, error)
        return None


def compiled_folder() -> Path | None:
    """Return the folder of the cache, created if necessary; None if it cannot be written."""
    folder = cache_folder()
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    except OSError:
        pass
    return None


@cache
def _file_folder(file: Path | None) -> Path:
    """Return the cache folder of the kernels of a file, marked as used."""
    return _hash_folder(source_hash(file))


def _hash_folder(name: str) -> Path:
    """Return the cache folder of that name, marked as used."""
    folder = (cache_folder() or Path()) / name
    mark_used(folder)
    return folder


class _Locator(_CacheLocator):
    """Locate numba's cache files in the folder of the function's file, where none is ever stale."""

    def __init__(self, function: Any, file: str) -> None:
        own_hash = getattr(function, OWN_HASH, None)
        if own_hash is not None:  # The folder has this one kernel, wherever its text is.
            self._disambiguator, self._folder = "own", _hash_folder(own_hash)
            return
        module_name = f"{Path(file).parent.name}.{Path(file).stem}"
        self._disambiguator = f"{module_name}-{function.__code__.co_firstlineno}"
        self._folder = _file_folder(own_file(function))

    @classmethod
    def from_function(cls, function: Any, file: str) -> _Locator:
        return cls(function, file)

    def ensure_cache_path(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            prune(self._folder.parent, "[0-9a-f]{16}")

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return self._disambiguator


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012  (numba's declaration)


class _CacheFile(IndexDataCacheFile):
    """numba's index and data files, each with a checksum: a damaged file is a miss.

    numba itself would unpickle and run a file that a power cut or a bad disk has damaged. A data
    file also holds the key that it was saved under, because two processes that save at the same
    time may give two kernels the same file name.
    """

    def save(self, key: Any, data: Any) -> None:
        # Processes that save kernels of one function at a time must not overwrite each other's
        # index. Where a file system has no locks, such a kernel is compiled again.
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, NotImplementedError, Timeout):
                stack.enter_context(FileLock(f"{cache_folder()}.lock", timeout=10))
            super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        try:
            saved_key, data = super().load(key)
        except Exception:  # For any error in a file, the kernel can be compiled again.
            return None
        return data if saved_key == key else None

    def _load_index(self) -> dict[Any, str]:
        try:
            stamp, overloads = self._read(self._index_path)
        except Exception:  # As in `load`, the kernels can be compiled again.
            return {}
        return overloads if stamp == self._source_stamp else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        with self._open_for_write(self._index_path) as file:
            file.write(self._dump((self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        return self._read(self._data_path(name))

    def _read(self, path: str) -> Any:
        return pickle.loads(without_digest(Path(path).read_bytes()))

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(with_digest(content.getvalue()))


class _Cache(FunctionCache):
    """numba's cache; it survives a full disk, and reports kernels that are about to be compiled.

    A cached kernel that cannot be read is a miss: it is compiled again, and its file replaced.
    """

    _impl_class = _CacheImpl

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _CacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=self._impl.locator.get_source_stamp(),
        )

    def load_overload(self, signature: Any, target: Any) -> Any:
        wait = compiled_elsewhere.pop((self._py_func, signature), None)
        if wait is not None:
            wait()
        try:
            overload = super().load_overload(signature, target)
        except Exception:  # The file is complete, but this numba cannot use it.
            overload = None
        if overload is None:
            _report_compilation(self._py_func)
        return overload

    def save_overload(self, signature: Any, data: Any) -> None:
        # After a failure the kernel still runs; the next process compiles it again.
        try:
            super().save_overload(signature, data)
        except OSError as error:
            report_unusable(cache_folder(), error)


class _NoCache(NullCache):
    """A cache that stores nothing, if there is no folder: each process compiles all kernels."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def load_overload(self, signature: Any, target: Any) -> None:
        _report_compilation(self._function)


def _report_compilation(function: Any) -> None:
    """Call the listener, if there is one, before a kernel is compiled."""
    if compile_listener is not None:
        compile_listener(function.__name__)


def is_cached(kernel: Any, types: tuple[Any, ...]) -> bool:
    """Return whether a kernel is compiled for arguments of these types, here or on disk."""
    if types in kernel.overloads:
        return True
    if isinstance(kernel._cache, _NoCache):
        return False
    key = kernel._cache._index_key(types, kernel.targetctx.codegen())
    return key in kernel._cache._cache_file._load_index()


def jit(function: Any = None, **options: Any) -> Any:
    """Compile a function with `numba.njit`: without the GIL, with numpy's division, and cached.

    Use it as `@jit` or `@jit(parallel=True)`. By its attribute `reference` another process finds
    it: (module, name, arguments). With arguments, the name is that of a function that returns the
    kernel. It is None where only this process has the kernel. Helpers that a kernel calls must be
    module globals: numba never finds a function that closes over another compiled one in its cache.
    """
    if function is None:
        return lambda function: jit(function, **options)
    dispatcher = numba.njit(**{"nogil": True, "error_model": "numpy", **options})(function)
    dispatcher.reference = (function.__module__, function.__qualname__, ())
    if options.get("inline") != "always":  # an inlined function is compiled with its callers
        dispatcher._cache = (_Cache if cache_folder() else _NoCache)(function)
    return dispatcher


def jit_own(function: Any, **options: Any) -> Any:
    """Compile a function of a user's own program like `jit`, cached by a hash of itself.

    What it calls must exist already.
    """
    function = getattr(function, "py_func", function)
    setattr(function, OWN_HASH, function_hash(function, *map(str, sorted(options.items()))))
    kernel = jit(function, **options)
    kernel.reference = None
    return kernel


# ----------------------------------------------------------------------------- the processor
def vector_bytes() -> int:
    """Return the vector width that kernels are compiled for: 64, 32 or 16 bytes."""
    features = getattr(numba.config, "CPU_FEATURES", None)  # the user's NUMBA_CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    for name, width in (("+avx512f", 64), ("+avx2", 32)):
        if name in features.split(","):
            return width
    return 16


def compile_error(error: Exception) -> tuple[int, str] | None:
    """Return the line (0 if unknown) and the reason of a compiler's error; None for others."""
    from numba.core.errors import NumbaError

    if not isinstance(error, NumbaError):
        return None
    location = getattr(error, "loc", None)
    reason = next((x.strip() for x in str(error).splitlines()[1:] if x.strip()), str(error))
    return (location.line if location else 0), reason
