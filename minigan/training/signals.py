"""Stop a training between two steps on SIGINT, SIGTERM or SIGHUP."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# SIGHUP, a closed terminal, does not exist on Windows.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
POLL_SECONDS = 0.2  # between two looks at a file that asks a worker to stop

_active: list[list[str]] = []  # the list of the block of `stop_requests` that runs, if there is one


@contextmanager
def stop_requests(on_request: Callable[[str], object] = lambda name: None) -> Iterator[list[str]]:
    """Collect the names of SIGINT, SIGTERM and SIGHUP in a list instead of ending the process.

    The caller checks the list between two steps, so that every step is completed. A second signal
    of the same kind, such as a second Ctrl-C, has its usual effect at once. Signals that are
    ignored, as under `nohup`, stay ignored. A block within another one has the list of the outer
    one. In a thread other than the main one the list stays empty, as Python allows signal handlers
    in the main thread only.

    Args:
        on_request: is called with the name of a signal, in its handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    if _active:
        yield _active[0]
        return
    requests: list[str] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        requests.append(signal.Signals(number).name)
        signal.signal(number, previous[number])
        on_request(requests[-1])

    try:
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, note)
        _active.append(requests)
        yield requests
    finally:
        _active.clear()
        for replaced, handler in previous.items():
            signal.signal(replaced, handler)


@contextmanager
def stopped_with(parent: int, file: Path, requests: list[str]) -> Iterator[None]:
    """Add a request when `file` appears, which holds its name, or the process `parent` has ended.

    A worker process of `parent` stops so with it, however it ends.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS) and not requests:
            if file.exists():
                requests.append(file.read_text())
            elif os.getppid() != parent:
                requests.append("the end of its parent process")

    if os.getpid() == parent:  # It gets the signals itself.
        yield
        return
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
