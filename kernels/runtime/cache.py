"""Prune the cache of compiled kernels, and report a cache that cannot be used.

No file in it is required: one that is missing, damaged or removed by another process is a
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
    """Set the modification times of files or folders to now, so that they are not pruned."""
    for path in paths:
        with contextlib.suppress(OSError):  # The cache may belong to another user.
            os.utime(path)


def prune(folder: Path, pattern: str) -> None:
    """Remove files and folders with a name of this pattern, unused for MAX_UNUSED_DAYS."""
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
    """Warn, once for each folder, that compiled kernels cannot be cached, and why."""
    if str(folder) not in _reported:
        _reported.add(str(folder))
        reason = getattr(error, "strerror", None) or error
        where = f" in {folder}" if folder else ""
        advice = "; the variable MINIGAN_CACHE can name another folder" if folder else ""
        warnings.warn(
            f"compiled kernels cannot be cached{where} ({reason}), so each process compiles them"
            f" again{advice}",
            RuntimeWarning,
            stacklevel=2,
        )
