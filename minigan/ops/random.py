"""Ops that draw random numbers, as functions of the position and seed of a stream.

`position` and `seed` are int64 tensors of shape (1,) on the device; the 64 bits of the seed are
read as a signed number, and so is `stream`, the id of the stream. A draw does not change the
position; the Update `advance` does. So a draw is an op, and both launches can be replayed.

The generator is Philox 4x32-10 of Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as
easy as 1, 2, 3": key = seed, counter words 0, 1 = block number, words 2, 3 = stream, low first.
A float32 takes one 32-bit word and a float64 two, in order, so a block of four words makes 4 or 2.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..engine.dtypes import FLOATS, check_dtype
from ..engine.op import Op
from ..engine.update import Update
from .elementwise import check_number
from .samples import indices
from .shape import check_sizes, is_integer

Shape = tuple[int, ...]

_LOW = 0xFFFFFFFF  # the mask of the lower 32 of 64 bits


def _philox(blocks: np.ndarray, stream: int, seed: int) -> np.ndarray:
    """Return the words of these blocks, uint32 of shape (blocks, 4)."""
    multipliers = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
    keys = np.array([seed & _LOW, seed >> 32 & _LOW], np.uint64)
    # A round multiplies words 0 and 2 and mixes in words 1 and 3; each pair is (blocks, 2).
    even = np.stack([blocks & np.uint64(_LOW), np.full_like(blocks, stream & _LOW)], axis=1)
    odd = np.stack([blocks >> np.uint64(32), np.full_like(blocks, stream >> 32 & _LOW)], axis=1)
    for _ in range(10):
        product = (multipliers * even)[:, ::-1]
        even = (product >> np.uint64(32)) ^ odd ^ keys
        odd = product & np.uint64(_LOW)
        keys = (keys + np.array([0x9E3779B9, 0xBB67AE85], np.uint64)) & np.uint64(_LOW)
    return np.stack([even, odd], axis=2).reshape(-1, 4).astype("<u4")


def _words(
    position: np.ndarray, seed: np.ndarray, stream: int, size: int, dtype: Any = "float32"
) -> np.ndarray:
    """Return at least `size` words, of 32 bits for float32 and of 64 for float64."""
    width = np.dtype(dtype).itemsize
    first = position.astype(np.uint64)
    blocks = first + np.arange(-(-size * width // 16), dtype=np.uint64)
    return _philox(blocks, stream, int(seed[0])).reshape(-1).view(f"<u{width}")


def _negative_log(u: np.ndarray) -> np.ndarray:
    """Return -log(u) of float64 u in (0, 1], exact at 1; its relative error is below 4e-16.

    u = 2^e m with m in [sqrt(1/2), sqrt(2)), and log m = 2 atanh(s) with s = (m - 1) / (m + 1), so
    that |s| < 0.172: after eleven terms of its Taylor series the rest is below 2e-17 of it.
    """
    bits = u.view(np.int64)
    e = (bits - 0x3FE6A09E667F3BCD) >> 52  # 0 from sqrt(1/2) to sqrt(2)
    m = (bits - (e << 52)).view(np.float64)
    s = (m - 1) / (m + 1)
    z = s * s
    tail = _polynomial([2 / (2 * i + 3) for i in range(10)], z)
    return -e * 0.6931471805599453 - (2 * s + s * (z * tail))


def _cosine_sine(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cos(2 pi t) and sin(2 pi t) of float64 t in [0, 1); absolute error below 2e-16.

    The nearest multiple of pi/2 is subtracted, which leaves an angle of at most pi/4: there the
    rest after eight terms of the Taylor series of sin, and nine of that of cos, is below 1e-16.
    """
    quadrant = (4 * t + 0.5).astype(np.int64)
    x = 6.283185307179586 * (t - 0.25 * quadrant)
    z = x * x
    c = _polynomial([(-1) ** (i + 1) / math.factorial(2 * i + 2) for i in range(8)], z)
    s = _polynomial([(-1) ** (i + 1) / math.factorial(2 * i + 3) for i in range(7)], z)
    cosine, sine = 1 + z * c, x + x * (z * s)
    odd = quadrant % 2 == 1
    a, b = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    return np.where((quadrant + 1) & 2, -a, a), np.where(quadrant & 2, -b, b)


