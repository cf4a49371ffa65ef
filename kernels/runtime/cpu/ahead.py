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
from importlib import import_module
from queue import SimpleQueue
from typing import Any

from ..files import search_path
from ..recording import collected
from .compiler import compiled_elsewhere, compiled_folder, is_cached

# A kernel and the types of its arguments, in the order of the launches.
Kernels = dict[tuple[Any, tuple[Any, ...]], None]


def is_collecting() -> bool:
    """Return whether this Python thread's launches are noted, and do not run."""
    return collected() is not None


def note(kernel: Any, arguments: Sequence[Any]) -> None:
    """Note a kernel that would be called with these arguments."""
    kernels = collected()
    assert kernels is not None
    kernels[kernel, tuple(kernel.typeof_pyval(x) for x in arguments)] = None


def compile_ahead(kernels: Kernels, report: Callable[[int, int], Any] | None = None) -> None:
    """Begin to compile the kernels that are not in the disk cache, in parallel processes.

    It does not wait for them. Nothing is compiled where launches have one thread, the cache has no
    folder, or the system no more processes; and kernels that only this process knows are left out.

    Args:
        report: called with the number of kernels that are compiled, and that of all of them, by
            another thread.
    """
    from .thread_pool import threads

    missing = [
        (kernel, types)
        for kernel, types in kernels
        if kernel.reference is not None and not is_cached(kernel, types)
    ]
    jobs: SimpleQueue[Any] = SimpleQueue()
    done, lock = 0, threading.Lock()

    def finish(event: threading.Event) -> None:
        nonlocal done
        event.set()
        with lock, contextlib.suppress(Exception):  # A bar that cannot be drawn stops nothing.
            done += 1
            if report is not None:
                report(done, len(missing))

    count = min(threads(), len(missing))
    if count < 2 or compiled_folder() is None:
        return
    processes = [process for process in _start(count) if _has_thread(process, jobs, finish)]
    if processes:
        for kernel, types in missing:
            event = threading.Event()
            compiled_elsewhere[kernel.py_func, types] = event.wait
            jobs.put((kernel.reference, types, event))
    for _ in processes:
        jobs.put(None)


def _start(count: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start processes that compile kernels; fewer where the system has no more.

    They end when there are no more kernels, or with this process, whose end closes their input.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        return  # A frozen program would start itself again.
    # -P: the folder where the program was started is no part of the import path by itself.
    command = [sys.executable, "-P", "-c", f"from {__name__} import _serve; _serve()"]
    environment = {**os.environ, "PYTHONPATH": search_path()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with contextlib.suppress(OSError):
        for _ in range(count):
            process = subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload]
            atexit.register(process.kill)
            yield process


def _has_thread(process: subprocess.Popen[bytes], *arguments: Any) -> bool:
    """Return whether a thread could be started that hands out jobs to a process."""
    try:
        threading.Thread(target=_hand_out, args=(process, *arguments), daemon=True).start()
    except RuntimeError:  # The system has no more threads.
        process.kill()
        return False
    return True


def _hand_out(
    process: subprocess.Popen[bytes],
    jobs: SimpleQueue[Any],
    finish: Callable[[threading.Event], None],
) -> None:
    """Send jobs to a process one at a time, until one is None."""
    assert process.stdin is not None
    assert process.stdout is not None
    while (job := jobs.get()) is not None:
        reference, types, event = job
        # Where that fails, as with a process that was killed, this process compiles the kernel.
        with contextlib.suppress(Exception):
            process.stdin.write(pickle.dumps((reference, types)))
            process.stdin.flush()
            process.stdout.readline()
        finish(event)
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.wait()


def finish_compiling() -> None:
    """Wait until the other processes have compiled all kernels."""
    for wait in [*compiled_elsewhere.values()]:
        wait()


if hasattr(os, "register_at_fork"):  # A forked child has none of the threads that would answer.
    os.register_at_fork(after_in_child=compiled_elsewhere.clear)


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
