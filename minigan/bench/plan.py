"""What the benchmarks measure, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The MLP GAN of `minigan train`, and the lengths of turns in seconds; tests take less of both.

    Args:
        batches: the batch sizes.
        generator, discriminator: widths of their layers, from input to output.
        square: edge of the one large square product.
        matmul_seconds, step_seconds: how long a contender runs each case in one of its turns.
        rest_seconds: how long to sleep at a time between two turns, until all threads sleep.
    """

    batches: tuple[int, ...] = (64, 128, 512)
    generator: tuple[int, ...] = (100, 256, 512, 784)
    discriminator: tuple[int, ...] = (784, 512, 256, 1)
    square: int = 1024
    matmul_seconds: float = 0.01
    step_seconds: float = 0.1
    rest_seconds: float = 0.02
