"""Save and load checkpoints: one safetensors file, the same bytes for the same state.

Its one metadata entry is JSON: `info`, and the SHA-256 of info and tensors, so that a corrupt file
is detected when it is loaded.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ..engine.dtypes import check_not_masked
from ..engine.tensor import Tensor
from ..kernels.runtime.files import atomic_write
from ..utils import strict_json

KEY = "minigan"  # There is one metadata key, as safetensors writes several in random order.


class CheckpointError(ValueError):
    """A checkpoint file is missing, broken, or not written by minigan."""


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray | Tensor],
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors by name, and `info`, to a checkpoint file.

        mg.save("generator.safetensors", generator.state_dict(), {"step": 1000})

    The file is written under a temporary name and renamed: on any failure (a full disk, a kill)
    the file that was there before is still there.

    Args:
        path: the file to write.
        tensors: tensors or numpy arrays by name.
        info: anything that JSON can hold, by name.

    Raises:
        TypeError: a value of `info` that JSON cannot hold, or a dtype or name that safetensors
            cannot.
        ValueError: a number of `info` is NaN or infinite; elements of an array are masked.
        OSError: the file cannot be written.
    """
    if isinstance(path, Mapping) or hasattr(path, "state_dict"):
        raise TypeError("save: the path is the first argument: write mg.save(path, tensors)")
    if not isinstance(tensors, Mapping):
        raise TypeError(
            f"save: {type(tensors).__name__} is not a dict of tensors, such as"
            " net.state_dict() returns: mg.save(path, net.state_dict())"
        )
    for name, x in tensors.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise TypeError(f"save: {name!r} is no name of a tensor in a safetensors file")
        check_not_masked(f"save: {name}", x)
    arrays = {
        name: np.asarray(x.numpy() if isinstance(x, Tensor) else x, order="C")
        for name, x in tensors.items()
    }
    # As `load` returns it: JSON makes lists of tuples.
    info = strict_json.loads(strict_json.dumps(dict(info or {})))
    text = strict_json.dumps({"info": info, "sha256": _digest(arrays, info)}, sort_keys=True)
    try:
        data = safetensors.numpy.save(arrays, metadata={KEY: text})
    except safetensors.SafetensorError as error:
        raise TypeError(f"{path} cannot be saved: {error}") from None
    atomic_write(path, lambda file: file.write(data))


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors of a checkpoint, as numpy arrays by name, and the info.

        tensors, info = mg.load("generator.safetensors")
        generator.load_state_dict(tensors)

    Raises:
        CheckpointError: no such file, or it is truncated, corrupt, or not written by `save`.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"load: {type(path).__name__} is not a path; net.load_state_dict(tensors) loads what"
            " tensors, info = mg.load(path) returns"
        )
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(f"there is no checkpoint {path}: it is not a regular file")
        path.open("rb").close()  # safetensors takes a file that may not be read for a missing one
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise CheckpointError(f"{path} holds tensors but was not written by minigan")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = strict_json.loads(metadata[KEY])
        info, digest = content["info"], content["sha256"]
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (
        *(safetensors.SafetensorError, OSError, MemoryError),
        *(AttributeError, KeyError, TypeError, ValueError),  # dtypes that numpy does not have
    ) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from None
    if not isinstance(info, dict):
        raise CheckpointError(f"{path} is not a readable checkpoint: its info is not an object")
    if _digest(tensors, info) != digest:
        raise CheckpointError(f"{path} is corrupt: its contents do not match their SHA-256")
    return tensors, info


def _digest(arrays: Mapping[str, np.ndarray], info: Any) -> str:
    """Return the SHA-256 of the info and of the tensors' names, dtypes, shapes and values."""
    digest = hashlib.sha256(strict_json.dumps(info, sort_keys=True).encode())
    for name, x in sorted(arrays.items()):
        digest.update(f"{name} {x.dtype.name} {x.shape}".encode())
        digest.update(x.astype(x.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
