"""The cache of compiled kernels: what has not been used for long is removed.

Nothing in it is ever needed: a file that is missing, damaged or removed by another process is a
miss, and the kernel is compiled again. So pruning takes no lock.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import warnings
from pathlib import Path

MAX_UNUSED_DAYS = 30

_reported: set[str] = set()


def mark_used(*paths: Path) -> None:
    """Set the times of files or folders to now, so that no process prunes them."""
    for path in paths:
        with contextlib.suppress(OSError):  # Others may own the cache.
            os.utime(path)


def prune(folder: Path, pattern: str) -> None:
    """Remove what lies in a folder, has a name of this pattern, and was not used for long."""
    oldest = time.time() - MAX_UNUSED_DAYS * 24 * 3600
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # Another process may have removed it.
                if not re.fullmatch(pattern, entry.name) or entry.is_symlink():
                    continue
                if entry.stat().st_mtime >= oldest:
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def report_unusable(folder: Path | None, error: Exception) -> None:
    """Warn, once for each folder, that compiled kernels cannot be kept, and why."""
    if str(folder) not in _reported:
        _reported.add(str(folder))
        reason = getattr(error, "strerror", None) or error
        warnings.warn(
            f"compiled kernels cannot be kept in {folder or 'a cache'} ({reason}), so each process"
            " compiles them again; the variable MINIGAN_CACHE can name another folder",
            RuntimeWarning,
            stacklevel=2,
        )
