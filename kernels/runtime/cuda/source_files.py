"""Source text of CUDA kernels as files, which is what a launcher compiles."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory


@cache
def text_file(name: str, text: str) -> Path:
    """Return a file NAME.cu of this process with the text.

    Its folder is named by a hash of the text, so that the compiled kernel has the same name in the
    cache of each process, and another text is another file.
    """
    folder = Path(_temporary().name, hashlib.sha256(text.encode()).hexdigest()[:8])
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.cu"
    path.write_text(text)
    return path


@cache
def _temporary() -> TemporaryDirectory[str]:
    """Return a temporary folder, which is removed at exit."""
    return TemporaryDirectory(prefix="minigan-")
