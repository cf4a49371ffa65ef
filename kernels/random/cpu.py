"""Counter-based random numbers: each is a function of seed, stream, block and position in it.

Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3")
maps a 128-bit counter and a 64-bit key to a block of four 32-bit words. Here the key is the seed,
and the counter is (block number, stream), 64 bits each, low word first. No block depends on another
one, so vector lanes and threads can share the work in any way with the same bits.

    for each part of the output:                          threads share out the parts
        for each chunk of the part:
            words = Philox of CHUNK_BLOCKS blocks         vectorized: 8 blocks per instruction
            numbers = uniform | normal | laplace | bernoulli of the words        vectorized

Optimizations:
    - Cache blocking: the words of a chunk stay in the first-level cache.
    - Vectorization: the inner loops have no branches and no calls; the ten rounds are unrolled.
    - Multithreading from MIN_PARALLEL_BLOCKS on.

Logarithm, sine and cosine are Taylor polynomials in float64 of + - x / sqrt, each operation
rounded on its own (no fused multiply-add, no libm), and numbers are rounded once to the output's
dtype. So numpy, numba and CUDA give the same bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts

CHUNK_BLOCKS = 128  # blocks whose words are computed at once: 2 KiB
MIN_PARALLEL_BLOCKS = 16384  # with fewer, a second thread costs more than it saves

# ------------------------------------------------------------------------------- 32-bit words
LOW_MASK, WORD_BITS = np.uint64(0xFFFFFFFF), np.uint64(32)
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@jit(inline="always")
def philox(block: Any, stream: Any, seed: Any) -> Any:
    """Return the four words of a block, as uint64, which holds the product of two words."""
    c0, c1 = block & LOW_MASK, block >> WORD_BITS
    c2, c3 = stream & LOW_MASK, stream >> WORD_BITS
    k0, k1 = seed & LOW_MASK, seed >> WORD_BITS
    for _ in range(10):
        p, q = MULTIPLIER_0 * c0, MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (q >> WORD_BITS) ^ c1 ^ k0,
            q & LOW_MASK,
            (p >> WORD_BITS) ^ c3 ^ k1,
            p & LOW_MASK,
        )
        k0, k1 = (k0 + WEYL_0) & LOW_MASK, (k1 + WEYL_1) & LOW_MASK
    return c0, c1, c2, c3


@jit
def fill_words(words: Any, first: Any, stream: Any, seed: Any) -> None:
    """Write block first + i to words[4 i : 4 i + 4]; all but `words` (uint32) are uint64."""
    for i in range(words.size // 4):
        w0, w1, w2, w3 = philox(first + np.uint64(i), stream, seed)
        words[4 * i] = w0
        words[4 * i + 1] = w1
        words[4 * i + 2] = w2
        words[4 * i + 3] = w3


# ----------------------------------------------------------------- logarithm, sine and cosine
LN2, TWO_PI = 0.6931471805599453, 6.283185307179586
SQRT_HALF_BITS = np.int64(0x3FE6A09E667F3BCD)  # sqrt(1/2) in float64
# Series without their first terms: 2 atanh(s) for |s| <= 0.172, sin and cos up to pi/4.
ATANH = tuple(2 / (2 * i + 3) for i in range(10))
SINE = tuple((-1) ** (i + 1) / math.factorial(2 * i + 3) for i in range(7))
COSINE = tuple((-1) ** (i + 1) / math.factorial(2 * i + 2) for i in range(8))


@jit
def polynomial(coefficients: Any, z: Any) -> Any:
    """Return c[0] + z c[1] + z^2 c[2] + ..., by Horner's rule."""
    total = coefficients[-1]
    for i in range(len(coefficients) - 2, -1, -1):
        total = coefficients[i] + z * total
    return total


