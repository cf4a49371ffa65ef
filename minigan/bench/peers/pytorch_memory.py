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
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

PEER = runpy.run_path(str(Path(__file__).with_name("pytorch.py")))


def main() -> None:
    given = json.loads(sys.argv[1])
    print("imported", flush=True)
    input()
    torch.set_num_threads(given["threads"])
    data = np.random.default_rng(0).standard_normal(given["data"], np.float32)
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
    lr, betas = given["constants"]
    players = [PEER["network"](layers) for layers in given["players"]]
    step = PEER["eager_play"](*players, data, given["apart"], lr, tuple(betas), fused=True)
    for _ in range(count):
        step()


if __name__ == "__main__":
    main()
