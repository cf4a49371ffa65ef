"""Stop a training between two steps on SIGINT, SIGTERM or SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# SIGHUP, a closed terminal, does not exist on Windows.
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def stop_requests() -> Iterator[list[str]]:
    """Collect the names of SIGINT, SIGTERM and SIGHUP in a list instead of ending the process.

    The caller checks the list between two steps, so that every step is completed. A second signal
    of the same kind, such as a second Ctrl-C, has its usual effect at once. Signals that are
    ignored, as under `nohup`, stay ignored. In a thread other than the main one the list stays
    empty, as Python allows signal handlers in the main thread only.
    """
    requests: list[str] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        requests.append(signal.Signals(number).name)
        signal.signal(number, previous[number])

    try:
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, note)
    except ValueError:  # not the main thread
        yield requests
        return
    try:
        yield requests
    finally:
        for replaced, handler in previous.items():
            signal.signal(replaced, handler)
