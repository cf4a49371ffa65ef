"""The cache folder, atomic writing of files, and checksums."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def cache_root() -> Path:
    """Return the folder for files that can be made again: MINIGAN_CACHE, else the user's cache.

    Nothing is created.

    Raises:
        RuntimeError: neither MINIGAN_CACHE nor XDG_CACHE_HOME is set and the user has no home.
    """
    folder = os.environ.get("MINIGAN_CACHE")
    if folder:
        return Path(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigan"
    except RuntimeError:
        raise RuntimeError(
            "there is no home to keep a cache in; MINIGAN_CACHE can name a folder for it"
        ) from None


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Replace the file at `path` by what `write(file)` writes; on a failure it stays as it was.

    The bytes go to a temporary file in the same folder (which must exist), are flushed to disk
    with fsync, and the file is renamed. So other processes never read an incomplete file, and
    neither does a process after a power cut.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def with_digest(content: bytes) -> bytes:
    """Return the SHA-256 digest of the content, followed by the content."""
    return hashlib.sha256(content).digest() + content


def without_digest(content: bytes) -> bytes:
    """Return the content without the digest that `with_digest` added.

    Raises:
        ValueError: the digest is not that of the content.
    """
    digest, content = content[:32], content[32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("the file is damaged: its content does not fit its digest")
    return content
