"""Train in the PyTorch process of `bench.memory`: a script that never imports minigan.

    python -P pytorch_memory.py OPTIONS_AS_JSON

Like `bench.memory.child`, it prints "imported" and "trained", waits for a line of input after each,
and then prints "live" and the peak size of live arrays in bytes.
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
    """Train, and print the stages and the peak size, as the parent process expects."""
    options = json.loads(sys.argv[1])
    print("imported", flush=True)
    input()
    torch.set_num_threads(options["threads"])
    data = np.random.default_rng(0).standard_normal(options["data_shape"], np.float32)
    _train(options, data, options["steps"])
    print("trained", flush=True)
    input()
    gc.collect()  # Earlier memory must not be freed within the profile.
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        _train(options, data, options["live_steps"])
    print("live", peak_bytes(profile) + data.nbytes)  # The batch is a numpy array.


def peak_bytes(profile: Any) -> int:
    """Return the peak size of the storages allocated within the profile."""
    events = profile.profiler.kineto_results.events()
    changes = sorted((x.start_ns(), x.nbytes()) for x in events if x.name() == "[memory]")
    return max(accumulate(size for _, size in changes))


def _train(options: Mapping[str, Any], data: np.ndarray, steps: int) -> None:
    """Train new networks on one batch."""
    networks = [PEER["network"](description) for description in options["players"]]
    step = PEER["train_eagerly"](*networks, data=data, **options["arguments"], fused=True)
    for _ in range(steps):
        step()


if __name__ == "__main__":
    main()
