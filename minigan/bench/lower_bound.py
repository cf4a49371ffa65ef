"""A lower bound of the time of a training step on this machine.

Two parts of a step cannot be avoided. The multiply-adds of its matrix products and convolutions run
no faster than the processor's fused multiply-adds on registers. Adam must read weights, gradients
and both moments and write all but the gradients, no faster than the memory that holds them. The two
times add up, since an optimizer waits for its gradients. Everything else (activations, losses,
random numbers, launches, the operands of the products) is counted as zero, so no step reaches the
bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from .. import nn
from ..engine.device import use_device
from ..kernels.runtime.cpu import peak
from .plan import Task

RATE_REPEATS = 5  # The best repeat counts, as other processes may disturb some of them.
FLOAT_BYTES = 4
ADAM_ARRAYS = 4  # of the parameters' size: weights p, gradients g, moments m and v
ADAM_ACCESSES = 7  # of those arrays: p, g, m, v are read, p, m, v are written


def multiply_adds(task: Task, batch: int) -> int:
    """Return the number of multiply-adds of `tasks.minigan_step` in products and convolutions.

    Each layer has one product with its weights forward, one for the gradient of its weights if the
    network is trained, and one for the gradient of its input if a layer before it is trained. A
    convolution counts as the matrix product that it stands for, padding included.

    A gradient penalty is a pass of D forward and back to its input; and of the gradient of that,
    which piecewise linear layers pass forward only, a product for each layer but the last, and one
    for the gradient of each layer's weights.
    """
    g, d = work_of_networks(task)[0]
    penalty = 4 * sum(d) - d[-1] if task.penalty else 0
    forward_g = sum(g)
    step_d = 2 * (sum(d) + sum(d) + sum(d[1:]))  # real and fake samples
    step_g = sum(d) + sum(d) + sum(g) + sum(g[1:])  # through D to the fakes, then through G
    return batch * (forward_g + step_d + penalty + step_g)


def parameter_count(task: Task) -> int:
    """Return the number of parameters of both networks."""
    return work_of_networks(task)[1]


@cache
def work_of_networks(task: Task) -> tuple[tuple[list[int], list[int]], int]:
    """Return ((multiply-adds per sample of each layer of G, of D), number of parameters)."""
    with use_device("cpu"):
        generator, discriminator = task.build_networks()
        products = (
            _layer_multiply_adds(generator, (task.model.latent_size,)),
            _layer_multiply_adds(discriminator, task.sample_shape),
        )
    parameters = generator.parameters() + discriminator.parameters()
    return products, sum(math.prod(x.shape) for x in parameters)


def _layer_multiply_adds(net: nn.Sequential, shape: tuple[int, ...]) -> list[int]:
    """Return the forward multiply-adds of each layer with weights, for one sample of that shape.

    Each weight is used once per pixel: of a convolution's output, of a transposed one's input.
    """
    counts = []
    (_, input_shape), *rows = nn.shapes(net, shape)
    for layer, (_, output_shape) in zip(net, rows, strict=True):
        if isinstance(layer, (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)):
            is_transposed = isinstance(layer, nn.ConvTranspose2d)
            pixels = (input_shape if is_transposed else output_shape)[2:]
            counts.append(math.prod(layer.weight.shape) * math.prod(pixels))
        input_shape = output_shape
    return counts


def fma_rate(threads: int) -> float:
    """Measure the peak of float32 arithmetic in FLOP/s."""
    return max(peak.fma_rate("float32", threads) for _ in range(RATE_REPEATS))


def cases(tasks: Mapping[str, Task], threads: int) -> Iterator[dict[str, Any]]:
    """Yield each task and batch with its work, the measured peaks, and the bound in seconds."""
    flops_per_second = fma_rate(threads)
    for name, task in tasks.items():
        count = parameter_count(task)
        thread_bytes = -(-ADAM_ARRAYS * FLOAT_BYTES * count // threads)
        bytes_per_second = max(peak.bandwidth(thread_bytes, threads) for _ in range(RATE_REPEATS))
        for batch in task.batches:
            products = multiply_adds(task, batch)
            optimizer_bytes = ADAM_ACCESSES * FLOAT_BYTES * count
            yield {
                "task": name,
                "batch": batch,
                "multiply_adds": products,
                "optimizer_bytes": optimizer_bytes,
                "flops_per_second": flops_per_second,
                "bytes_per_second": bytes_per_second,
                "lower_bound": 2 * products / flops_per_second + optimizer_bytes / bytes_per_second,
            }
