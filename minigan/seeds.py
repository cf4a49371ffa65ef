"""A mean over seeds at little more than the price of one: several runs of a Config as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from . import nn, ops
from .data import Dataset
from .engine import random
from .engine.capture import capture
from .engine.device import get_device, use_device
from .engine.tensor import no_grad, tensor
from .gan.players import Players, build
from .stack import stacked
from .training.config import Config
from .training.trainer import Batches, deviation, filled_in


def train_seeds(
    config: Config, seeds: Iterable[int], data: Dataset, tick: Callable[[], object] = lambda: None
) -> Callable[[int, int], np.ndarray]:
    """Train a GAN for each seed on all of `data`, all of them in one batched step.

    What seed s has at the end is, bit for bit, what a `Trainer` has with that seed and data, and a
    holdout of 0.

    Args:
        config: the options that shape training; its data, device's files and seed are not read.
        seeds: one per run. data: without labels, or labels are not looked at.
        tick: called after each step.

    Returns:
        draw(n, seed): n samples of each run, (runs, n, ...), of its generator or its average.

    Raises:
        ValueError: options that do not fit the data, or a condition on labels.
    """
    if config.condition != "none":
        raise ValueError(f"train_seeds: condition = {config.condition!r}; labels are not taken")
    if len(data) < config.batch:
        raise ValueError(f"train_seeds: batch = {config.batch}, but there are {len(data)} samples")
    config = filled_in(config, data)
    device = stacked(seeds, get_device(config.device))
    scale = deviation(data) if config.standardize else 1.0
    rows = tensor(data.values.reshape(len(data), -1) / scale, device=device.below)
    with use_device(device):
        random.manual_seed(0)  # each run's own seed
        players = Players(config, *build(config, data.sample_shape, None))
        batches = Batches([device.share(rows)], config.batch)
        shape = (config.batch, *data.sample_shape)
        play = capture(lambda reals: players.play([ops.reshape(x, *shape) for x in reals], []))
        for step in range(config.steps):
            players.prepare(step)
            play([batches.next()[0] for _ in range(config.n_critic)])
            tick()

    def draw(n: int, seed: int = 0) -> np.ndarray:
        before = random.default_generator().state()
        random.manual_seed(seed)
        try:
            with use_device(device), nn.evaluating(players.sampler), no_grad():
                made = players.sampler(players.latent(n, "samples")).numpy()
        finally:
            random.default_generator().set_state(before)
        return made * np.float32(scale)

    return draw
