"""The process of PyTorch in `bench.memory`: a script that never loads minigan.

    python -P pytorch_memory.py JSON

`bench.memory.child` does the same in the same order: it says "imported" and "trained", each time
waits for a line, and then prints "live" and the peak of live arrays, in bytes.
"""

from __future__ import annotations

import gc
import json
import runpy
import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

eager_step = runpy.run_path(str(Path(__file__).with_name("pytorch.py")))["eager_step"]


def main() -> None:
    given = json.loads(sys.argv[1])
    print("imported", flush=True)
    input()
    torch.set_num_threads(given["threads"])
    game = given["game"]
    data = _normal(game["batches"][0], game["discriminator"][0])
    _train(given, data, given["steps"])
    print("trained", flush=True)
    input()
    gc.collect()  # what is freed from here on has been made from here on
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        _train(given, data, given["live_steps"])
    print("live", peak(profile) + data.nbytes)  # the batch is numpy's


def peak(profile: Any) -> int:
    """The most bytes that storages made within the profile had at one time."""
    events = profile.profiler.kineto_results.events()
    changes = sorted((x.start_ns(), x.nbytes()) for x in events if x.name() == "[memory]")
    return max(accumulate(size for _, size in changes))


def _train(given: Mapping[str, Any], data: np.ndarray, count: int) -> None:
    """New nets play that many steps on one batch."""
    game, (slope, lr, betas) = given["game"], given["constants"]
    states = (_state(game[player]) for player in ("generator", "discriminator"))
    step, _ = eager_step(*states, data, game["bounded"], slope, lr, tuple(betas), fused=True)
    for _ in range(count):
        step()


def _state(widths: Sequence[int]) -> dict[str, np.ndarray]:
    """A minigan state dict of such layers, LeakyReLUs between them."""
    state = {}
    for i, (size, width) in enumerate(pairwise(widths)):
        state[f"{2 * i}.weight"] = _normal(size, width) / np.float32(size) ** 0.5
        state[f"{2 * i}.bias"] = np.zeros(width, np.float32)
    return state


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


if __name__ == "__main__":
    main()
