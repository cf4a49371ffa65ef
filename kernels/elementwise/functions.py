"""exp, tanh and log1p in float32 from + - * / alone, so that LLVM can vectorize a loop of them.

libm's functions are called for one element at a time. These have no calls and no branches: they
write x = n ln 2 + r with |r| <= ln 2 / 2, sum the Taylor series of expm1(r), and scale by 2^n. With
degree 7 the remainder of the series is below r^8 / 8! < 6e-9, a tenth of a unit in the last place
of float32. In float64, which gradient checks use, the functions are libm's.
"""

import math

import numpy as np
from numba import float32, types
from numba.extending import overload

from ..runtime.cpu.compiler import jit

LOG2_E = float32(1.4426950408889634)
LN2_HIGH = float32(0.693359375)  # 9 bits: n * LN2_HIGH is exact (Cody and Waite 1980)
LN2_LOW = float32(-2.12194440054690583e-4)  # ln 2 - LN2_HIGH
# Adding 1.5 * 2^23 rounds x to an integer, and leaves that integer in the low bits of the sum.
ROUNDER = float32(12582912.0)
ROUNDER_BITS = np.int32(0x4B400000)
# Taylor coefficients of expm1(r), and of atanh(s) from s^3 on.
C2, C3, C4, C5, C6, C7 = (float32(1 / math.factorial(k)) for k in range(2, 8))
A3, A5, A7, A9, A11, A13, A15 = (float32(1 / k) for k in range(3, 17, 2))


@jit
def _power_of_two(n):
    """Return 2^n for -126 <= n <= 127, by writing the bits of the exponent."""
    return np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@jit
def _reduce(x):
    """Return (n, expm1(r)) with x = n ln 2 + r. For x = NaN, expm1(r) is NaN."""
    shifted = x * LOG2_E + ROUNDER
    n = shifted - ROUNDER
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    series = r * r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * C7)))))
    return np.int32(np.float32(shifted).view(np.int32) - ROUNDER_BITS), r + series


@jit
def exp_float32(x):
    """Return e^x within 2 units in the last place; 0 below -104, inf above 88.73."""
    low, high = float32(-105.0), float32(89.0)
    clipped = low if x < low else (high if x > high else x)  # NaN stays NaN
    n, expm1 = _reduce(clipped)
    half = n >> np.int32(1)  # There are two factors, as 2^n for n = -151 or 128 exceeds float32.
    return (float32(1.0) + expm1) * _power_of_two(half) * _power_of_two(n - half)


@jit
def tanh_float32(x):
    """Return tanh(x) = sign(x) (e^2|x| - 1) / (e^2|x| + 1), relative error below 4e-7."""
    magnitude = abs(x)
    limit = float32(10.0)  # tanh(10) rounds to 1
    clipped = limit if magnitude > limit else magnitude
    n, expm1 = _reduce(clipped + clipped)
    scale = _power_of_two(n)
    e = scale * expm1 + (scale - float32(1.0))
    y = e / (e + float32(2.0))
    return math.copysign(y, x)


@jit
def log1p_unit_float32(x):
    """Return log(1 + x) for 0 <= x <= 1, NaN for NaN; relative error below 2e-7.

    log(1 + x) = 2 atanh(s) with s = x / (2 + x) <= 1/3. The terms of the series
    s + s^3/3 + s^5/5 + ... that are left out, from s^17 / 17 on, are below 2e-9 of the sum.
    """
    s = x / (x + float32(2.0))
    z = s * s
    tail = A3 + z * (A5 + z * (A7 + z * (A9 + z * (A11 + z * (A13 + z * A15)))))
    return (s + s) + (s + s) * (z * tail)


@jit
def at_least(x, low):
    """Return max(x, low), NaN where x is NaN."""
    return low if x < low else x


def exp(x):
    """Return e^x in compiled code: a polynomial in float32, libm's in float64."""
    raise NotImplementedError("compiled code only")


def tanh(x):
    """Return tanh(x) in compiled code: a polynomial in float32, libm's in float64."""
    raise NotImplementedError("compiled code only")


def log1p_unit(x):
    """Return log(1 + x) for 0 <= x <= 1 in compiled code: a polynomial in float32."""
    raise NotImplementedError("compiled code only")


@overload(exp, inline="never")
def _exp(x):
    # numba compares the signature with that of a Python function, hence the lambdas.
    return (lambda x: exp_float32(x)) if x == types.float32 else (lambda x: math.exp(x))  # noqa: PLW0108


@overload(tanh, inline="never")
def _tanh(x):
    return (lambda x: tanh_float32(x)) if x == types.float32 else (lambda x: math.tanh(x))  # noqa: PLW0108


@overload(log1p_unit, inline="never")
def _log1p_unit(x):
    return (lambda x: log1p_unit_float32(x)) if x == types.float32 else (lambda x: math.log1p(x))  # noqa: PLW0108
