"""Random numbers from named streams: the same seed gives the same bits, on every device.

Each use of randomness has a stream of its own ("init", "data", "latent", "dropout", ...), so that
drawing more numbers for one never changes another: a grid of samples drawn in the midst of a
training run does not change the run.
"""

from __future__ import annotations

import hashlib
import math
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ops import random as draws
from .device import Device, current_device, get_device
from .op import Op
from .recording import active_step
from .tensor import FLOATS, Tensor, check_dtype

Shape = int | Sequence[int]


class _Stream:
    """Where one stream of a generator stands, on the device that last drew from it."""

    def __init__(self, name: str, seed: int, position: int, device: Device) -> None:
        digest = hashlib.sha256(name.encode()).digest()
        self.id = int.from_bytes(digest[:8], "little", signed=True)
        self.position = Tensor(device.from_numpy(np.array([position], np.int64)), device)
        self.seed = Tensor(device.from_numpy(np.array([_signed(seed)], np.int64)), device)

    def read(self) -> int:
        # A captured step may take a stream over from another device, in the run that is noted.
        return int(self.position.device.to_numpy(self.position.array)[0])

    def reseed(self, seed: int, position: int) -> None:
        """In place, so that a captured step which draws from this stream follows."""
        draws.reseed(self.position, self.seed, to_position=position, to_seed=_signed(seed))


