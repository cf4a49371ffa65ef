"""The numba side of the kernels: compile and cache, count threads, see arrays as flat memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    NullCache,
    _CacheLocator,
)

from ...paths import cache_root, with_digest, without_digest
from .recording import active, host_empty, keep_outside
from .strides import elements, merge

KERNELS_FOLDER = Path(__file__).resolve().parent.parent

# Called with the name of each kernel that is about to be compiled (not found in the cache).
compile_listener: Callable[[str], None] | None = None


# ------------------------------------------------------------------------------- compilation
@cache
def source_hash() -> str:
    """Names the state of all kernel sources: a change in any of them is a new cache folder.

    numba itself looks only at the file of the function that it compiles, and would go on running
    a stale kernel after a change in a helper of another file.
    """
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for path in sorted(KERNELS_FOLDER.rglob("*.py")):
        digest.update(str(path.relative_to(KERNELS_FOLDER)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def compiled_folder() -> Path | None:
    """Where compiled kernels are kept; None where no such folder can be written."""
    try:
        folder = cache_root() / "kernels" / source_hash()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        return None


class _Locator(_CacheLocator):
    """Tells numba's cache that its files lie in `compiled_folder()` and are never stale there."""

    def __init__(self, function: Any, file: str) -> None:
        self._line = function.__code__.co_firstlineno
        self._room = f"{Path(file).parent.name}.{Path(file).stem}"

    @classmethod
    def from_function(cls, function: Any, file: str) -> _Locator | None:
        return cls(function, file) if compiled_folder() else None

    def get_cache_path(self) -> str:
        return str(compiled_folder())

    def get_source_stamp(self) -> str:
        return source_hash()

    def get_disambiguator(self) -> str:
        return f"{self._room}-{self._line}"


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012  (numba's declaration)


class _CacheFile(IndexDataCacheFile):
    """numba's index and data files, each behind a digest: what is damaged is not there.

    numba would unpickle whatever a power cut or a bad disk left of a file, and run it. A data file
    also holds the key that it was saved under: two processes that save at one time may give two
    kernels the same file name.
    """

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        try:
            saved_key, data = super().load(key)
        except Exception:  # whatever is wrong with a file: the kernel can be compiled again
            return None
        return data if saved_key == key else None

    def _load_index(self) -> dict[Any, str]:
        try:
            stamp, overloads = self._read(self._index_path)
        except Exception:  # as above
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
    """numba's cache, silent when the disk is full, and telling who is about to be compiled.

    A cached kernel that cannot be read is compiled again, and replaced.
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
        try:
            found = super().load_overload(signature, target)
        except Exception:  # a file that is whole, but of no use to this numba
            found = None
        if found is None:
            _tell(self._py_func)
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        # On a failure the kernel runs all the same, and is compiled again in the next process.
        with contextlib.suppress(OSError):
            super().save_overload(signature, data)


class _NoCache(NullCache):
    """For where no folder can be written: every kernel is about to be compiled."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def load_overload(self, signature: Any, target: Any) -> None:
        _tell(self._function)


def _tell(function: Any) -> None:
    if compile_listener is not None:
        compile_listener(function.__name__)


def jit(function: Any = None, **options: Any) -> Any:
    """`numba.njit` with the GIL released, numpy's division, and a cache that follows the sources.

    Use: `@jit` or `@jit(parallel=True)`. Helpers that a kernel calls must be module globals (a
    function that closes over another compiled one is never found in the cache).
    """
    if function is None:
        return lambda function: jit(function, **options)
    dispatcher = numba.njit(**{"nogil": True, "error_model": "numpy", **options})(function)
    if options.get("inline") != "always":  # those are part of what they are inlined in
        dispatcher._cache = (_Cache if compiled_folder() else _NoCache)(function)
    return dispatcher


# ----------------------------------------------------------------------------------- the host
def vector_bytes() -> int:
    """Width of the vector registers that kernels are compiled for: 64, 32 or 16 bytes."""
    features = getattr(numba.config, "CPU_FEATURES", None)  # the user's choice of target
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    for name, width in (("+avx512f", 64), ("+avx2", 32)):
        if name in features.split(","):
            return width
    return 16


MOST = 32  # threads, and parts of a launch


def threads() -> int:
    """How many threads a launch may be shared by here and now. Its result never depends on it.

    It is numba's number (`NUMBA_NUM_THREADS`, `numba.set_num_threads`), at most MOST.
    """
    return min(int(numba.get_num_threads()), MOST)


# A launch of parts costs 15 to 60 us from Python, and 1 us in a replay.
REPLAYED = 32


def parts(work: int, least: int) -> int:
    """How many parts a launch is worth: one each for all threads where there is work enough.

    `least` is enough where Python launches, a REPLAYED-th of it in a captured step.
    """
    return threads() if work >= (least if active() is None else least // REPLAYED) else 1


# ------------------------------------------------------------------------------------- arrays
def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Where every kernel's result comes from: C-contiguous, its contents undefined."""
    recording = active()
    return np.empty(shape, dtype) if recording is None else host_empty(recording, shape, dtype)


def launch(kernel: Any, *arguments: Any, over: int | None = None, parts: int = 1) -> None:
    """kernel(*arguments), from host code: what a recording notes, and runs again.

    With `over`, kernel(*arguments, first, last) for positions 0..over, in so many parts, MOST at
    most, which threads share out: parts must not depend on each other. A launch that fails is done
    again by one thread, from Python, to say why: a kernel that can fail must not work in place.
    """
    parts = min(parts, MOST)
    if over is None:
        kernel(*arguments)
    elif parts == 1:
        kernel(*arguments, 0, over)
    else:
        from . import pool

        pool.launch(kernel, arguments, over, parts)
    recording = active()
    if recording is not None:
        from .replay import Launch

        recording.add(Launch(kernel, arguments, over, parts))
        keep(*(x for x in arguments if isinstance(x, np.ndarray)))


def keep(*arrays: np.ndarray) -> None:
    """Arrays that a launch reaches must live as long as the recording that notes it."""
    recording = active()
    if recording is not None:
        keep_outside(recording, *arrays)


def flat(x: np.ndarray) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """`(memory, offset, strides)`: element (i, j) of `x` is memory[offset + i*strides[0] + ...].

    A kernel that takes these compiles once per dtype, not once per dimension and layout.
    """
    if not (x.flags.c_contiguous and x.flags.writeable):  # numba compiles read-only ones anew
        base = x
        while isinstance(base.base, np.ndarray):
            base = base.base
        if base.dtype == x.dtype and base.flags.c_contiguous and base.flags.writeable:
            offset = _address(x) - _address(base)
            return base.reshape(-1), offset // x.itemsize, elements(x)
        x = np.array(x, order="C")  # never so for arrays made by a Device
    return x.reshape(-1), 0, elements(x)


class _Window:
    """Shows numba the first element of a read-only array as writable: one signature fewer."""

    def __init__(self, x: np.ndarray) -> None:
        self.__array_interface__ = {
            "data": (_address(x), False),
            "shape": (1,),
            "typestr": x.dtype.str,
            "version": 3,
        }
        self.memory = x


def first(x: np.ndarray) -> np.ndarray:
    """An array of x's first element, from whose address a kernel finds the others by strides."""
    if x.flags.writeable:
        return x[(0,) * (x.ndim - 1)][:1] if x.ndim > 1 else x[:1]
    return np.asarray(_Window(x))


def _address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


@cache
def layout(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """`merge` for numba: row 0 is a shape, row i the strides of operand i over it."""
    return np.array(merge(shape, strides), np.int64).T.copy()
