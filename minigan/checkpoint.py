"""Checkpoints: one safetensors file, the same bytes for the same state, whole or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .paths import atomic_write
from .tensor import Tensor

KEY = "minigan"  # the one metadata key: several would be written in random order


class CheckpointError(ValueError):
    """A checkpoint file that is missing, broken, or not minigan's."""


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray | Tensor],
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors by name, and `info` (anything JSON holds), under a temporary name, renamed.

    On any failure (a full disk, a kill) the file that was there before is still there.
    """
    arrays = {
        name: np.ascontiguousarray(x.numpy() if isinstance(x, Tensor) else x)
        for name, x in tensors.items()
    }
    text = json.dumps(dict(info or {}), sort_keys=True)
    data = safetensors.numpy.save(arrays, metadata={KEY: text})
    atomic_write(path, lambda file: file.write(data))


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors, as numpy arrays by name, and the info.

    Raises:
        CheckpointError: no such file, or it is truncated, corrupt, or not written by `save`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        info = json.loads(metadata[KEY])
    except KeyError:
        raise CheckpointError(f"{path} holds tensors but was not written by minigan") from None
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {error}") from None
    return tensors, info
