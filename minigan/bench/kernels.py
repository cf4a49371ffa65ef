"""The kernels that are measured by themselves, and their operands at each size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..engine.device import Device, get_device
from ..engine.op import Op
from ..engine.recording import StepRecording
from ..engine.update import Update
from ..kernels.runtime.recording import record
from .plan import DevicePlan
from .timing import Call

Arrays = list[Any]
ROW_ELEMENTS = 64  # elements of a row of `gather`: the smallest of `DevicePlan.elements`
BATCH_IMAGES = 64  # images of a batch norm
BATCH_NORM_EPS = 1e-5
CONVOLUTION = {"stride": (2, 2), "padding": (1, 1)}
FLOAT32 = np.dtype("float32")
ADAM = {"beta1": 0.5, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "decoupled": False}


def replayed(call: Call, count: int = 1) -> Call:
    """Return a function that replays the launches of `count` calls on the cpu, as a captured step.

    Each replay works on the same memory. The function returns the result of the last call.
    """
    recording = StepRecording()
    with record(recording):
        results = [call() for _ in range(count)]
    program = get_device("cpu").program(recording)

    # The default argument keeps the recording alive: it owns the memory of the launches.
    def replay(_recording: StepRecording = recording) -> object:
        program()
        return results[-1]

    return replay


@dataclass(frozen=True)
class Kernel:
    """One kernel: its operands at each size, and the function that runs it on a device.

    Args:
        about: its description for n elements (for a product, edges of n), for titles.
        bytes: the number of bytes that it reads and writes at size n, each byte once.
        arrays: its operands at size n, as numpy arrays.
        call: `(device, arrays of the device)` returns a function that runs it once.
        flops: additions and multiplications at size n, if they and not the bytes limit it.
        round_size: the valid size nearest to n, at most n.
    """

    about: str
    bytes: Callable[[int], int]
    arrays: Callable[[int], list[np.ndarray]]
    call: Callable[[Device, Arrays], Call]
    flops: Callable[[int], int] | None = None
    round_size: Callable[[int], int] = int

    @property
    def unit(self) -> str:
        return "GB/s" if self.flops is None else "GFLOP/s"

    def cases(self, name: str, plan: DevicePlan) -> Iterator[dict[str, Any]]:
        """Yield kernel, size, work (FLOP or bytes) and bytes, in increasing sizes."""
        sizes = plan.elements if self.flops is None else plan.edges
        for n in sorted({self.round_size(n) for n in sizes}):
            work = (self.flops or self.bytes)(n)
            yield {"kernel": name, "size": n, "work": work, "bytes": self.bytes(n)}

    def build_call(self, device: Device, size: int) -> Call:
        """Return a function that runs it once on operands in the memory of the device."""
        return self.call(device, [device.from_numpy(x) for x in self.arrays(size)])


# ---------------------------------------------------------------------------------------- operands
def _normal(*shape: int) -> np.ndarray:
    """Return normal numbers: the same 65,537 numbers, repeated."""
    return np.resize(np.random.default_rng(0).standard_normal(65_537, np.float32), shape)


def _vectors(count: int) -> Callable[[int], list[np.ndarray]]:
    return lambda n: [_normal(n) for _ in range(count)]


def _table_and_rows(n: int) -> list[np.ndarray]:
    rows = n // ROW_ELEMENTS
    return [
        _normal(rows, ROW_ELEMENTS),
        np.random.default_rng(0).permutation(rows).reshape(rows, 1),
    ]


def _images_and_weights(n: int) -> list[np.ndarray]:
    """Return n images of 14 x 14 pixels and kernels of 4 x 4, 16 channels to 32."""
    return [_normal(n, 16, 14, 14), _normal(32, 16, 4, 4)]


def _batch_shape(n: int) -> tuple[int, int, int]:
    """Return (64 images, channels, 16 pixels) of n elements; one pixel where n is small."""
    pixels = 1 if n % (16 * BATCH_IMAGES) else 16
    return BATCH_IMAGES, n // (BATCH_IMAGES * pixels), pixels


def _whole_channels(n: int) -> int:
    """Return the largest size up to n with a whole number of channels."""
    step = BATCH_IMAGES if n < 16 * BATCH_IMAGES else 16 * BATCH_IMAGES
    return n // step * step


def _images_and_channels(n: int, *values: float) -> list[np.ndarray]:
    """Return images, and for each value an array of it per channel."""
    shape = _batch_shape(n)
    return [_normal(*shape), *(np.full(shape[1], x, np.float32) for x in values)]


def _adam_arrays(n: int) -> list[np.ndarray]:
    """Return parameter, gradient, both moments, and (learning rate, powers of the betas)."""
    return [
        *_vectors(2)(n),
        np.zeros(n, np.float32),
        np.ones(n, np.float32),
        np.array([1e-4, 1, 1]),
    ]


# ------------------------------------------------------------------------------------------- calls
def _op(name: str, **attributes: Any) -> Callable[[Device, Arrays], Call]:
    return lambda device, arrays: partial(device.run, Op.registry[name], tuple(arrays), attributes)


def _transpose(device: Device, arrays: Arrays) -> Call:
    (x,) = arrays
    return partial(device.run, Op.registry["reshape"], (x.T,), {"shape": (x.size,)})


def _gather(device: Device, arrays: Arrays) -> Call:
    x, rows = arrays
    rows = device.run(Op.registry["broadcast_to"], (rows,), {"shape": x.shape})
    return partial(device.run, Op.registry["gather"], (x, rows), {"axis": 0})


def _adam(device: Device, arrays: Arrays) -> Call:
    *lists, (state,) = ([x] for x in arrays)  # Adam takes lists of parameters, and one state.
    return partial(device.update, Update.registry["adam"], (*lists, state), ADAM)


def _normal_numbers(device: Device, arrays: Arrays) -> Call:
    position, seed, like = arrays
    attributes = {"stream": 1, "shape": like.shape, "dtype": FLOAT32}
    return partial(device.run, Op.registry["random_normal"], (position, seed), attributes)


KERNELS = {
    "matmul": Kernel(
        "product of two squares, edge n",
        lambda n: 12 * n * n,
        lambda n: [_normal(n, n), _normal(n, n)],
        _op("matmul"),
        flops=lambda n: 2 * n**3,
    ),
    "conv2d": Kernel(
        "convolution of n images, 16 channels to 32, 4x4/2",
        lambda n: 4 * (n * (16 * 14 * 14 + 32 * 7 * 7) + 32 * 16 * 4 * 4),
        _images_and_weights,
        _op("conv2d", **CONVOLUTION),
        flops=lambda n: 2 * n * (32 * 7 * 7) * (16 * 4 * 4),
    ),
    "leaky_relu": Kernel("LeakyReLU", lambda n: 8 * n, _vectors(1), _op("leaky_relu", slope=0.2)),
    "exp": Kernel("exp", lambda n: 8 * n, _vectors(1), _op("exp")),
    "add": Kernel("sum of two arrays", lambda n: 12 * n, _vectors(2), _op("add")),
    "sum": Kernel(
        "sum of all", lambda n: 4 * n, _vectors(1), _op("sum", axis=(0,), keepdims=False)
    ),
    "transpose": Kernel(
        "transposed copy of a square",
        lambda n: 8 * n,
        lambda n: [_normal(math.isqrt(n), math.isqrt(n))],
        _transpose,
        round_size=lambda n: math.isqrt(n) ** 2,
    ),
    "gather": Kernel(
        f"rows of {ROW_ELEMENTS} in random order",
        lambda n: 8 * n + 8 * (n // ROW_ELEMENTS),
        _table_and_rows,
        _gather,
        round_size=lambda n: n // ROW_ELEMENTS * ROW_ELEMENTS,
    ),
    "normalize": Kernel(
        "batch norm of 64 images",
        lambda n: 8 * n + 8 * _batch_shape(n)[1],
        lambda n: _images_and_channels(n, 1, 0),
        _op("normalize", eps=BATCH_NORM_EPS),
        round_size=_whole_channels,
    ),
    "normalize_grad": Kernel(
        "batch norm's gradient",
        lambda n: 12 * n + 4 * _batch_shape(n)[1],
        lambda n: [_normal(*_batch_shape(n))[::-1].copy(), *_images_and_channels(n, 1)],
        _op("normalize_grad", eps=BATCH_NORM_EPS),
        round_size=_whole_channels,
    ),
    "adam": Kernel("Adam's update", lambda n: 28 * n, _adam_arrays, _adam),
    "normal": Kernel(
        "normal numbers",
        lambda n: 4 * n,
        lambda n: [*np.zeros((2, 1), np.int64), np.empty(n, np.float32)],
        _normal_numbers,
    ),
}
