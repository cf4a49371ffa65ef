"""Random numbers by counter: each is a function of (seed, stream, block, place in block) alone.

Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3")
turns a 128-bit counter and a 64-bit key into a block of four 32-bit words. Here the key is the
seed and the counter is (block number, stream), 64 bits each, low word first. Nothing is carried
from one block to the next, so vector lanes and threads share the work in any way and the bits stay.

    for each piece of the output:                          shared among threads
        for each chunk of the piece:
            words = Philox of 128 blocks                   8 blocks to a vector instruction
            numbers = uniform | normal | laplace | bernoulli of the words

Optimizations: a chunk's words stay in the first-level cache; both inner loops are free of branches
and calls, so that they vectorise; the ten rounds are unrolled.

Logarithm, sine and cosine are Taylor polynomials in float64 from + - x / sqrt, each operation
rounded on its own (no fused multiply-add, no libm), and numbers are rounded once to the output's
dtype: so numpy, numba and CUDA give the same bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts

CHUNK = 128  # blocks whose words are made at once: 2 KiB
PIECE = 8 * CHUNK  # blocks that a thread takes at once
PARALLEL_FROM = 16 * PIECE  # blocks; below, a launch costs more than a second thread saves

# ------------------------------------------------------------------------------- 32-bit words
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@jit(inline="always")
def philox(block: Any, stream: Any, seed: Any) -> Any:
    """The four words of a block. Each is held in 64 bits, where a product of two has room."""
    c0, c1 = block & LOW, block >> HALF
    c2, c3 = stream & LOW, stream >> HALF
    k0, k1 = seed & LOW, seed >> HALF
    for _ in range(10):
        p, q = MULTIPLIER_0 * c0, MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (q >> HALF) ^ c1 ^ k0, q & LOW, (p >> HALF) ^ c3 ^ k1, p & LOW
        k0, k1 = (k0 + WEYL_0) & LOW, (k1 + WEYL_1) & LOW
    return c0, c1, c2, c3


@jit
def fill_words(words: Any, first: Any, stream: Any, seed: Any) -> None:
    """words[4 i : 4 i + 4] = block first + i; all but `words` (uint32) are uint64."""
    for i in range(words.size // 4):
        w0, w1, w2, w3 = philox(first + np.uint64(i), stream, seed)
        words[4 * i] = w0
        words[4 * i + 1] = w1
        words[4 * i + 2] = w2
        words[4 * i + 3] = w3


# ----------------------------------------------------------------- logarithm, sine and cosine
LN2, TAU = 0.6931471805599453, 6.283185307179586
SQRT_HALF_BITS = np.int64(0x3FE6A09E667F3BCD)  # sqrt(1/2) in float64
# The series after their first terms: 2 atanh(s) for |s| <= 0.172, sin and cos up to pi/4.
ATANH = tuple(2 / (2 * i + 3) for i in range(10))
SINE = tuple((-1) ** (i + 1) / math.factorial(2 * i + 3) for i in range(7))
COSINE = tuple((-1) ** (i + 1) / math.factorial(2 * i + 2) for i in range(8))


@jit
def polynomial(coefficients: Any, z: Any) -> Any:
    """c[0] + z c[1] + z^2 c[2] + ..., by Horner's rule."""
    total = coefficients[-1]
    for i in range(len(coefficients) - 2, -1, -1):
        total = coefficients[i] + z * total
    return total