@jit(error_model="numpy")
def negative_log(u: Any) -> Any:
    """Return -log(u) for u in (0, 1].

    u = 2^e m with m in [sqrt(1/2), sqrt(2)), and log m = 2 atanh((m - 1) / (m + 1)).
    """
    bits = np.float64(u).view(np.int64)
    e = (bits - SQRT_HALF_BITS) >> 52
    m = np.int64(bits - (e << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    return -e * LN2 - (2.0 * s + s * (z * polynomial(ATANH, z)))


@jit
def cosine_sine(t: Any) -> Any:
    """Return cos and sin of 2 pi t for t in [0, 1).

    The angle is reduced to its nearest multiple of pi/2 and a remainder of at most pi/4.
    """
    quadrant = np.int64(4.0 * t + 0.5)
    x = TWO_PI * (t - 0.25 * quadrant)
    z = x * x
    cosine = 1.0 + z * polynomial(COSINE, z)
    sine = x + x * (z * polynomial(SINE, z))
    a, b = (sine, cosine) if quadrant & 1 else (cosine, sine)
    return -a if (quadrant + 1) & 2 else a, -b if quadrant & 2 else b


# --------------------------------------------------------------------------- words to numbers
# All have the parameters of `uniform`, so that `_fill` can call any of them.
# `words` have 32 bits for a float32 output. For float64 they have 64: two words of a block each.
@jit
def uniform(words: Any, out: Any, low: Any, high: Any) -> None:
    """Write low + (high - low) u, computed in out's dtype, for u in [0, 1) of 24 or 53 bits.

    A result that would round up to `high` becomes the number just below it.
    """
    real = out.dtype.type
    shift, unit = (8, real(2.0**-24)) if out.itemsize == 4 else (11, real(2.0**-53))
    a, b = real(low), real(high)
    width, largest = b - a, np.nextafter(b, a)
    for i in range(out.size):
        x = a + width * (real(words.dtype.type(words[i] >> shift)) * unit)
        out[i] = x if x < b else largest


@jit(inline="always")
def box_muller(word_0: Any, word_1: Any, shift: Any, unit: Any) -> Any:
    """Return two normal numbers, sqrt(-2 log u) (cos, sin)(2 pi t), u in (0, 1], t in [0, 1)."""
    radius = math.sqrt(2.0 * negative_log((np.float64(word_0 >> shift) + 1.0) * unit))
    cosine, sine = cosine_sine(np.float64(word_1 >> shift) * unit)
    return radius * cosine, radius * sine


@jit
def normal(words: Any, out: Any, _a: Any, _b: Any) -> None:
    """Write normal numbers 2 i and 2 i + 1 from words 2 i and 2 i + 1 (Box and Muller 1958)."""
    shift, unit = (0, 2.0**-32) if out.itemsize == 4 else (11, 2.0**-53)
    for i in range(out.size // 2):
        a, b = box_muller(words[2 * i], words[2 * i + 1], shift, unit)
        out[2 * i] = a
        out[2 * i + 1] = b
    if out.size % 2:
        out[-1] = box_muller(words[out.size - 1], words[out.size], shift, unit)[0]


@jit
def laplace(words: Any, out: Any, _a: Any, _b: Any) -> None:
    """Write -log u for u in (0, 1] of 31 or 53 bits, with the word's lowest bit as the sign."""
    shift, unit = (1, 2.0**-31) if out.itemsize == 4 else (11, 2.0**-53)
    for i in range(out.size):
        x = negative_log((np.float64(words[i] >> shift) + 1.0) * unit)
        out[i] = -x if words[i] & 1 else x


@jit
def bernoulli(words: Any, out: Any, threshold: Any, _b: Any) -> None:
    """Write 1 where the word is less than `threshold`, else 0."""
    for i in range(out.size):
        out[i] = 1.0 if words[i] < threshold else 0.0


# ------------------------------------------------------------------------------ whole outputs
@jit(inline="always")
def _fill(
    convert: Any,
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
    """Fill the part of `out`, which is flat, that comes from the blocks begin..end.

    `convert` makes the numbers of words, which have the dtype of `like`, uint32 or uint64.
    """
    words = np.empty(4 * CHUNK_BLOCKS, np.uint32)
    typed_words, numbers_per_block = words.view(like.dtype), 16 // like.itemsize
    first, key = np.uint64(position[0] + begin), np.uint64(seed[0])
    chunk = out[begin * numbers_per_block : end * numbers_per_block]
    for start in range(0, chunk.size, typed_words.size):
        fill_words(words, first, np.uint64(stream), key)
        first += np.uint64(CHUNK_BLOCKS)
        convert(typed_words, chunk[start : start + typed_words.size], a, b)


# A kernel for each kind of numbers, so that a program compiles only those that it draws.
@jit
def draw_uniform(
    out: Any, position: Any, seed: Any, stream: Any, like: Any, a: Any, b: Any, begin: Any, end: Any
) -> None:
    """Draw uniform numbers in [a, b)."""
    _fill(uniform, out, position, seed, stream, like, a, b, begin, end)


@jit
def draw_normal(
    out: Any, position: Any, seed: Any, stream: Any, like: Any, a: Any, b: Any, begin: Any, end: Any
) -> None:
    """Draw normal numbers; a and b are not used."""
    _fill(normal, out, position, seed, stream, like, a, b, begin, end)


@jit
def draw_laplace(
    out: Any, position: Any, seed: Any, stream: Any, like: Any, a: Any, b: Any, begin: Any, end: Any
) -> None:
    """Draw Laplace numbers; a and b are not used."""
    _fill(laplace, out, position, seed, stream, like, a, b, begin, end)


@jit
def draw_bernoulli(
    out: Any, position: Any, seed: Any, stream: Any, like: Any, a: Any, b: Any, begin: Any, end: Any
) -> None:
    """Draw 1 where a word is less than a, else 0; b is not used."""
    _fill(bernoulli, out, position, seed, stream, like, a, b, begin, end)


@jit
def shuffle(out: Any, position: Any, seed: Any, stream: Any) -> None:
    """Write a permutation: for i = 0, 1, ..., out[i] = out[j], out[j] = i with a random j <= i."""
    first, key = np.uint64(position[0]), np.uint64(seed[0])
    words = np.empty(4 * CHUNK_BLOCKS, np.uint32)
    for i in range(out.size):
        position_in_chunk = i % words.size
        if position_in_chunk == 0:
            fill_words(words, first + np.uint64(i // 4), np.uint64(stream), key)
        j = np.int64((np.uint64(words[position_in_chunk]) * np.uint64(i + 1)) >> WORD_BITS)
        out[i] = out[j]
        out[j] = i


# ----------------------------------------------------------------------------------- in Python
# Arrays with the dtype of the words, for numba, by the itemsize of the output.
_WORDS: dict[int, np.ndarray] = {4: np.empty(0, np.uint32), 8: np.empty(0, np.uint64)}


def _draw(kernel: Any, shape: Any, dtype: Any, a: float, b: float, *counter: Any) -> np.ndarray:
    """Return the numbers of a kernel; the counter is position, seed and stream."""
    out = empty(shape, dtype)
    # A Bernoulli number takes a word of 32 bits in each dtype.
    like = _WORDS[4 if kernel is draw_bernoulli else out.itemsize]
    blocks = -(-out.size // (16 // like.itemsize))
    arguments = out.reshape(-1), *counter, like, a, b
    launch(kernel, *arguments, over=blocks, parts=parts(blocks, MIN_PARALLEL_BLOCKS))
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
    """Return uniform numbers in [low, high)."""
    return _draw(draw_uniform, shape, dtype, low, high, position, seed, stream)


def random_normal(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Any, dtype: Any
) -> np.ndarray:
    """Return normal numbers of mean 0 and variance 1."""
    return _draw(draw_normal, shape, dtype, 0.0, 0.0, position, seed, stream)


def random_laplace(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Any, dtype: Any
) -> np.ndarray:
    """Return numbers of density exp(-|x|) / 2."""
    return _draw(draw_laplace, shape, dtype, 0.0, 0.0, position, seed, stream)


def random_bernoulli(
    position: np.ndarray, seed: np.ndarray, *, stream: int, shape: Any, dtype: Any, p: float
) -> np.ndarray:
    """Return numbers that are 1 with probability p, else 0."""
    return _draw(draw_bernoulli, shape, dtype, float(round(p * 2**32)), 0.0, position, seed, stream)


def random_permutation(
    position: np.ndarray, seed: np.ndarray, *, stream: int, n: int
) -> np.ndarray:
    """Return 0 .. n - 1 in random order (Fisher and Yates; Durstenfeld 1964)."""
    out = empty((n,), np.int64)
    launch(shuffle, out, position, seed, stream)
    return out


@jit
def add_blocks(position: Any, blocks: Any) -> None:
    """Compute position += blocks."""
    position[0] += blocks


def advance(position: np.ndarray, *, blocks: int) -> None:
    """Advance a stream: position += blocks, in place."""
    launch(add_blocks, position, blocks)


@jit
def set_counter(position: Any, seed: Any, to_position: Any, to_seed: Any) -> None:
    """Compute position = to_position, seed = to_seed."""
    position[0] = to_position
    seed[0] = to_seed


def reseed(position: np.ndarray, seed: np.ndarray, *, to_position: int, to_seed: int) -> None:
    """Set a stream to a seed and a position, in place."""
    launch(set_counter, position, seed, to_position, to_seed)


KERNELS = {
    "random_uniform": random_uniform,
    "random_normal": random_normal,
    "random_laplace": random_laplace,
    "random_bernoulli": random_bernoulli,
    "random_permutation": random_permutation,
    "advance": advance,
    "reseed": reseed,
}
