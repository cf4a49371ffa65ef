"""Download the published files of a data set once.

Each file has several mirrors and a checksum, and a partial download is continued by the next
mirror or the next call. (The library pooch has neither mirrors nor continued downloads.)
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.locks import file_lock

TIMEOUT_SECONDS = 30.0  # the longest wait for an answer or for the next bytes
CHUNK_BYTES = 1 << 16
MAX_FILE_BYTES = 100_000_000  # four times the largest file


@dataclass(frozen=True)
class Source:
    """The mirrors of a data set, and the MD5 of each file, by file name."""

    mirrors: tuple[str, ...]
    md5: dict[str, str]


# The MD5 are those that torchvision (MNIST) and Fashion-MNIST's own README publish.
SOURCES = {
    "mnist": Source(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion-mnist": Source(
        (
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
}


def fetch(name: str, files: Sequence[str], folder: Path, progress: bool = False) -> None:
    """Download files of a data set into a folder, each from the first mirror that works.

    A file is downloaded to FILE.part, which the next mirror or the next call continues; it is
    renamed when its MD5 is right. One process at a time downloads into a folder; the others wait,
    and then use its files.

    Raises:
        FileNotFoundError: no mirror has a file; the message says how to get it by hand.
    """
    failures: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".lock", wait=True):
            for file in files:
                if not _fetch_one(SOURCES[name], folder / file, failures, progress):
                    break
            else:
                return
    except OSError as error:
        failures.append(f"cannot write there: {error}")
    missing = [file for file in files if not (folder / file).is_file()]
    by_hand = ", ".join(f"{file} (MD5 {SOURCES[name].md5[file]})" for file in missing)
    raise FileNotFoundError(
        f"{name}: download failed ({'; '.join(failures)}); try again, or put into {folder} by hand "
        f"{by_hand}, or set MINIGAN_DATA to a folder that has them"
    )


def _fetch_one(source: Source, path: Path, failures: list[str], progress: bool) -> bool:
    """Download a file and return whether it exists; append to `failures` why each mirror failed."""
    if path.is_file():  # Another process downloaded it while this one waited for the lock.
        return True
    part = path.with_name(path.name + ".part")
    for mirror in source.mirrors:
        url = mirror + path.name
        try:
            _download(url, part, source.md5[path.name], progress)
            part.replace(path)
            return True
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {str(error) or type(error).__name__}")
    return False


def _download(url: str, part: Path, md5: str, progress: bool) -> None:
    """Complete the file `part`; after an error it can be continued, or has been removed."""
    is_continued = part.is_file() and part.stat().st_size > 0
    if is_continued and file_md5(part) == md5:
        return
    _receive(url, part, progress)
    actual = file_md5(part)
    if actual == md5:
        return
    part.unlink()
    if not is_continued:
        raise OSError(f"wrong checksum, MD5 {actual}")
    _download(url, part, md5, progress)  # The earlier bytes may be wrong: start again.


def _receive(url: str, part: Path, progress: bool) -> None:
    """Append the missing bytes of `url` to `part`, or all of them if the server has no ranges."""
    size = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "minigan", "Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            _append(response, part, size if response.status == 206 else 0, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not size:  # 416: the range begins at or after the end
            raise
        part.unlink()
        _receive(url, part, progress)


def _append(response: Any, part: Path, size: int, progress: bool) -> None:
    """Write the response to `part` after its first `size` bytes."""
    from ..utils.progress import progress_bar

    length = response.headers.get("Content-Length", "")
    total = size + int(length) if length.isdigit() else None
    with (
        part.open("ab" if size else "wb") as file,
        progress_bar(
            total=total,
            initial=size,
            desc=part.stem,
            unit_scale=True,
            show=progress,
        ) as bar,
    ):
        while chunk := response.read(CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_FILE_BYTES:  # The server has no end; do not fill the disk.
                break
            file.write(chunk)
            bar.update(len(chunk))
    if size > MAX_FILE_BYTES:
        part.unlink()
        raise http.client.HTTPException(f"sent more than {MAX_FILE_BYTES:,} bytes")
    if total is not None and size < total:
        raise http.client.HTTPException(f"ended after {size} of {total} bytes")


def file_md5(path: Path) -> str:
    """Return the MD5 of a file, in hex."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()
