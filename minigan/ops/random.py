"""Ops that draw random numbers: pure functions of a stream's device-held position and seed.

`position` and `seed` are int64 tensors of shape (1,), the seed's 64 bits read as a signed number.
`stream` is the stream's 64-bit id, signed too. A draw leaves the position alone; the Update
`advance` moves it. So a recorded draw and its advance can be replayed.

The counter is Philox 4x32-10 of Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy
as 1, 2, 3": key = seed, counter words 0, 1 = block number, words 2, 3 = stream, low words first.
A float32 takes one 32-bit word and a float64 two, in order, so a block of four makes 4 or 2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.op import Op, Update
from .samples import indices

Shape = tuple[int, ...]

_LOW = 0xFFFFFFFF


def _philox(blocks: np.ndarray, stream: int, seed: int) -> np.ndarray:
    """The words of these blocks, uint32 of shape (blocks, 4)."""
    multipliers = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
    keys = np.array([seed & _LOW, seed >> 32 & _LOW], np.uint64)
    # Words 0 and 2 are multiplied, words 1 and 3 only mixed in; each pair is an array (blocks, 2).
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
    """At least `size` words, of 32 bits for float32 and of 64 for float64."""
    width = np.dtype(dtype).itemsize
    first = position.astype(np.uint64)
    blocks = first + np.arange(-(-size * width // 16), dtype=np.uint64)
    return _philox(blocks, stream, int(seed[0])).reshape(-1).view(f"<u{width}")


def _negative_log(u: np.ndarray) -> np.ndarray:
    """-log(u) for float64 u in (0, 1]; relative error below 4e-16, and 0 at 1.

    u = 2^e m with m nearest 1, and log m = 2 atanh(s) with s = (m - 1) / (m + 1), |s| < 0.172:
    eleven terms of its Taylor series leave out less than 2e-17 of it.
    """
    bits = u.view(np.int64)
    e = (bits - 0x3FE6A09E667F3BCD) >> 52  # 0 from sqrt(1/2) to sqrt(2)
    m = (bits - (e << 52)).view(np.float64)
    s = (m - 1) / (m + 1)
    z = s * s
    tail = _polynomial([2 / (2 * i + 3) for i in range(10)], z)
    return -e * 0.6931471805599453 - (2 * s + s * (z * tail))


def _cosine_sine(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of 2 pi `turns`, float64, turns in [0, 1); absolute error below 2e-16.

    By quadrant; within one the angle is at most pi/4 from its middle, where eight terms of sine's
    Taylor series and nine of cosine's leave out less than 1e-16.
    """
    quadrant = (4 * turns + 0.5).astype(np.int64)
    x = 6.283185307179586 * (turns - 0.25 * quadrant)
    z = x * x
    c = _polynomial([(-1) ** (i + 1) / math.factorial(2 * i + 2) for i in range(8)], z)
    s = _polynomial([(-1) ** (i + 1) / math.factorial(2 * i + 3) for i in range(7)], z)
    cosine, sine = 1 + z * c, x + x * (z * s)
    odd = quadrant % 2 == 1
    a, b = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    return np.where((quadrant + 1) & 2, -a, a), np.where(quadrant & 2, -b, b)