def _polynomial(coefficients: list[float], z: np.ndarray) -> np.ndarray:
    """Return c[0] + z c[1] + z^2 c[2] + ..., by Horner's rule."""
    total = np.full_like(z, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = c + z * total
    return total


# -------------------------------------------------------------------------------- the references
def _uniform(
    position: np.ndarray,
    seed: np.ndarray,
    *,
    stream: int,
    shape: Shape,
    dtype: Any,
    low: float,
    high: float,
) -> np.ndarray:
    """Return low + (high - low) u, u of 24 or 53 bits, or the next number below `high`."""
    size, real = math.prod(shape), np.dtype(dtype).type
    words = _words(position, seed, stream, size, dtype)[:size]
    shift, unit = (8, real(2.0**-24)) if real is np.float32 else (11, real(2.0**-53))
    a, b = real(low), real(high)
    x = a + (b - a) * ((words >> shift).astype(real) * unit)
    return np.where(x < b, x, np.nextafter(b, a)).reshape(shape)


def _normal(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Shape, dtype: Any
) -> np.ndarray:
    """Return sqrt(-2 log u) (cos, sin)(2 pi t) of each two words (Box and Muller 1958).

    u in (0, 1] has 32 or 53 bits, so no number exceeds sqrt(64 log 2) = 6.6604 in float32 and
    sqrt(106 log 2) = 8.5717 in float64. Relative error below 1e-15, then rounded to the dtype.
    """
    size, single = math.prod(shape), np.dtype(dtype).itemsize == 4
    shift, unit = (0, 2.0**-32) if single else (11, 2.0**-53)
    pairs = (_words(position, seed, stream, size, dtype) >> shift).reshape(-1, 2).astype(np.float64)
    radius = np.sqrt(2 * _negative_log((pairs[:, 0] + 1) * unit))
    cosine, sine = _cosine_sine(pairs[:, 1] * unit)
    numbers = np.stack([radius * cosine, radius * sine], axis=1)
    return numbers.reshape(-1)[:size].astype(dtype).reshape(shape)


def _laplace(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Shape, dtype: Any
) -> np.ndarray:
    """Return -log u, with its sign changed if the lowest bit of the word is set.

    u in (0, 1] has 31 or 53 bits, so no number exceeds 31 log 2 = 21.49 in float32 and
    53 log 2 = 36.74 in float64. Relative error below 4e-16, then rounded to the dtype.
    """
    size, single = math.prod(shape), np.dtype(dtype).itemsize == 4
    shift, unit = (1, 2.0**-31) if single else (11, 2.0**-53)
    words = _words(position, seed, stream, size, dtype)[:size]
    x = _negative_log(((words >> shift).astype(np.float64) + 1) * unit)
    return np.where(words & 1, -x, x).astype(dtype).reshape(shape)


def _bernoulli(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Shape, dtype: Any, p: float
) -> np.ndarray:
    """Return 1 where the 32-bit word is below p 2^32, else 0; a word for each, of any dtype."""
    size = math.prod(shape)
    words = _words(position, seed, stream, size)[:size]
    return (words < np.uint64(round(p * 2**32))).astype(dtype).reshape(shape)


def _permutation(position: np.ndarray, seed: np.ndarray, *, stream: int, n: int) -> np.ndarray:
    """Return 0 ... n - 1 shuffled by Fisher and Yates: for each i, elements i and j <= i swap.

    j = (word i) (i + 1) >> 32, so no j is likelier than another by more than n / 2^32.
    """
    words = _words(position, seed, stream, n)
    order = list(range(n))
    for i, word in enumerate(words[:n].tolist()):
        j = word * (i + 1) >> 32
        order[i] = order[j]
        order[j] = i
    return np.array(order, np.int64)


# ---------------------------------------------------------------------- checks of attributes
def _check_counter(op: str, position: Any, seed: Any, stream: Any) -> None:
    """Raise ValueError unless position and seed are of shape (1,) and the stream fits int64."""
    if position.shape != (1,) or seed.shape != (1,) or not is_integer(stream, -(2**63)):
        raise ValueError(
            f"{op}: position {position.shape}, seed {seed.shape} and stream {stream!r}; (1,), (1,)"
            " and an int64 are needed"
        )


def _check_floats(op: str, position: Any, seed: Any, stream: Any, shape: Any, dtype: Any) -> None:
    """Raise unless the counter and the shape fit, and the dtype is floating."""
    _check_counter(op, position, seed, stream)
    check_sizes(op, shape)
    if check_dtype(dtype) not in FLOATS:
        raise TypeError(f"{op}: random numbers are float32 or float64, not {dtype}")


def _check_uniform(position: Any, seed: Any, low: Any, high: Any, **common: Any) -> None:
    _check_floats("random_uniform", position, seed, **common)
    real = np.dtype(common["dtype"]).type
    with np.errstate(over="ignore"):
        a, b = (real(check_number("random_uniform", "low and high", x)) for x in (low, high))
        if not (a <= b and np.isfinite(b - a)):
            raise ValueError(f"random_uniform: low = {low} to high = {high} is not a finite range")


def _check_bernoulli(position: Any, seed: Any, p: Any, **common: Any) -> None:
    _check_floats("random_bernoulli", position, seed, **common)
    if not 0 <= check_number("random_bernoulli", "p", p) <= 1:
        raise ValueError(f"random_bernoulli: p = {p} is not a probability in [0, 1]")


def _check_permutation(position: Any, seed: Any, stream: Any, n: Any) -> None:
    _check_counter("random_permutation", position, seed, stream)
    if not is_integer(n, 0, 2**32 + 1):
        raise ValueError(f"random_permutation: n = {n!r} is not an integer from 0 to 2**32")


# -------------------------------------------------------------------------------------- the ops
_COUNTER = (indices(1, below=1 << 40), indices(1, below=1 << 62))


def _samples(**attributes: Any) -> list[tuple[Any, ...]]:
    cases = [((3, 5), "float64"), ((7,), "float32"), ((), "float64"), ((2, 0), "float32")]
    return [
        (*_COUNTER, {"stream": -5, "shape": shape, "dtype": np.dtype(dtype), **attributes})
        for shape, dtype in cases
    ]


_NO_VJP = (None, None)
random_uniform = Op(
    "random_uniform",
    _uniform,
    _NO_VJP,
    _samples(low=-1.0, high=3.0),
    dtypes="i",
    check=_check_uniform,
)
random_normal = Op(
    "random_normal",
    _normal,
    _NO_VJP,
    _samples(),
    dtypes="i",
    check=partial(_check_floats, "random_normal"),
)
random_laplace = Op(
    "random_laplace",
    _laplace,
    _NO_VJP,
    _samples(),
    dtypes="i",
    check=partial(_check_floats, "random_laplace"),
)
random_bernoulli = Op(
    "random_bernoulli", _bernoulli, _NO_VJP, _samples(p=0.3), dtypes="i", check=_check_bernoulli
)
random_permutation = Op(
    "random_permutation",
    _permutation,
    _NO_VJP,
    [(*_COUNTER, {"stream": 3, "n": 10})],
    dtypes="i",
    check=_check_permutation,
)


def _advance(position: np.ndarray, blocks: int) -> None:
    """Advance the position of a stream by `blocks` blocks."""
    position += blocks


def _reseed(position: np.ndarray, seed: np.ndarray, to_position: int, to_seed: int) -> None:
    """Set the position and seed of a stream."""
    position[0], seed[0] = to_position, to_seed


advance = Update("advance", _advance, "int64(1)")
reseed = Update("reseed", _reseed, "int64(1) int64(1)", writes=(0, 1))
