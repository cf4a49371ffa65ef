"""Run CUDA kernels on the CPU: `.cu` files compiled by g++ against `emulator.h`.

    Emulator()                the fast build: one core, no checks; can train a small GAN
    Emulator(checked=True)    the checked build: finds accesses out of bounds, reads of unwritten
                              memory, races and barriers that not all threads reach, and counts
                              memory transactions

With `MINIGAN_EMULATOR=checked` the `cuda-emulator` device uses the checked build.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import array_address
from ..cache import mark_used, prune, report_unusable
from ..cuda.launcher import (
    KernelError,
    Launcher,
    Size,
    address_table,
    describe_replay,
    digest,
    file_version,
    options,
    source_text,
)
from ..locks import wait_at_fork
from ..recording import active, host_empty
from .compiler import (
    BUILDS,
    EMULATOR_HEADERS,
    FLAGS,
    compile_library,
    compiler_version,
    digest_path,
    emulator_folder,
    find_compiler,
    host,
    is_whole,
    temporary_folder,
)
from .library import Counts, Kernel, Launch, error_line, read_kernels, run_to_end
from .memory import Memory, Region
from .settings import read_block_order, read_hang_seconds, shuffled_blocks

HERE = Path(__file__)
MAX_SHARED_BYTES_PER_BLOCK = 227 * 1024  # of the largest GPUs, as in block.h


# The state of a launch is in global variables of the compiled library, which all emulators of a
# process share, so one launch runs at a time. A child has a copy of it: a fork waits for the end.
_LAUNCH_LOCK = threading.RLock()
wait_at_fork(_LAUNCH_LOCK)
_running: list[str] = []  # the kernel that is running; the lock does not stop its own thread


class Emulator(Launcher):
    """Run CUDA kernels on numpy arrays, on one core; the checked build adds up `counts`."""

    name = "emulator"

    def __init__(
        self,
        checked: bool = False,
        debug: bool = False,
        block_order: int | None = None,
        hang_seconds: float | None = None,
    ) -> None:
        """Choose the build, and how blocks run.

        Args:
            checked: find mistakes.
            debug: compile for gdb.
            block_order: a seed: blocks run in an order that it and the size of the grid determine.
                By default that of MINIGAN_EMULATOR_BLOCK_ORDER, or from block 0 on.
            hang_seconds: a launch ends with a KernelError when a thread has computed for so long
                without reaching a barrier or its end. By default MINIGAN_EMULATOR_HANG_SECONDS, or
                10; `inf` for no limit.

        Raises:
            ValueError: block_order is no integer >= 0, or hang_seconds no number > 0.
        """
        self.checked = checked
        self.block_order = read_block_order(block_order)
        self.hang_seconds = read_hang_seconds(hang_seconds)
        self.build = "checked" if checked else "debug" if debug else "fast"
        self.counts = Counts()  # the sums over all launches; take differences
        self._modules: dict[Any, tuple[Any, dict[str, Kernel]]] = {}  # by version, dtype
        self._memory = Memory(checked)

    # ------------------------------------------------------------------------------- memory
    def empty(self, shape: Size, dtype: Any) -> np.ndarray:
        recording = active()
        if recording is not None and not self.checked:
            return host_empty(recording, shape, dtype)
        array = self._memory.allocate(shape, np.dtype(dtype), written=0)
        if recording is not None:
            # Not in the recording's plan, where arrays share memory: the checks must know, at each
            # replay, which elements of this array have been written.
            recording.keep(array)
        return array

    def from_numpy(self, array: np.ndarray) -> np.ndarray:
        return self._memory.copy(array)

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return np.array(array, order="C")

    def address(self, array: np.ndarray) -> int:
        return array_address(array)

    def broadcast_to(self, array: np.ndarray, shape: Size) -> np.ndarray:
        return np.broadcast_to(array, shape)

    def describe(self) -> dict[str, str]:
        order = "" if self.block_order is None else f", block order {self.block_order}"
        return {"runs on": f"one core, {self.build} build{order}", "compiler": compiler_version()}

    def borrowed(self, arguments: list[Any]) -> AbstractContextManager[list[Any]]:
        return self._memory.borrowed(arguments)

    # ----------------------------------------------------------------------------- launches
    def _prepare(
        self,
        source: Path,
        kernel: str,
        dtype: np.dtype,
        grid: Size,
        block: Size,
        arguments: list[Any],
        shared_bytes: int,
    ) -> Callable[..., None]:
        with _LAUNCH_LOCK:
            library, kernels = self._module(source, dtype)
        entry = kernels.get(kernel)
        if entry is None:
            names = ", ".join(kernels)
            raise KernelError(f"{source.name} has no kernel {kernel!r}; it has {names}")
        if shared_bytes > MAX_SHARED_BYTES_PER_BLOCK:
            raise KernelError(
                f"{kernel} ({source.name}): {shared_bytes} bytes of shared memory; a block can have"
                f" at most {MAX_SHARED_BYTES_PER_BLOCK}"
            )
        values = self._values(source, kernel, entry, arguments, dtype)
        regions, views = self._memory.regions(arguments) if self.checked else ([], [])
        region_array = (Region * len(regions))(*regions)
        order, seed = None, ""
        if self.block_order is not None:
            order = shuffled_blocks(self.block_order, math.prod(grid))
            seed = f", block_order {self.block_order}"
        address = None if order is None else order.ctypes.data
        launch = Launch(grid, block, shared_bytes, len(regions), region_array, address)
        table = address_table(values)

        # `_views` and `_order` keep the memory alive to which `launch` points.
        def run(
            describe: Callable[[], str] = describe_replay, _views: Any = views, _order: Any = order
        ) -> None:
            with _LAUNCH_LOCK:
                if _running:
                    raise KernelError(
                        f"{kernel} ({source.name}): {_running[0]} is running, and this launch comes"
                        " from a signal handler or a finalizer in between; launch it afterwards"
                    )
                _running.append(f"{kernel} ({source.name})")
                try:
                    failed = run_to_end(library, entry, launch, table, self.hang_seconds)
                finally:
                    _running.clear()
                if self.checked:
                    counts = library.emulator_counts().contents
                    names = Counts.__dataclass_fields__
                    self.counts += Counts(*(getattr(counts, name) for name in names))
                text = library.emulator_output()
                if text is not None:
                    sys.stdout.write(text.decode(errors="replace"))
                if failed:
                    message = library.emulator_message().decode()
                    line = "" if self.build == "fast" else error_line(library)
                    raise KernelError(
                        f"{kernel} ({source.name}{line}): {message}"
                        f" [grid {grid}, block {block}{seed}; {describe()}]"
                    )

        return run

    def _values(
        self, source: Path, kernel: str, entry: Kernel, arguments: list[Any], dtype: np.dtype
    ) -> list[bytes]:
        """Return the bytes of the arguments; KernelError where they do not fit the parameters."""
        if len(arguments) != len(entry.sizes):
            raise KernelError(
                f"{kernel} ({source.name}) takes {len(entry.sizes)} arguments"
                f" ({', '.join(entry.names)}), not {len(arguments)}"
            )
        values = [self.argument_bytes(x, dtype) for x in arguments]
        for x, value, size, name in zip(arguments, values, entry.sizes, entry.names, strict=True):
            is_array, is_null = isinstance(x, np.ndarray), x is None and size < 0
            actual = -x.itemsize if is_array else size if is_null else len(value)
            if actual != size:
                words = [
                    f"an array with elements of {-n} bytes" if n < 0 else f"a {kind} of {n} bytes"
                    for n, kind in ((actual, type(x).__name__), (size, "value"))
                ]
                raise KernelError(
                    f"{kernel} ({source.name}): argument {name!r} is {words[0]}, and declared as"
                    f" {words[1]}"
                )
        return values

    # -------------------------------------------------------------------------- compilation
    def _module(self, source: Path, dtype: np.dtype) -> tuple[Any, dict[str, Kernel]]:
        key = (file_version(source), dtype)
        module = self._modules.get(key)
        if module is None:
            module = self._modules[key] = self._load(source, dtype)
        return module

    def variable(self, source: Path, dtype: np.dtype, name: str) -> np.ndarray:
        with _LAUNCH_LOCK:
            library, _ = self._module(source, dtype)
        size = ctypes.c_uint64()
        try:
            function = library[f"emulator_variable_{name}"]
        except AttributeError:
            raise KernelError(f"{source} has no variable {name!r}") from None
        function.restype = ctypes.c_void_p
        address = function(ctypes.byref(size))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size.value).from_address(address))

    def _load(self, source: Path, dtype: np.dtype) -> tuple[Any, dict[str, Kernel]]:
        flags = [*FLAGS, *BUILDS[self.build], *options(dtype)]
        texts = [path.read_text() for path in sorted(EMULATOR_HEADERS.glob("*.h"))]
        texts += [HERE.with_name(name).read_text() for name in ("compiler.py", "translate.py")]
        compiler = find_compiler()
        # A debugger finds the source by its folder, which the debug build contains.
        folders = [str(source.parent.resolve())] if self.build == "debug" else []
        name = digest(compiler_version(), host(), *flags, *texts, source_text(source), *folders)
        file = f"{source.parent.name}.{source.stem}-{dtype.name}-{name}.so"
        library = None
        for folder in (emulator_folder, temporary_folder):  # The second is for this process alone.
            try:
                path = folder() / file
                if is_whole(path):
                    mark_used(path, digest_path(path))
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self.report_compilation(f"{source.parent.name}/{source.name} ({dtype.name})")
                    compile_library(compiler, source, self.build, flags, path)
                    prune(path.parent, r".*\.(so|sha256|tmp)")
                library = ctypes.CDLL(str(path))
                break
            except (OSError, RuntimeError) as error:  # The cache has no folder or cannot be used.
                if isinstance(error, KernelError) or folder is temporary_folder:
                    raise
                report_unusable(path.parent if isinstance(error, OSError) else None, error)
        assert library is not None
        return library, read_kernels(library)