def _polynomial(coefficients: list[float], z: np.ndarray) -> np.ndarray:
    """c[0] + z c[1] + z^2 c[2] + ..., by Horner's rule."""
    total = np.full_like(z, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = c + z * total
    return total


# --------------------------------------------------------------------------------- references
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
    """low + (high - low) u, u of 24 or 53 bits; what rounding takes to `high` is put below it."""
    size, real = math.prod(shape), np.dtype(dtype).type
    words = _words(position, seed, stream, size, dtype)[:size]
    drop, unit = (8, real(2.0**-24)) if real is np.float32 else (11, real(2.0**-53))
    a, b = real(low), real(high)
    x = a + (b - a) * ((words >> drop).astype(real) * unit)
    return np.where(x < b, x, np.nextafter(b, a)).reshape(shape)


def _normal(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Shape, dtype: Any
) -> np.ndarray:
    """sqrt(-2 log u) (cos, sin)(2 pi t) of each two words (Box and Muller 1958).

    u in (0, 1] has 32 or 53 bits, so no number exceeds sqrt(64 log 2) = 6.6604 in float32 and
    sqrt(106 log 2) = 8.5717 in float64. Relative error below 1e-15, then rounded to the dtype.
    """
    size, single = math.prod(shape), np.dtype(dtype).itemsize == 4
    drop, unit = (0, 2.0**-32) if single else (11, 2.0**-53)
    pairs = (_words(position, seed, stream, size, dtype) >> drop).reshape(-1, 2).astype(np.float64)
    radius = np.sqrt(2 * _negative_log((pairs[:, 0] + 1) * unit))
    cosine, sine = _cosine_sine(pairs[:, 1] * unit)
    both = np.stack([radius * cosine, radius * sine], axis=1)
    return both.reshape(-1)[:size].astype(dtype).reshape(shape)


def _laplace(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Shape, dtype: Any
) -> np.ndarray:
    """-log u with the sign of the word's lowest bit.

    u in (0, 1] has 31 or 53 bits, so no number exceeds 31 log 2 = 21.49 in float32 and
    53 log 2 = 36.74 in float64. Relative error below 4e-16, then rounded to the dtype.
    """
    size, single = math.prod(shape), np.dtype(dtype).itemsize == 4
    drop, unit = (1, 2.0**-31) if single else (11, 2.0**-53)
    words = _words(position, seed, stream, size, dtype)[:size]
    x = _negative_log(((words >> drop).astype(np.float64) + 1) * unit)
    return np.where(words & 1, -x, x).astype(dtype).reshape(shape)


def _bernoulli(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Shape, dtype: Any, p: float
) -> np.ndarray:
    """1 where the 32-bit word is below p 2^32, whatever the dtype."""
    size = math.prod(shape)
    words = _words(position, seed, stream, size)[:size]
    return (words < np.uint64(round(p * 2**32))).astype(dtype).reshape(shape)


def _permutation(position: np.ndarray, seed: np.ndarray, *, stream: int, n: int) -> np.ndarray:
    """Fisher and Yates's shuffle, from the front: i goes to place j <= i, what was there to i.

    j = (word i) (i + 1) >> 32, so no place is likelier than another by more than n / 2^32.
    """
    words = _words(position, seed, stream, n)
    out = list(range(n))
    for i, word in enumerate(words[:n].tolist()):
        j = word * (i + 1) >> 32
        out[i] = out[j]
        out[j] = i
    return np.array(out, np.int64)


# -------------------------------------------------------------------------------------- the ops
_COUNTER = (indices(1, below=1 << 40), indices(1, below=1 << 62))


def _samples(**attributes: Any) -> list[tuple[Any, ...]]:
    kinds = [((3, 5), "float64"), ((7,), "float32"), ((), "float64"), ((2, 0), "float32")]
    return [
        (*_COUNTER, {"stream": -5, "shape": shape, "dtype": np.dtype(dtype), **attributes})
        for shape, dtype in kinds
    ]


_NO_VJP = (None, None)
random_uniform = Op("random_uniform", _uniform, _NO_VJP, _samples(low=-1.0, high=3.0), dtypes="i")
random_normal = Op("random_normal", _normal, _NO_VJP, _samples(), dtypes="i")
random_laplace = Op("random_laplace", _laplace, _NO_VJP, _samples(), dtypes="i")
random_bernoulli = Op("random_bernoulli", _bernoulli, _NO_VJP, _samples(p=0.3), dtypes="i")
random_permutation = Op(
    "random_permutation", _permutation, _NO_VJP, [(*_COUNTER, {"stream": 3, "n": 10})], dtypes="i"
)


def _advance(position: np.ndarray, blocks: int) -> None:
    """position += blocks."""
    position += blocks


def _reseed(position: np.ndarray, seed: np.ndarray, to_position: int, to_seed: int) -> None:
    """Put a stream at a position of a seed's sequence."""
    position[0], seed[0] = to_position, to_seed


advance = Update("advance", _advance, "int64(1)")
reseed = Update("reseed", _reseed, "int64(1) int64(1)", writes=(0, 1))
