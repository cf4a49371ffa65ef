"""The cache folder, atomic writing, bounded reading, checksums; the path of child processes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# The errors of file systems that cannot open or sync a folder; their renames cannot be made safer.
CANNOT_SYNC = {
    *(errno.EACCES, errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP),
    *(errno.EOPNOTSUPP, errno.EPERM),
}


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

    A link is replaced too, not the file that it leads to. A device or a named pipe is refused.

    The bytes go to a temporary file in the same folder (which must exist), are flushed to disk
    with fsync, and the file is renamed; then the folder, which holds the name, is flushed too. So
    other processes never read an incomplete file, and neither does a process after a power cut.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FileExistsError(errno.EEXIST, "It is not a regular file", os.fspath(path))
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # such as a name that is too long
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # names the temporary, or none
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, where its file system can: after a rename or mkdir."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


FILE_KINDS = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device is refused without waiting for it.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError: it is not a regular file, or cannot be opened.
    """
    file = open(path, "rb", opener=_open_nonblocking)  # noqa: SIM115 (the caller closes it)
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        kind = next((name for fits, name in FILE_KINDS.items() if fits(mode)), "a device")
        raise ValueError(f"it is {kind}, not a regular file")
    return file


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_bounded(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; no more than that is read.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError: it is not a regular file, is too large, or cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes, the limit of such a file")
    return content


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


def search_path() -> str:
    """Return this process's import path as PYTHONPATH, for a child process."""
    return os.pathsep.join(x or os.getcwd() for x in sys.path)
