"""Fetches the published files of a data set once: mirrors, checksums, and resuming."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT = 30.0  # seconds without an answer or a byte
CHUNK = 1 << 16


@dataclass(frozen=True)
class Source:
    """Where the files of a set are published, and the MD5 of each, by file name."""

    mirrors: tuple[str, ...]
    md5: dict[str, str]


# MD5 as published: MNIST by torchvision, Fashion-MNIST by its own README.
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
    """Puts `files` of the set `name` into `folder`, each from the first mirror that gives it whole.

    What arrives goes to FILE.part, which a later mirror or a later call continues, and gets its
    name when its MD5 is right. Raises FileNotFoundError that says how to do it by hand.
    """
    failures: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
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
    """Whether `path` is there now; why each mirror failed is added to `failures`."""
    if path.is_file():  # another process downloaded it while this one waited
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
    """Leaves at `part` the whole file; or raises and leaves what can be continued, or nothing."""
    continued = part.is_file() and part.stat().st_size > 0
    if continued and _md5(part) == md5:
        return
    _receive(url, part, progress)
    found = _md5(part)
    if found == md5:
        return
    part.unlink()
    if not continued:
        raise OSError(f"wrong checksum, MD5 {found}")
    _download(url, part, md5, progress)  # what was continued may have been wrong: once from zero


def _receive(url: str, part: Path, progress: bool) -> None:
    """Appends to `part` what is missing of `url`, or writes it anew where the server cannot."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "minigan", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _append(response, part, have if response.status == 206 else 0, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not have:  # 416: the range begins at or past the end
            raise
        part.unlink()
        _receive(url, part, progress)


def _append(response: Any, part: Path, have: int, progress: bool) -> None:
    from tqdm import tqdm

    length = response.headers.get("Content-Length", "")
    whole = have + int(length) if length.isdigit() else None
    with (
        part.open("ab" if have else "wb") as file,
        tqdm(
            total=whole,
            initial=have,
            desc=part.stem,
            unit="B",
            unit_scale=True,
            disable=not progress,
        ) as bar,
    ):
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    size = part.stat().st_size
    if whole is not None and size < whole:
        raise http.client.HTTPException(f"ended after {size} of {whole} bytes")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, so that two processes never write one `.part`."""
    try:
        import fcntl
    except ImportError:  # Windows, which does not let two write one file in the first place
        yield
        return
    with (folder / ".lock").open("ab") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
