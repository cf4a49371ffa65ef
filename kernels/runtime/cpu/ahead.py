"""Compile kernels in parallel processes, before they are needed.

numba compiles a kernel at its first launch, one after the other. `collect` runs a program without
its launches, and notes which kernels they are; `compile_ahead` compiles those that the disk cache
does not have, in as many processes as there are cores. Then the program finds them there, and where
it is faster than they, it waits.

    with collect() as kernels:
        step()
    compile_ahead(kernels)

In the `with` block results have zeros in them, so nothing that is kept may be computed there.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from .compiler import compiled_elsewhere, compiled_folder, is_cached

# A kernel and the types of its arguments, in the order of the launches.
Kernels = dict[tuple[Any, tuple[Any, ...]], None]

IDLE_SECONDS = 10  # after which processes without work end

_collected: Kernels | None = None


@contextmanager
def collect() -> Iterator[Kernels]:
    """Note the kernels of all launches in a `with` block, which do not run."""
    global _collected  # noqa: PLW0603
    before, _collected = _collected, {}
    try:
        yield _collected
    finally:
        _collected = before


def is_collecting() -> bool:
    """Return whether launches are noted, and do not run."""
    return _collected is not None


def note(kernel: Any, arguments: Sequence[Any]) -> None:
    """Note a kernel that would be called with these arguments."""
    assert _collected is not None
    _collected[kernel, tuple(kernel.typeof_pyval(x) for x in arguments)] = None


@cache
def _executor() -> Any:
    """Return the executor of the processes, or None where one process can do no better."""
    from joblib import effective_n_jobs
    from joblib.externals.loky import ProcessPoolExecutor

    workers = effective_n_jobs(-1)
    if workers == 1 or compiled_folder() is None:
        return None
    # Without the collection of garbage compiling takes a seventh less, and they live seconds.
    return ProcessPoolExecutor(workers, timeout=IDLE_SECONDS, initializer=gc.disable)


def start_compilers() -> None:
    """Start the processes if the cache is empty, without waiting for them.

    It takes a second until they can compile, in which a program may read its data.
    """
    folder = compiled_folder()
    executor = _executor() if folder is not None and not any(folder.iterdir()) else None
    if executor is not None:
        for _ in range(executor._max_workers):
            executor.submit(_compile, None, ())


def compile_ahead(kernels: Kernels, report: Callable[[int, int], Any] | None = None) -> None:
    """Begin to compile the kernels that are not in the disk cache, in parallel processes.

    It does not wait for them. Without a folder for the cache nothing is compiled, nor are kernels
    that only this process knows: they are compiled when they are needed.

    Args:
        report: called with the number of kernels that are compiled, and that of all of them; not
            by the thread of the caller.
    """
    jobs = [
        (kernel, types)
        for kernel, types in kernels
        if kernel.reference is not None and not is_cached(kernel, types)
    ]
    executor = _executor() if jobs else None
    if executor is None:
        return
    done = 0

    def finished(_: Any) -> None:
        nonlocal done
        done += 1
        if report is not None:
            report(done, len(jobs))

    for kernel, types in jobs:
        future = executor.submit(_compile, kernel.reference, types)
        compiled_elsewhere[kernel.py_func, types] = future.exception
        future.add_done_callback(finished)


def _compile(reference: tuple[str, str, tuple[Any, ...]] | None, types: tuple[Any, ...]) -> None:
    """Compile a kernel in a worker process, so that it is in the cache."""
    if reference is None:  # Only import numba and this package, which have been by now.
        return
    module, name, arguments = reference
    with contextlib.suppress(Exception):  # This process will compile it, and raise the error.
        kernel = getattr(import_module(module), name)
        (kernel(*arguments) if arguments else kernel).compile(types)
