"""Keep what samples need, the generator and its average, at a few steps of a training.

A snapshot is taken at every 2^k-th step with pictures, with the smallest k that gives at most
`keep` snapshots. So their number and spacing depend on the step alone, not on where it will end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import checkpoint
from .run_folder import SNAPSHOTS, sample_pictures
from .state import MAY_DIFFER

PARTS = ("generator", "average")  # of the players, by which samples are drawn
TENSORS = ("points",)


def interval(step: int, every: int, keep: int) -> int:
    """Return the number of steps between snapshots at a step; `every` is that between pictures."""
    result = every
    while step > keep * result:
        result *= 2
    return result


def is_due(step: int, every: int, keep: int) -> bool:
    """Return whether a snapshot is taken at a step."""
    return keep > 0 and step > 0 and step % interval(step, every, keep) == 0


def snapshot_path(folder: Path, step: int) -> Path:
    """Return the path of the snapshot of a step."""
    return folder / SNAPSHOTS / f"step_{step:06d}.safetensors"


def snapshot_steps(folder: Path) -> list[int]:
    """Return the steps of a run's snapshots, in ascending order."""
    names = [path.name for path in (folder / SNAPSHOTS).glob("step_*.safetensors")]
    matches = [re.fullmatch(r"step_(\d{6,15})\.safetensors", name, re.ASCII) for name in names]
    return sorted(int(match[1]) for match in matches if match)


def snapshot_of(
    tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the part of a trainer's state that samples need, tensors and info.

    Options that may change when a run goes on, such as `steps`, are left out: a snapshot is the
    same file however its run came to it.
    """
    kept = {k: x for k, x in tensors.items() if k.split(".")[0] in PARTS or k in TENSORS}
    config = {name: x for name, x in info["config"].items() if name not in MAY_DIFFER}
    return kept, {"config": config, "step": info["step"], "data": info["data"]}


def save_snapshot(folder: Path, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> None:
    """Write the snapshot of a trainer's state."""
    path = snapshot_path(folder, info["step"])
    path.parent.mkdir(exist_ok=True)
    checkpoint.save(path, *snapshot_of(tensors, info))


def remove_later(folder: Path, step: int) -> None:
    """Remove the snapshots and pictures of steps after this one; the training makes them again."""
    snapshots = {other: snapshot_path(folder, other) for other in snapshot_steps(folder)}
    for files in (snapshots, sample_pictures(folder)):
        for other, path in files.items():
            if other > step:
                path.unlink(missing_ok=True)


def thin_out(folder: Path, step: int, every: int, keep: int) -> None:
    """Remove snapshots, where there are more than `keep`, so that evenly spaced ones stay.

    Where none has that spacing, as after `keep` or `every` was changed, the last ones stay.
    """
    steps = snapshot_steps(folder)
    if 0 < keep < len(steps):
        spaced = [other for other in steps if other % interval(step, every, keep) == 0]
        for other in set(steps) - set(spaced or steps[-keep:]):
            snapshot_path(folder, other).unlink(missing_ok=True)
