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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ..engine.cpu import CpuDevice
from ..engine.device import use_device
from ..engine.op import Op
from ..engine.random import fork_rng
from ..kernels.runtime.cpu import peak
from ..kernels.runtime.recording import collect
from .plan import Task
from .tasks import minigan_step
from .timing import Case

RATE_REPEATS = 5  # The best repeat counts, as other processes may disturb some of them.
FLOAT_BYTES = 4
ADAM_ARRAYS = 4  # of the parameters' size: weights p, gradients g, moments m and v
ADAM_ACCESSES = 7  # of those arrays: p, g, m, v are read, p, m, v are written

# The multiply-adds of each op with products, from its operands, its result y and its attributes. A
# convolution counts as the matrix product that it stands for, padding included.
COUNTS: dict[str, Callable[..., int]] = {
    "matmul": lambda a, b, **_: a.size * b.shape[-1],
    "dense": lambda x, w, *_, **__: x.size * w.shape[1],
    "conv2d": lambda x, w, y, **_: y.size * math.prod(w.shape[1:]),
    "conv2d_input_grad": lambda g, w, **_: g.size * math.prod(w.shape[1:]),
    "conv2d_weight_grad": lambda x, g, y, **_: g.size * math.prod(y.shape[1:]),
}


class CountingDevice(CpuDevice):
    """The CPU device, which also counts the multiply-adds of products and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = 0

    def run(self, op: Op, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
        y = super().run(op, arrays, attributes)
        if op.name in COUNTS:
            self.multiply_adds += COUNTS[op.name](*arrays, y=y, **attributes)
        return y


@cache
def multiply_adds(task: Task, batch: int) -> int:
    """Return the number of multiply-adds of `tasks.minigan_step` in products and convolutions.

    The step runs without its kernels: only the shapes of its arrays matter.
    """
    device = CountingDevice()
    with use_device(device), fork_rng(), collect():
        minigan_step(task, task.build_networks(), batch, captured=False)()
    return device.multiply_adds


@cache
def parameter_count(task: Task) -> int:
    """Return the number of parameters of both networks."""
    with use_device("cpu"), fork_rng(), collect():
        networks = task.build_networks()
    return sum(math.prod(x.shape) for net in networks for x in net.parameters())


def fma_rate(threads: int) -> float:
    """Measure the peak of float32 arithmetic in FLOP/s."""
    return max(peak.fma_rate("float32", threads) for _ in range(RATE_REPEATS))


def cases(tasks: Mapping[str, Task], threads: int) -> Iterator[dict[str, Any]]:
    """Yield each task and batch with its work and the measured bandwidth."""
    for name, task in tasks.items():
        count = parameter_count(task)
        thread_bytes = -(-ADAM_ARRAYS * FLOAT_BYTES * count // threads)
        bytes_per_second = max(peak.bandwidth(thread_bytes, threads) for _ in range(RATE_REPEATS))
        for batch in task.batches:
            yield {
                "task": name,
                "batch": batch,
                "multiply_adds": multiply_adds(task, batch),
                "optimizer_bytes": ADAM_ACCESSES * FLOAT_BYTES * count,
                "bytes_per_second": bytes_per_second,
            }


def with_bounds(cases: Sequence[Case], flops_per_second: float) -> list[dict[str, Any]]:
    """Return the cases with "lower_bound", in seconds, at this peak of arithmetic."""
    return [
        {
            **case,
            "flops_per_second": flops_per_second,
            "lower_bound": 2 * case["multiply_adds"] / flops_per_second
            + case["optimizer_bytes"] / case["bytes_per_second"],
        }
        for case in cases
    ]
