"""Lock a file, so that one process at a time works in a folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The error numbers of file systems without locks, such as some network file systems.
NOT_SUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


class LockedError(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def file_lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is created, for the length of the block.

        with file_lock(folder / ".lock"):
            ...  # no other process that locks this file is here

    The operating system frees the lock when the process ends, however it ends. The file stays.
    On a file system without locks the block runs without one.

    Args:
        path: the lock file, in a folder that exists.
        wait: whether to wait for a lock that another process holds.

    Raises:
        LockedError: another process holds the lock, and `wait` is False.
        OSError: the file cannot be created.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(f"another process holds the lock {path}") from None
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    try:
        yield
    finally:
        lock.release()
