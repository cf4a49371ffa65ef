"""Describe a training before it starts: its data, its nets, and how long it takes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from ..utils.names import printable, shorten

if TYPE_CHECKING:
    from ..training.trainer import Trainer
    from ..translation.trainer import TranslationTrainer

CHANNELS = {1: "grey", 2: "grey with transparency", 3: "RGB", 4: "RGB with transparency"}
COUNTED_CLASSES = 6  # up to so many classes, the number of samples of each is printed
WARM_UP, LEAST_STEPS, SECONDS = 2, 3, 2.0  # of the steps that are timed


def print_summary(trainer: Trainer) -> None:
    """Print lines on the data and the nets of a training on stderr."""
    print(f"data: {describe_data(trainer)}", file=sys.stderr)
    print(f"nets: {describe_nets(trainer)}", file=sys.stderr, flush=True)


def print_time(trainer: Trainer | TranslationTrainer) -> None:
    """Time a few steps of a trainer, which change its state, and print how long all take."""
    steps = trainer.config.steps - trainer.step_count
    seconds = seconds_per_step(trainer)
    text = f"about {describe_seconds(seconds * steps)} for {steps:,} steps of {seconds:.2g} s"
    print(f"time: {text}, without pictures", file=sys.stderr, flush=True)


def describe_data(trainer: Trainer) -> str:
    """Return the number, size and classes of the data, and what is held out."""
    train, held_out = trainer.data, trainer.held_out
    if train.is_image:
        channels, height, width = train.sample_shape
        kind = f"images, {width}x{height} {CHANNELS[channels]}"
    else:
        kind = f"points of {train.sample_shape[0]} numbers"
    text = f"{len(train) + len(held_out):,} {kind}"
    if train.labels is not None and held_out.labels is not None:
        labels = np.concatenate([train.labels, held_out.labels])
        text += f", {_describe_classes(labels, train.classes or 0, train.class_names)}"
        if not trainer.config.needs_labels:
            condition = trainer.config.condition
            used = "without --condition" if condition == "none" else f"by --condition {condition}"
            text += f", not used {used}"
    parts = f"{len(train):,} to train on, {len(held_out):,} held out"
    return printable(f"{text}; {parts if len(held_out) else 'none held out'}")


def _describe_classes(labels: np.ndarray, classes: int, names: tuple[str, ...] | None) -> str:
    counts = np.bincount(labels, minlength=classes)
    if classes <= COUNTED_CLASSES:
        parts = [f"{k if names is None else names[k]} {n:,}" for k, n in enumerate(counts)]
        return f"{classes} class{'es' * (classes != 1)} ({', '.join(parts)})"
    low, high = counts.min(), counts.max()
    sizes = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    text = f"{classes:,} classes of {sizes}"
    return text if names is None else f"{text} ({shorten(names)})"


def describe_nets(trainer: Trainer) -> str:
    """Return the model, the numbers of parameters, and the number of steps."""
    config = trainer.config
    sizes = [
        describe_count(sum(p.size for p in net.parameters()))
        for net in (trainer.generator, trainer.discriminator)
    ]
    text = f"{config.model}, G {sizes[0]} and D {sizes[1]} parameters"
    if config.init_from is not None and not trainer.step_count:
        text += f", from {config.init_from}"
    done = f"{trainer.step_count:,} of " if trainer.step_count else ""
    steps = f"{done}{config.steps:,} steps of {config.batch} samples on {config.device}"
    return printable(f"{text}; {steps}")


def describe_count(n: int) -> str:
    """Return a number of parameters: "950", "34 k", "1.7 M"."""
    if n < 10_000:
        return f"{n:,}"
    return f"{n / 1e3:.0f} k" if n < 1e6 else f"{n / 1e6:.1f} M"


def describe_seconds(seconds: float) -> str:
    """Return a duration with the fitting unit: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def seconds_per_step(trainer: Trainer | TranslationTrainer) -> float:
    """Return the mean time of a few steps, after the first ones, which compile kernels."""
    for _ in range(WARM_UP):
        trainer.step()
    steps, begin = 0, time.perf_counter()
    while steps < LEAST_STEPS or time.perf_counter() - begin < SECONDS:
        trainer.step()
        steps += 1
    return (time.perf_counter() - begin) / steps
