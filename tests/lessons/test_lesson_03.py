"""Lesson 03: the answers to its exercises."""

import platform

import numba
import numpy as np
import pytest

from minigan.kernels.matmul.cpu import matmul
from minigan.kernels.matmul.optimization_steps import _naive as naive
from minigan.kernels.runtime.cpu.compiler import vector_bytes

NAME = "03_cpu_kernels"
pytestmark = pytest.mark.slow


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
