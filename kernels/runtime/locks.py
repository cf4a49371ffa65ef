"""Keep locks usable in a forked child, whichever thread of the parent holds them.

A fork copies the memory of a process, but only the thread that calls it. A lock that another thread
holds at that moment would never be released in the child. So a ForkSafeLock is replaced in the
child. Where a fork could leave the state that a lock protects half-changed, such as that of a
compiler or of Python's import system, `wait_at_fork` makes the fork wait until the lock is free.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any


class ForkSafeLock:
    """A reentrant lock of threads, for a `with` block, which is free in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


def _replace_locks() -> None:
    for lock in _locks:
        lock._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_locks)


def wait_at_fork(lock: Any) -> None:
    """Acquire a reentrant lock before each fork of this process, and release it afterwards."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