@jit(error_model="numpy")
def negative_log(u: Any) -> Any:
    """-log(u), u in (0, 1]: u = 2^e m, m nearest 1, and log m = 2 atanh((m - 1) / (m + 1))."""
    bits = np.float64(u).view(np.int64)
    e = (bits - SQRT_HALF_BITS) >> 52
    m = np.int64(bits - (e << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    return -e * LN2 - (2.0 * s + s * (z * polynomial(ATANH, z)))


@jit
def cosine_sine(turns: Any) -> Any:
    """cos and sin of 2 pi `turns`, turns in [0, 1): by quadrant, and the angle from its middle."""
    quadrant = np.int64(4.0 * turns + 0.5)
    x = TAU * (turns - 0.25 * quadrant)
    z = x * x
    cosine = 1.0 + z * polynomial(COSINE, z)
    sine = x + x * (z * polynomial(SINE, z))
    a, b = (sine, cosine) if quadrant & 1 else (cosine, sine)
    return -a if (quadrant + 1) & 2 else a, -b if quadrant & 2 else b


# --------------------------------------------------------------------------- words to numbers
# `words` are 32 bits wide for float32; for float64 they are 64, two words of a block each.
@jit
def uniform(words: Any, out: Any, low: Any, high: Any) -> None:
    """low + (high - low) u, in the output's dtype, u in [0, 1) of 24 or 53 bits; below `high`."""
    real = out.dtype.type
    drop, unit = (8, real(2.0**-24)) if out.itemsize == 4 else (11, real(2.0**-53))
    a, b = real(low), real(high)
    span, top = b - a, np.nextafter(b, a)
    for i in range(out.size):
        x = a + span * (real(words.dtype.type(words[i] >> drop)) * unit)
        out[i] = x if x < b else top


@jit(inline="always")
def box_muller(word_0: Any, word_1: Any, drop: Any, unit: Any) -> Any:
    """Two normal numbers: sqrt(-2 log u) (cos, sin)(2 pi t), u in (0, 1], t in [0, 1)."""
    radius = math.sqrt(2.0 * negative_log((np.float64(word_0 >> drop) + 1.0) * unit))
    cosine, sine = cosine_sine(np.float64(word_1 >> drop) * unit)
    return radius * cosine, radius * sine


@jit
def normal(words: Any, out: Any) -> None:
    """Words 2 i and 2 i + 1 give numbers 2 i and 2 i + 1 (Box and Muller 1958)."""
    drop, unit = (0, 2.0**-32) if out.itemsize == 4 else (11, 2.0**-53)
    for i in range(out.size // 2):
        a, b = box_muller(words[2 * i], words[2 * i + 1], drop, unit)
        out[2 * i] = a
        out[2 * i + 1] = b
    if out.size % 2:
        out[-1] = box_muller(words[out.size - 1], words[out.size], drop, unit)[0]


@jit
def laplace(words: Any, out: Any) -> None:
    """-log u, u in (0, 1] of 31 or 53 bits, its sign the lowest bit of the word."""
    drop, unit = (1, 2.0**-31) if out.itemsize == 4 else (11, 2.0**-53)
    for i in range(out.size):
        x = negative_log((np.float64(words[i] >> drop) + 1.0) * unit)
        out[i] = -x if words[i] & 1 else x


@jit
def bernoulli(words: Any, out: Any, below: Any) -> None:
    """1 where the word is less than `below`, else 0."""
    for i in range(out.size):
        out[i] = 1.0 if words[i] < below else 0.0


# ------------------------------------------------------------------------------- the schedule
UNIFORM, NORMAL, LAPLACE, BERNOULLI = range(4)


@jit
def fill(
    kind: Any, out: Any, first: Any, stream: Any, seed: Any, like: Any, a: Any, b: Any
) -> None:
    """One thread's share: out = numbers of this kind from block `first` on."""
    words = np.empty(4 * CHUNK, np.uint32)
    wide = words.view(like.dtype)
    step = words.size if kind == BERNOULLI else wide.size
    for start in range(0, out.size, step):
        fill_words(words, first, stream, seed)
        first += np.uint64(CHUNK)
        chunk = out[start : start + step]
        if kind == UNIFORM:
            uniform(wide, chunk, a, b)
        elif kind == NORMAL:
            normal(wide, chunk)
        elif kind == LAPLACE:
            laplace(wide, chunk)
        else:
            bernoulli(words, chunk, a)


@jit
def draw(
    kind: Any,
    out: Any,
    position: Any,
    seed: Any,
    stream: Any,
    like: Any,
    a: Any,
    b: Any,
    begin: Any,
    end: Any,
) -> None:
    """What the blocks begin..end of four words make of `out`, which is flat."""
    first, key = np.uint64(position[0] + begin), np.uint64(seed[0])
    each = 4 if kind == BERNOULLI else 16 // like.itemsize
    fill(kind, out[begin * each : end * each], first, np.uint64(stream), key, like, a, b)


@jit
def shuffle(out: Any, position: Any, seed: Any, stream: Any) -> None:
    """out = a permutation: for i = 0, 1, ...: put i at place j <= i, what was there at place i."""
    first, key = np.uint64(position[0]), np.uint64(seed[0])
    words = np.empty(4 * CHUNK, np.uint32)
    for i in range(out.size):
        place = i % words.size
        if place == 0:
            fill_words(words, first + np.uint64(i // 4), np.uint64(stream), key)
        j = np.int64((np.uint64(words[place]) * np.uint64(i + 1)) >> HALF)
        out[i] = out[j]
        out[j] = i


# ----------------------------------------------------------------------------------- the host
_WORDS = {4: np.empty(0, np.uint32), 8: np.empty(0, np.uint64)}


def _draw(kind: int, shape: Any, dtype: Any, a: float, b: float, *counter: Any) -> np.ndarray:
    out = empty(shape, dtype)
    blocks = -(-out.size // (4 if kind == BERNOULLI else 16 // out.itemsize))
    many = parts(blocks, PARALLEL_FROM)
    like = _WORDS[out.itemsize]
    launch(draw, kind, out.reshape(-1), *counter, like, a, b, over=blocks, parts=many)
    return out


def random_uniform(
    position: np.ndarray,
    seed: np.ndarray,
    *,
    stream: int,
    shape: Any,
    dtype: Any,
    low: float,
    high: float,
) -> np.ndarray:
    """Uniform in [low, high)."""
    return _draw(UNIFORM, shape, dtype, low, high, position, seed, stream)


def random_normal(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Any, dtype: Any
) -> np.ndarray:
    """Mean 0, variance 1."""
    return _draw(NORMAL, shape, dtype, 0.0, 0.0, position, seed, stream)


def random_laplace(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Any, dtype: Any
) -> np.ndarray:
    """Density exp(-|x|) / 2."""
    return _draw(LAPLACE, shape, dtype, 0.0, 0.0, position, seed, stream)


def random_bernoulli(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Any, dtype: Any, p: float
) -> np.ndarray:
    """1 with probability p, else 0."""
    return _draw(BERNOULLI, shape, dtype, float(round(p * 2**32)), 0.0, position, seed, stream)


def random_permutation(
    position: np.ndarray, seed: np.ndarray, *, stream: int, n: int
) -> np.ndarray:
    """0 .. n - 1 in random order (Fisher and Yates; Durstenfeld 1964)."""
    out = empty((n,), np.int64)
    launch(shuffle, out, position, seed, stream)
    return out


@jit
def move_on(position: Any, blocks: Any) -> None:
    """position += blocks."""
    position[0] += blocks


def advance(position: np.ndarray, *, blocks: int) -> None:
    """position += blocks."""
    launch(move_on, position, blocks)


@jit
def put(position: Any, seed: Any, to_position: Any, to_seed: Any) -> None:
    """Put a stream at a position of a seed's sequence."""
    position[0] = to_position
    seed[0] = to_seed


def reseed(position: np.ndarray, seed: np.ndarray, *, to_position: int, to_seed: int) -> None:
    """Put a stream at a position of a seed's sequence."""
    launch(put, position, seed, to_position, to_seed)


KERNELS = {
    "random_uniform": random_uniform,
    "random_normal": random_normal,
    "random_laplace": random_laplace,
    "random_bernoulli": random_bernoulli,
    "random_permutation": random_permutation,
    "advance": advance,
    "reseed": reseed,
}
