"""Locks that a forked child finds free, whichever thread of the parent held them.

A fork copies the memory of a process, but only the thread that calls it. A lock that another thread
holds at that moment would never be released in the child. So a ForkSafeLock is replaced in the
child; and where the state behind a lock would be left half-changed, as that of a compiler or of
Python's import system, `wait_at_fork` lets the fork wait until the lock is free.
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
    """Let each fork of this process wait until it holds a reentrant lock, and release it after."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
