"""The least that a training step can take on this machine: its floor.

Two things in it cannot be saved. The products' multiply-adds run no faster than the processor does
them from registers to registers; Adam has to read weights, gradients and both moments and to write
all but the gradients, no faster than they come from the memory that holds them all. Their times
add up: an optimizer waits for its gradients. All else (activations, losses, random numbers,
launches, the products' own operands) counts as nothing, so no step reaches it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from .. import nn
from ..engine.device import use_device
from ..kernels.runtime.cpu import peak
from .plan import Game

TAKES = 5
FLOAT = 4  # bytes
KEPT, MOVED = 4, 7  # arrays like the parameters: p, g, m, v; and read p, g, m, v, write p, m, v


def multiply_adds(game: Game, batch: int) -> int:
    """Those of the products in one step, as `games.minigan_step` takes it.

    A product by the weights of each layer forward; one for the weights' gradient where the net
    trains; one for the input's where something before that layer is to train. A convolution's are
    those of the matrix products that it stands for, zeros around the images included.
    """
    g, d = players(game)[0]
    forward = sum(g)
    turn_d = 2 * (sum(d) + sum(d) + sum(d[1:]))  # real and fake samples
    turn_g = sum(d) + sum(d) + sum(g) + sum(g[1:])  # through D down to the fakes, then G
    return batch * (forward + turn_d + turn_g)


def parameters(game: Game) -> int:
    """How many numbers both players train."""
    return players(game)[1]


@cache
def players(game: Game) -> tuple[tuple[list[int], list[int]], int]:
    """(multiply-adds of a sample's way through G and through D, layer by layer; parameters)"""
    with use_device("cpu"):
        generator, discriminator = game.nets()
        products = (
            _products(generator, (game.model.latent_size,)),
            _products(discriminator, game.sample_shape),
        )
    both = generator.parameters() + discriminator.parameters()
    return products, sum(math.prod(x.shape) for x in both)


def _products(net: nn.Sequential, shape: tuple[int, ...]) -> list[int]:
    """Each weight meets every pixel of a convolution's result, of a transposed one's input."""
    found = []
    (_, before), *rows = nn.shapes(net, shape)
    for layer, (_, after) in zip(net, rows, strict=True):
        if isinstance(layer, (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)):
            pixels = (before if isinstance(layer, nn.ConvTranspose2d) else after)[2:]
            found.append(math.prod(layer.weight.shape) * math.prod(pixels))
        before = after
    return found


def fma_rate(threads: int) -> float:
    """The most FLOP/s of float32, here and now: others may have disturbed any of the takes."""
    return max(peak.fma_rate("float32", threads) for _ in range(TAKES))


def cases(games: Mapping[str, Game], threads: int) -> Iterator[dict[str, Any]]:
    """Each game and batch: what has to be done, how fast it can be, and "floor" in seconds.

    The rates are measured here and now, on so many threads: the best of TAKES, since others may
    have disturbed any of them.
    """
    flops = fma_rate(threads)
    for name, game in games.items():
        count = parameters(game)
        size = -(-KEPT * FLOAT * count // threads)
        rate = max(peak.bandwidth(size, threads) for _ in range(TAKES))
        for batch in game.batches:
            products, moved = multiply_adds(game, batch), MOVED * FLOAT * count
            yield {
                "game": name,
                "batch": batch,
                "multiply_adds": products,
                "optimizer_bytes": moved,
                "flops_per_second": flops,
                "bytes_per_second": rate,
                "floor": 2 * products / flops + moved / rate,
            }
