"""What the peaks' kernels compute, what is counted and what is refused; never how long it takes."""

import time

import numba
import numpy as np
import pytest
from helpers import FLOATS, threads

from minigan.kernels.runtime.cpu import peak, thread_pool

ROWS = pytest.mark.parametrize("rows", [1, 2, 3])
TWO = pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba has one thread here")


def _inside(rows, dtype, fill):
    """(memory, its middle rows): what lies around them must not change."""
    memory = np.full((rows + 2, peak.CHAIN_BYTES // np.dtype(dtype).itemsize), fill, dtype)
    return memory, memory[1:-1]


# ------------------------------------------------------------------------------ the kernels
@ROWS
@FLOATS
@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_each_chain_is_multiplied_and_added_to(rows, dtype, count, rng):
    memory, z = _inside(rows, dtype, 5)
    start = rng.integers(-1000, 1000, z.shape).astype(dtype)
    for factor in (1, -1, 0):
        expected = start
        for _ in range(count):
            expected = factor * expected + 3
        z[:] = start
        peak.multiply_add(z, factor, 3, count)
        assert (z == expected).all(), factor
    assert (memory[[0, -1]] == 5).all()


@FLOATS
def test_the_product_is_not_rounded_before_it_is_added(dtype):
    _, z = _inside(1, dtype, 0)
    d = np.dtype(dtype).type(2.0) ** -(np.finfo(dtype).nmant // 2 + 1)
    z[:] = 1 + d  # (1 + d)^2 = 1 + 2d + d^2, and d^2 is lost where the square is rounded
    peak.multiply_add(z, 1 + d, -(1 + 2 * d), 1)
    assert (z == d * d).all()


@ROWS
@pytest.mark.parametrize("size", [1, 16, 33])
def test_one_array_is_added_to_another(rows, size, rng):
    x, start = rng.integers(-100, 100, (2, rows, size)).astype(np.float32)
    before, y = x.copy(), start.copy()
    peak.add(y, x, 5)
    assert (y == start + 5 * x).all()
    assert (x == before).all()


@TWO
def test_two_threads_compute_the_same(rng):
    _, z = _inside(2, "float32", 0)
    y, x = np.zeros((2, 100), np.float32), rng.integers(0, 9, (2, 100)).astype(np.float32)
    with threads(2):
        peak.multiply_add(z, 1, 2, 50)
        peak.add(y, x, 50)
    assert (z == 100).all()
    assert (y == 50 * x).all()


@FLOATS
@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 1, 1000)])
def test_aligned_memory_begins_at_a_vector(dtype, shape):
    for _ in range(5):
        x = peak.aligned(shape, dtype)
        assert (x.shape, x.dtype) == (shape, dtype)
        assert x.ctypes.data % peak.VECTOR_BYTES == 0
        assert x.flags.c_contiguous
        assert x.flags.writeable


# ------------------------------------------------------------------------------ what is counted
@pytest.fixture
def runs(monkeypatch):
    """Every kernel takes two seconds per count, and the kernels' arguments are kept."""
    calls = []

    def seconds(run):
        for name in ("multiply_add", "add"):
            monkeypatch.setattr(peak, name, lambda *arguments: calls.append(arguments))
        run(1)
        return 2.0

    monkeypatch.setattr(peak, "_seconds", seconds)
    return calls


@FLOATS
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=TWO)])
def test_a_multiply_add_counts_as_two_flop(runs, dtype, count):
    with threads(count):
        rate = peak.fma_rate(dtype, count)
    lanes = peak.VECTOR_BYTES // np.dtype(dtype).itemsize
    assert rate == 2 * count * peak.CHAINS * lanes / 2.0
    z, *_ = runs[0]
    assert z.shape == (count, peak.CHAINS * lanes)
    assert len({row.tobytes() for row in z.reshape(-1, lanes)[: peak.CHAINS]}) == peak.CHAINS


@pytest.mark.parametrize("size", [1, 128, 129, 16384, 100_000])
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=TWO)])
def test_two_loads_and_a_store_are_counted(runs, size, count):
    with threads(count):
        rate = peak.bandwidth(size, count)
    y, x, *_ = runs[0]
    assert rate == 3 * x.nbytes / 2.0
    assert x.shape == y.shape
    assert len(x) == count
    assert x[0].nbytes % peak.VECTOR_BYTES == 0
    assert size <= (x.nbytes + y.nbytes) / count < size + 2 * peak.VECTOR_BYTES


def test_the_best_burst_is_taken(monkeypatch):
    clock, calls = [0.0], []

    def run(count):
        calls.append(count)
        late = {1: 9.0, 20: 0.0}.get(len(calls), 0.5)  # the first compiles; one is undisturbed
        clock[0] += late + count / 1024

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(peak, "MIN_BURST_SECONDS", 0.51)
    monkeypatch.setattr(peak, "BURST_COUNT", 30)
    assert peak._seconds(run) == pytest.approx(1 / 1024)
    assert calls == [1, 1, 2, 4, 8, 16] + 30 * [16]


def test_rates_are_numbers_here():
    for rate in (peak.fma_rate("float32", 1), peak.bandwidth(peak.CACHED_BYTES, 1)):
        assert 0 < rate < float("inf")


# ------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=f"fma_rate: dtype is float32 or float64, not {dtype}"):
        peak.fma_rate(dtype, 1)


@pytest.mark.parametrize("count", [-1, 0, 3])
def test_more_threads_than_available_are_refused(monkeypatch, count):
    monkeypatch.setattr(thread_pool, "threads", lambda: 2)
    with pytest.raises(ValueError, match=f"fma_rate: threads is between 1 and 2.* not {count}"):
        peak.fma_rate("float32", count)
    with pytest.raises(ValueError, match=f"bandwidth: threads is between 1 and 2.* not {count}"):
        peak.bandwidth(64, count)


def test_zero_bytes_are_refused():
    with pytest.raises(ValueError, match="bandwidth: size is at least 1 byte, not 0"):
        peak.bandwidth(0, 1)
