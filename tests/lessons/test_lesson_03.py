"""Lesson 03: errors that its expectations must detect, and the answers to its exercises."""

import platform

import numba
import numpy as np
import pytest

from minigan.kernels.matmul.cpu import matmul
from minigan.kernels.matmul.optimization_steps import _naive as naive
from minigan.kernels.runtime.cpu.compiler import vector_bytes

NAME = "03_cpu_kernels"
# For each expectation: a part of the lesson's source, and the error to plant in its place (by
# test_lessons.py).
pytestmark = pytest.mark.slow

PLANTS = {
    "the layer, all steps: largest error / its bound": (
        "columns, 4 * n, k, output",
        "columns, 4 * n, k - 1, output",
    ),
    "an odd shape, all steps: largest error / its bound": (
        "for row in range(0, len(c), 4):",
        "for row in range(0, len(c) - 3, 4):",
    ),
    "unfused steps, ours and the library's: distinct results": (
        "total = c.dtype.type(0)",
        "total = 0.0",
    ),
    "the tile, mg.ops.matmul: distinct results": (
        "output, 4 * n, 0, 0, 0)",
        "output, 4 * n, 1, 0, 0)",
    ),
    "512 to 784, in three passes, two and one: distinct results": ("row[q] + bias[q]", "row[q]"),
    "100 to 256, in three passes, two and one: distinct results": (
        "z * np.float32(0.2)",
        "z * 0.2",
    ),
    "chunks, by 1 to 4 threads: distinct sums": (
        "np.array_split(values, n)",
        "np.array_split(values, 4)",
    ),
    "blocks, by 1 to 4 threads: distinct sums": (
        "range(BLOCK, len(x), BLOCK)",
        "range(BLOCK * workers, len(x), BLOCK * workers)",
    ),
    "blocks, mg.ops.sum: distinct sums": ("BLOCK, LANES = 4096, 64", "BLOCK, LANES = 4096, 32"),
    "blocks: relative error (units of u)": (
        "np.pad(x, (0, -len(x) % LANES))",
        "x[: len(x) // LANES * LANES]",
    ),
    "one chain: relative error (units of u)": (
        "return np.cumsum(x)[-1]",
        "return np.cumsum(x, dtype=np.float64)[-1]",
    ),
}


# ---------------------------------------------------------------------------------- exercises
def _normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


def test_exercise_1_the_cut_follows_from_k_and_the_dtype(rng):
    a, b = _normal(rng, 64, 600), _normal(rng, 600, 784)
    whole = matmul(a, b).tobytes()

    def cut(q):
        return (matmul(a[:, :q], b[:q]) + matmul(a[:, q:], b[q:])).tobytes()

    # Two blocks of at most 512, as even as multiples of 16 can be.
    assert [q for q in range(88, 513) if cut(q) == whole] == [304]


@pytest.mark.skipif(
    vector_bytes() < 32 and platform.machine() not in ("aarch64", "arm64"),
    reason="no fused multiply-add here",
)
def test_exercise_2_fused_three_loops_have_the_bits_of_the_tile(rng):
    a, b = _normal(rng, 64, 512), _normal(rng, 512, 784)
    c, fused = np.empty((2, 64, 784), np.float32)
    naive(a, b, c)
    numba.njit(fastmath={"contract"})(naive.py_func)(a, b, fused)
    assert fused.tobytes() == matmul(a, b).tobytes() != c.tobytes()


def test_exercise_3_sums_are_exact_up_to_2_to_the_24(rng):
    assert 5792 * 5793 // 2 <= 2**24 < 5793 * 5794 // 2

    def sums(n):
        orders = (rng.permutation(n) for _ in range(50))
        return {float(np.cumsum((order + 1).astype(np.float32))[-1]) for order in orders}

    assert sums(5792) == {5792 * 5793 / 2}
    assert len(sums(5793)) > 1
