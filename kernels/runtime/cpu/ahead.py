"""Compile kernels in parallel processes, before they are needed.

numba compiles each kernel at its first launch, so one after the other. `collect` runs a program
without its launches, and notes which kernels they are; `compile_ahead` compiles those that the disk
cache does not have, in as many processes as launches have threads. The program then loads them from
the cache; if it needs one that is not ready, it waits.

    with collect() as kernels:
        step()
    compile_ahead(kernels)

In the `with` block all results are zeros: do not keep them.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from queue import SimpleQueue
from typing import Any

from ..files import search_path
from .compiler import compiled_elsewhere, compiled_folder, is_cached

# A kernel and the types of its arguments, in the order of the launches.
Kernels = dict[tuple[Any, tuple[Any, ...]], None]


class _State(threading.local):
    collected: Kernels | None = None


_state = _State()


@contextmanager
def collect() -> Iterator[Kernels]:
    """Note the kernels of all launches of this Python thread in a `with` block: they do not run."""
    before, _state.collected = _state.collected, {}
    try:
        yield _state.collected
    finally:
        _state.collected = before


def is_collecting() -> bool:
    """Return whether this Python thread's launches are noted, and do not run."""
    return _state.collected is not None


def note(kernel: Any, arguments: Sequence[Any]) -> None:
    """Note a kernel that would be called with these arguments."""
    assert _state.collected is not None
    _state.collected[kernel, tuple(kernel.typeof_pyval(x) for x in arguments)] = None


class _Compilers:
    """Processes that compile kernels; a thread for each process sends it one at a time.

    They end when there are no more kernels, or with this process, whose end closes their input.
    """

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[tuple[Any, Any, threading.Event] | None] = SimpleQueue()
        self._advance: Callable[[], None] = lambda: None
        command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
        environment = {**os.environ, "PYTHONPATH": search_path()}
        self._processes = [
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(count)
        ]
        atexit.register(self._kill)
        for process in self._processes:
            threading.Thread(target=self._hand_out, args=(process,), daemon=True).start()

    def compile(self, kernels: Kernels, report: Callable[[int, int], Any] | None) -> None:
        """Hand the kernels out, and then end; see `compile_ahead`."""
        done, lock = 0, threading.Lock()

        def advance() -> None:
            nonlocal done
            with lock:
                done += 1
                if report is not None:
                    report(done, len(kernels))

        self._advance = advance
        for kernel, types in kernels:
            event = threading.Event()
            compiled_elsewhere[kernel.py_func, types] = event.wait
            self._jobs.put((kernel.reference, types, event))
        for _ in self._processes:
            self._jobs.put(None)

    def _hand_out(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        while (job := self._jobs.get()) is not None:
            reference, types, event = job
            # If the process was killed, this one compiles the kernel when it is needed.
            with contextlib.suppress(OSError):
                process.stdin.write(pickle.dumps((reference, types)))
                process.stdin.flush()
                process.stdout.readline()
            event.set()
            self._advance()
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()


_compilers: _Compilers | None = None  # started, and without kernels yet


def start_compilers() -> None:
    """Start the processes if the cache is empty.

    It takes a second until they can compile, in which a program may read its data.
    """
    folder = compiled_folder()
    if folder is not None and not any(folder.iterdir()):
        _start()


def _start() -> _Compilers | None:
    """Return the processes: as many as launches have threads; None for one thread."""
    global _compilers  # noqa: PLW0603
    from .thread_pool import threads

    if _compilers is None and threads() > 1:
        _compilers = _Compilers(threads())
    return _compilers


def compile_ahead(kernels: Kernels, report: Callable[[int, int], Any] | None = None) -> None:
    """Begin to compile the kernels that are not in the disk cache, in parallel processes.

    It does not wait for them. Nothing is compiled where launches have one thread, or the cache has
    no folder; and kernels that only this process knows are left out.

    Args:
        report: called with the number of kernels that are compiled, and that of all of them, by
            another thread.
    """
    global _compilers  # noqa: PLW0603
    missing = {
        (kernel, types): None
        for kernel, types in kernels
        if kernel.reference is not None and not is_cached(kernel, types)
    }
    compilers = _start() if missing and compiled_folder() is not None else None
    if compilers is not None:
        compilers.compile(missing, report)
        _compilers = None


def finish_compiling() -> None:
    """Wait until the other processes have compiled all kernels."""
    for wait in [*compiled_elsewhere.values()]:
        wait()


def _serve() -> None:
    """Compile the kernels whose references and types come from stdin, and answer with lines."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # On Ctrl-C the parent decides.
    gc.disable()  # Compiling is a seventh faster without it, and the process lives for seconds.
    with contextlib.suppress(EOFError):
        while True:
            (module, name, arguments), types = pickle.load(sys.stdin.buffer)
            with contextlib.suppress(Exception):  # The other process will raise the error.
                kernel = getattr(import_module(module), name)
                (kernel(*arguments) if arguments else kernel).compile(types)
            os.write(sys.stdout.fileno(), b"done\n")