class Generator:
    """Named streams of random numbers, all of one seed.

    Number i of a stream depends on the seed, the stream's name and i alone (Philox 4x32-10; Salmon
    et al. 2011). Each draw takes whole blocks of four 32-bit words. A stream lives on the device
    that last drew from it; drawing on another one moves it there, and it goes on where it stood.

    Args:
        seed: an integer in [0, 2**64).

    The methods share their arguments: `shape` is a size or sizes, `dtype` float32 (the default) or
    float64, `device` a name or Device (default: the current one), `stream` the stream's name. They
    raise ValueError on a negative size and TypeError on another dtype.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}
        self._positions: dict[str, int] = {}  # of streams that no device holds yet
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        """Start every stream anew, from another seed. Captured steps follow."""
        self.set_state({"seed": seed, "streams": {}})

    def uniform(
        self,
        shape: Shape,
        low: float = 0.0,
        high: float = 1.0,
        dtype: Any = None,
        device: Any = None,
        stream: str = "latent",
    ) -> Tensor:
        """Uniform in [low, high): low + (high - low) u, u a multiple of 2^-24 (float64: 2^-53).

        Where low == high, that number.

        Raises:
            ValueError: unless low <= high, and their difference is finite in this dtype.
        """
        real = _float(dtype)
        with np.errstate(over="ignore"):
            a, b = real.type(low), real.type(high)
            if not (a <= b and np.isfinite(b - a)):
                raise ValueError(
                    f"uniform: low = {low} and high = {high} in {real}; accepted are bounds"
                    " with low <= high and a finite difference"
                )
        bounds = {"low": float(a), "high": float(b)}
        return self._floats(draws.random_uniform, shape, real, device, stream, bounds)

    def normal(
        self, shape: Shape, dtype: Any = None, device: Any = None, stream: str = "latent"
    ) -> Tensor:
        """Mean 0 and variance 1 (Box and Muller 1958); at most 6.67 in size (float64: 8.58)."""
        return self._floats(draws.random_normal, shape, _float(dtype), device, stream)

    def laplace(
        self, shape: Shape, dtype: Any = None, device: Any = None, stream: str = "latent"
    ) -> Tensor:
        """Density exp(-|x|) / 2: mean 0, variance 2; at most 21.5 in size (float64: 36.8)."""
        return self._floats(draws.random_laplace, shape, _float(dtype), device, stream)

    def bernoulli(
        self,
        shape: Shape,
        p: float,
        dtype: Any = None,
        device: Any = None,
        stream: str = "latent",
    ) -> Tensor:
        """1 with probability p (rounded to a multiple of 2^-32), else 0, as floats.

        Raises:
            ValueError: unless 0 <= p <= 1.
        """
        if not 0 <= p <= 1:
            raise ValueError(f"bernoulli: p = {p} is no probability; accepted are 0 to 1")
        chance = {"p": float(p)}
        return self._floats(
            draws.random_bernoulli, shape, _float(dtype), device, stream, chance, per_block=4
        )

    def permutation(self, n: int, device: Any = None, stream: str = "data") -> Tensor:
        """0 ... n - 1 in random order, int64 of shape (n,); n at most 2^32 (Durstenfeld 1964).

        Raises:
            ValueError: n is negative or above 2^32.
        """
        (size,) = _sizes(n)
        if size > 2**32:
            raise ValueError(f"permutation: n = {size}; at most 2**32 is accepted")
        return self._draw(draws.random_permutation, -(-size // 4), device, stream, n=size)

    def state(self) -> dict[str, Any]:
        """The seed and each used stream's position (next block), for JSON and `set_state`."""
        positions = self._positions | {name: s.read() for name, s in self._streams.items()}
        used = {name: position for name, position in sorted(positions.items()) if position}
        return {"seed": self._seed, "streams": used}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where `state()` was taken. Captured steps follow."""
        seed = _integer("seed", state["seed"], 2**64)
        positions = {
            name: _integer(f"position of stream {name!r}", position, 2**63)
            for name, position in state["streams"].items()
        }
        with self._lock:
            self._seed, self._positions = seed, positions
            for name, stream in self._streams.items():
                stream.reseed(seed, positions.get(name, 0))

    def _floats(
        self,
        op: Op,
        shape: Shape,
        dtype: np.dtype,
        device: Any,
        stream: str,
        attributes: dict[str, float] | None = None,
        per_block: int | None = None,
    ) -> Tensor:
        """Draw an array. A block makes 4 numbers, or 2 in float64, unless told otherwise."""
        sizes = _sizes(shape)
        blocks = -(-math.prod(sizes) // (per_block or 16 // dtype.itemsize))
        given = {"shape": sizes, "dtype": dtype} | (attributes or {})
        return self._draw(op, blocks, device, stream, **given)

    def _draw(self, op: Op, blocks: int, device: Any, name: str, **attributes: Any) -> Tensor:
        target = current_device() if device is None else get_device(device)
        with self._lock:
            stream = self._stream(name, target)
            recording = active_step()
            if recording is not None:
                recording.conditions.append(lambda: self._streams.get(name) is stream)
            numbers = op(stream.position, stream.seed, stream=stream.id, **attributes)
            draws.advance(stream.position, blocks=blocks)
        return numbers

    def _stream(self, name: str, device: Device) -> _Stream:
        found = self._streams.get(name)
        if found is None or found.position.device is not device:
            if not isinstance(name, str):
                raise TypeError(f"a stream is named by a string, not by {name!r}")
            position = self._positions.get(name, 0) if found is None else found.read()
            found = self._streams[name] = _Stream(name, self._seed, position, device)
        return found


def _signed(seed: int) -> int:
    """Return the int64 that has the bits of an unsigned 64-bit seed."""
    return seed - (seed >> 63 << 64)


def _integer(what: str, value: Any, below: int) -> int:
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{what}: {value!r} is no integer") from None
    if not 0 <= found < below:
        raise ValueError(f"{what}: {value} is outside [0, 2**{below.bit_length() - 1})")
    return found


def _sizes(shape: Shape) -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(n) for n in (shape if np.iterable(shape) else (shape,)))
    except TypeError:
        raise TypeError(f"shape {shape!r} is neither an integer nor a tuple of them") from None
    for n in sizes:
        if n < 0:
            raise ValueError(f"shape {shape!r}: size {n} is negative")
    return sizes


def _float(dtype: Any) -> np.dtype:
    found = check_dtype("float32" if dtype is None else dtype)
    if found not in FLOATS:
        raise TypeError(f"random numbers are float32 or float64, not {found}")
    return found


# -------------------------------------------------------------------------- the default generator
_default = Generator(0)


def default_generator() -> Generator:
    """The Generator behind `manual_seed` and the functions of this module."""
    return _default


manual_seed = _default.manual_seed
uniform = _default.uniform
normal = _default.normal
laplace = _default.laplace
bernoulli = _default.bernoulli
permutation = _default.permutation

# What `--latent` accepts; the uniform one is as wide as a tanh.
LATENTS: dict[str, Callable[..., Tensor]] = {
    "normal": normal,
    "uniform": lambda shape, **given: uniform(shape, -1.0, 1.0, **given),
    "laplace": laplace,
}
