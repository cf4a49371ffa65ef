"""Random numbers from named streams: the same seed gives the same bits on every device.

Each use of random numbers has a stream of its own ("init", "data", "latent", "dropout", ...), so
that drawing more numbers from one never changes another: a grid of samples drawn in the middle of a
training run does not change the run.

    mg.manual_seed(0)
    z = mg.random.normal((64, 100))
    order = mg.random.permutation(1000, stream="data")

These functions draw from the current generator: the default one, or that of `use_generator`.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..kernels.runtime.locks import ForkSafeLock
from ..ops import random as draws
from .device import Device, current_device, get_device
from .dtypes import FLOATS, check_dtype
from .op import Op
from .recording import active_step
from .tensor import Tensor
from .values import to_shape

Shape = int | Sequence[int]


class _Stream:
    """The position and seed of one stream, as tensors of the device that last drew from it."""

    def __init__(self, name: str, seed: int, position: int, device: Device) -> None:
        digest = hashlib.sha256(name.encode()).digest()
        self.id = int.from_bytes(digest[:8], "little", signed=True)
        self.position = Tensor(device.from_numpy(np.array([position], np.int64)), device)
        self.seed = Tensor(device.from_numpy(np.array([_signed(seed)], np.int64)), device)

    def read(self) -> int:
        """Return the position: the number of the next block."""
        # Not `.item()`, which raises in a captured step: a step may move a stream to another device
        # in the run that is recorded.
        return int(self.position.device.to_numpy(self.position.array)[0])

    def reseed(self, seed: int, position: int) -> None:
        """Set seed and position in place, so that captured steps draw from there."""
        draws.reseed(self.position, self.seed, to_position=position, to_seed=_signed(seed))


class Generator:
    """Named streams of random numbers, all of one seed.

    Number i of a stream depends on the seed, the name of the stream and i alone (Philox 4x32-10;
    Salmon et al. 2011). Each draw takes whole blocks of four 32-bit words. The position of a stream
    lies on the device that last drew from it; drawing on another device moves it there.

    Args:
        seed: an integer in [0, 2**64).

    Arguments that the methods share: `shape` is a size or sizes, `dtype` float32 (the default) or
    float64, `device` a name or Device (default: the current one), `stream` the name of a stream.
    They raise ValueError on a negative size and TypeError on another dtype.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = ForkSafeLock()
        self._streams: dict[str, _Stream] = {}
        self._positions: dict[str, int] = {}  # of streams that were not drawn from since set_state
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> None:
        """Start every stream from its beginning with this seed, in captured steps too."""
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
        """Draw from the uniform distribution on [low, high).

        The numbers are low + (high - low) u, where u is a multiple of 2^-24 (float64: 2^-53) in
        [0, 1); all are `low` if low == high.

        Raises:
            ValueError: low > high, or their difference is not finite in this dtype.
        """
        real = _float(dtype)
        with np.errstate(over="ignore"):
            a, b = real.type(low), real.type(high)
            if not (a <= b and np.isfinite(b - a)):
                fix = "; a shape is one argument: (2, 3), not 2, 3" * isinstance(low, int)
                raise ValueError(
                    f"uniform: low = {low} and high = {high} in {real}; bounds with low <= high"
                    f" and a finite difference are accepted{fix}"
                )
        bounds = {"low": float(a), "high": float(b)}
        return self._floats(draws.random_uniform, shape, real, device, stream, bounds)

    def normal(
        self, shape: Shape, dtype: Any = None, device: Any = None, stream: str = "latent"
    ) -> Tensor:
        """Draw from the normal distribution of mean 0 and variance 1 (Box and Muller 1958).

        No number is larger than 6.67 in absolute value (float64: 8.58).
        """
        return self._floats(draws.random_normal, shape, _float(dtype), device, stream)

    def laplace(
        self, shape: Shape, dtype: Any = None, device: Any = None, stream: str = "latent"
    ) -> Tensor:
        """Draw from the Laplace distribution of density exp(-|x|) / 2: mean 0, variance 2.

        No number is larger than 21.5 in absolute value (float64: 36.8).
        """
        return self._floats(draws.random_laplace, shape, _float(dtype), device, stream)

    def bernoulli(
        self,
        shape: Shape,
        p: float,
        dtype: Any = None,
        device: Any = None,
        stream: str = "latent",
    ) -> Tensor:
        """Draw 1 with probability p (rounded to a multiple of 2^-32), else 0, as floats.

        Raises:
            ValueError: p is not in [0, 1].
        """
        if not 0 <= p <= 1:
            raise ValueError(f"bernoulli: p = {p} is not a probability in [0, 1]")
        attributes = {"p": float(p)}
        return self._floats(
            draws.random_bernoulli, shape, _float(dtype), device, stream, attributes, per_block=4
        )

    def permutation(self, n: int, device: Any = None, stream: str = "data") -> Tensor:
        """Return 0 ... n - 1 in random order, int64 of shape (n,) (Durstenfeld 1964).

        Raises:
            ValueError: n is negative or above 2^32.
        """
        (size,) = to_shape(n)
        if size > 2**32:
            raise ValueError(f"permutation: n = {size}; at most 2**32 is accepted")
        return self._draw(draws.random_permutation, -(-size // 4), device, stream, n=size)

    def state(self) -> dict[str, Any]:
        """Return the seed and the position (next block) of each used stream, in JSON types."""
        positions = self._positions | {name: s.read() for name, s in self._streams.items()}
        used = {name: position for name, position in sorted(positions.items()) if position}
        return {"seed": self._seed, "streams": used}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `state()` returned, in captured steps too."""
        if not isinstance(state, Mapping) or not {"seed", "streams"} <= state.keys():
            raise ValueError(f"set_state: {state!r} is no state of a generator, as state() returns")
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
        attributes: dict[str, Any] | None = None,
        per_block: int | None = None,
    ) -> Tensor:
        """Draw an array; a block makes `per_block` numbers, by default 4 (float64: 2)."""
        sizes = to_shape(shape)
        blocks = -(-math.prod(sizes) // (per_block or 16 // dtype.itemsize))
        attributes = {"shape": sizes, "dtype": dtype} | (attributes or {})
        return self._draw(op, blocks, device, stream, **attributes)

    def _draw(self, op: Op, blocks: int, device: Any, name: str, **attributes: Any) -> Tensor:
        """Draw numbers and advance the stream by `blocks`: two launches, which can be recorded."""
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
        """Return the stream of that name on this device, moved there if it lies on another."""
        stream = self._streams.get(name)
        if stream is None or stream.position.device is not device:
            if not isinstance(name, str):
                raise TypeError(f"a stream is named by a string, not by {name!r}")
            position = self._positions.get(name, 0) if stream is None else stream.read()
            stream = self._streams[name] = _Stream(name, self._seed, position, device)
        return stream


def _signed(seed: int) -> int:
    """Return the int64 that has the bits of an unsigned 64-bit seed."""
    return seed - (seed >> 63 << 64)


def _integer(name: str, value: Any, below: int) -> int:
    """Return the value as an int; `below` is a power of two, named in the error."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {value!r} is not an integer") from None
    if not 0 <= number < below:
        raise ValueError(f"{name}: {value} is outside [0, 2**{below.bit_length() - 1})")
    return number


def _float(dtype: Any) -> np.dtype:
    """Return the floating dtype of that name, float32 for None."""
    result = check_dtype("float32" if dtype is None else dtype)
    if result not in FLOATS:
        raise TypeError(f"random numbers are float32 or float64, not {result}")
    return result


# -------------------------------------------------------------------------- the current generator
_default = Generator(0)
# A context variable has a value of its own in each Python thread and asyncio task.
_current: ContextVar[Generator] = ContextVar("generator", default=_default)


def default_generator() -> Generator:
    """Return the generator that is current at the start of a program."""
    return _default


def current_generator() -> Generator:
    """Return the generator behind `manual_seed` and the functions of this module."""
    return _current.get()


@contextlib.contextmanager
def use_generator(generator: Generator) -> Iterator[Generator]:
    """Make a generator the current one of this thread or asyncio task in a `with` block.

    with mg.random.use_generator(mg.random.Generator(7)):
        z = mg.random.normal((64, 100))  # no number of the default generator is used
    """
    if not isinstance(generator, Generator):
        raise TypeError(f"use_generator: {type(generator).__name__} is not a Generator")
    token = _current.set(generator)
    try:
        yield generator
    finally:
        _current.reset(token)


@contextlib.contextmanager
def fork_rng(seed: int | None = None) -> Iterator[None]:
    """Restore the state of the current generator after a `with` block, as `torch.random.fork_rng`.

    Args:
        seed: seed the generator with it inside the block; None goes on from the present state.
    """
    generator = current_generator()
    state = generator.state()
    if seed is not None:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


class _CurrentGenerator(Generator):
    """The current generator: its methods are the functions of this module."""

    def __init__(self) -> None:
        pass  # It has no streams of its own: all methods of a Generator call the three below.

    def state(self) -> dict[str, Any]:
        return current_generator().state()

    def set_state(self, state: dict[str, Any]) -> None:
        current_generator().set_state(state)

    def _draw(self, op: Op, blocks: int, device: Any, name: str, **attributes: Any) -> Tensor:
        return current_generator()._draw(op, blocks, device, name, **attributes)


_functions = _CurrentGenerator()
manual_seed = _functions.manual_seed
uniform = _functions.uniform
normal = _functions.normal
laplace = _functions.laplace
bernoulli = _functions.bernoulli
permutation = _functions.permutation
