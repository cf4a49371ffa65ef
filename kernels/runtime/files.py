"""Where minigan keeps what it can make again, and how it writes a file that is whole or absent."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def cache_root() -> Path:
    """The folder for everything that can be made again: MINIGAN_CACHE, else the user's cache.

    Nothing is created. RuntimeError where neither variable is set and the user has no home.
    """
    given = os.environ.get("MINIGAN_CACHE")
    if given:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigan"
    except RuntimeError:
        raise RuntimeError(
            "there is no home to keep a cache in; MINIGAN_CACHE can name a folder for it"
        ) from None


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Puts at `path` what `write(file)` writes: all of it, or, on any failure, what was there.

    The bytes go to a temporary name in the same folder (which must exist), are forced to the disk
    and then renamed, so that no reader and no power cut ever sees half a file.
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
    """The content behind its SHA-256, as `without_digest` takes it."""
    return hashlib.sha256(content).digest() + content


def without_digest(content: bytes) -> bytes:
    """What `with_digest` was given; ValueError if a bit of it is not as it was written."""
    digest, content = content[:32], content[32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("the file is damaged: its content does not fit its digest")
    return content
