"""Lesson 03: the answers to its exercises, and what its text says."""

import platform

import numba
import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan.bench.machine import thread_count
from minigan.kernels.elementwise.cpu import elementwise
from minigan.kernels.matmul import optimization_steps
from minigan.kernels.matmul.cpu import dense, matmul
from minigan.kernels.matmul.micro import ROWS, VECTORS
from minigan.kernels.runtime.cpu.compiler import vector_bytes

NAME = "03_cpu_kernels"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined before its last figure."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="error of the chain / of blocks")


def test_its_tile_is_the_librarys(lesson):
    assert (lesson["ROWS"], lesson["VECTORS"]) == (ROWS, VECTORS)
    a, b, run = lesson["a"], lesson["b"], lesson["run"]
    tiled = run(lesson["register_tile"], a, b).tobytes()
    assert tiled == matmul(a, b).tobytes() == optimization_steps.one_thread(a, b).tobytes()


def test_the_loops_have_the_bits_of_the_librarys_steps(lesson):
    a, b, run = lesson["a"], lesson["b"], lesson["run"]
    results = [run(lesson[name], a, b) for name in ("naive", "loop_order")]
    names = ("naive", "loop order", "cache blocking")
    results += [optimization_steps.STEPS[name](a, b) for name in names]
    assert len({c.tobytes() for c in results}) == 1


@pytest.mark.parametrize("shape", [(64, 512, 784), (37, 301, 203), (8, 1, 48), (9, 17, 49)])
def test_each_kernel_stays_within_the_bound(lesson, rng, shape):
    m, k, n = shape
    a, b = _normal(rng, m, k), _normal(rng, k, n)
    for kernel in lesson["KERNELS"]:
        assert lesson["error"](lesson["run"](kernel, a, b), a, b) <= 1


@pytest.mark.skipif(vector_bytes() != 64, reason="the text counts for AVX-512")
def test_the_intensity_of_the_tile(lesson):
    assert lesson["INTENSITY"]["register_tile"] == pytest.approx(3.4, abs=0.05)


def test_minigans_sum_has_the_same_bits_with_one_thread_and_with_all(lesson):
    values = lesson["values"]
    sums = [mg.tensor(values).sum().numpy()]
    with thread_count(1):
        sums.append(mg.tensor(values).sum().numpy())
    assert len({x.tobytes() for x in (*sums, lesson["in_blocks"](values, 3))}) == 1


def test_blocks_are_accurate_and_one_chain_is_not(lesson):
    assert lesson["block_error"] < 5
    assert lesson["chain_error"] > 500


def test_a_long_sum_is_cut_where_k_and_the_dtype_say(rng):
    a, b = _normal(rng, 64, 600), _normal(rng, 600, 784)
    whole = matmul(a, b).tobytes()

    def cut(q):
        return (matmul(a[:, :q], b[:q]) + matmul(a[:, q:], b[q:])).tobytes()

    # Two blocks of at most 512, as even as multiples of 16 can be.
    assert [q for q in range(88, 513) if cut(q) == whole] == [304]


# ---------------------------------------------------------------------------------- exercises
def _normal(rng, *shape):
    return rng.standard_normal(shape, np.float32)


@pytest.mark.skipif(
    vector_bytes() < 32 and platform.machine() not in ("aarch64", "arm64"),
    reason="no fused multiply-add here",
)
def test_exercise_1_fused_three_loops_have_the_bits_of_the_tile(rng, lesson):
    naive, a, b = lesson["naive"], _normal(rng, 64, 512), _normal(rng, 512, 784)
    c, fused = np.empty((2, 64, 784), np.float32)
    naive(a, b, c)
    numba.njit(fastmath={"contract"})(naive.py_func)(a, b, fused)
    assert fused.tobytes() == matmul(a, b).tobytes() != c.tobytes()


def test_exercise_2_a_bias_in_the_cache_changes_no_bit(rng):
    for k, n in ((512, 784), (100, 256)):
        a, b, bias = _normal(rng, 64, k), _normal(rng, k, n), _normal(rng, n)
        three_passes = elementwise("add", matmul(a, b), bias)
        assert dense(a, b, bias).tobytes() == three_passes.tobytes()


def test_exercise_3_sums_are_exact_up_to_2_to_the_24(rng):
    assert 5792 * 5793 // 2 <= 2**24 < 5793 * 5794 // 2

    def sums(n):
        orders = (rng.permutation(n) for _ in range(50))
        return {float(np.cumsum((order + 1).astype(np.float32))[-1]) for order in orders}

    assert sums(5792) == {5792 * 5793 / 2}
    assert len(sums(5793)) > 1
