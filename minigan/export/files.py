"""Check the paths of the files of an export, and write them: all or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..kernels.runtime.files import atomic_write

PathLike = str | os.PathLike[str]
SHADOWED = ("torch", "safetensors", "pathlib")  # which the code beside weights imports


def check_target(path: PathLike, suffix: str, option: str = "path") -> Path:
    """Return the path of a file to write.

    Raises:
        ValueError: it does not end in `suffix`, exists already, or its folder does not exist.
    """
    target = Path(path)
    if target.suffix != suffix:
        raise ValueError(f"{option} {path}: a name that ends in {suffix} is needed")
    if os.path.lexists(target):
        raise ValueError(f"{option} {path}: exists already; another name is needed")
    if not target.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {target.parent}")
    return target


def check_torch_targets(path: PathLike, option: str = "path") -> tuple[Path, Path]:
    """Return the paths of weights for PyTorch and of the code; ValueError as `check_target`."""
    weights = check_target(path, ".safetensors", option)
    if weights.stem in SHADOWED:
        raise ValueError(
            f"{option} {path}: the code beside it, {weights.stem}.py, would take the place of the"
            f" package {weights.stem}; another name is needed"
        )
    code = weights.with_suffix(".py")
    if os.path.lexists(code):
        raise ValueError(f"{option} {path}: beside it, {code} exists already; give another name")
    return weights, code


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write new files; if one cannot be written, the others are removed again.

    Raises:
        ValueError: a file cannot be written.
    """
    written: list[Path] = []
    for path, data in files.items():
        try:
            _write(path, data)
        except BaseException as error:
            for other in written:
                other.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise ValueError(f"cannot write {path}: {error.strerror or error}") from None
            raise
        written.append(path)


def _write(path: Path, data: bytes) -> None:
    atomic_write(path, lambda file: file.write(data))
