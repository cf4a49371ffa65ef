"""Kernels as tutorials print them run unchanged in the emulator, in both builds."""

from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

import minigan as mg

SOURCE = Path(__file__).with_name("tutorial_kernels.cu")
FAST, CHECKED = (mg.cuda.compile(SOURCE, build=build) for build in ("fast", "checked"))
pytestmark = [
    needs_compiler,
    pytest.mark.parametrize("module", [FAST, CHECKED], ids=["fast", "checked"]),
]
BLOCK = 128


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def blocks(n, size):
    return -(-n // size)


@pytest.mark.parametrize("n", [1, 1001])
def test_saxpy(module, rng, n):
    x, y = rng.standard_normal((2, n), np.float32)
    expected = np.float32(2.5) * x + y
    for kernel, grid in (("saxpy", blocks(n, 256)), ("saxpy_grid_stride", 2)):
        z = y.copy()
        getattr(module, kernel)[grid, 256](n, 2.5, x, z)
        assert np.allclose(z, expected, rtol=1e-6, atol=1e-6)
    x, z = x.copy(), y.copy()  # at addresses that are multiples of 16
    module.saxpy_vectorized[blocks(n // 4 or 1, 128), 128](n, 2.5, x, z)
    assert np.allclose(z, expected, rtol=1e-6, atol=1e-6)


def test_a_misaligned_vector_ends_the_launch(module):
    x, y = np.ones((2, 101), np.float32)
    with pytest.raises(mg.cuda.KernelError, match=r"thread \(0, 0, 0\) .* no multiple of") as error:
        module.saxpy_vectorized[1, 32](100, 1.0, x[1:], y[1:])
    assert "saxpy_vectorized (tutorial_kernels.cu" in str(error.value)
    module.saxpy[1, 128](100, 1.0, x, y)
    assert np.array_equal(y, [2] * 100 + [1])


@pytest.mark.parametrize("kernel", ["matmul_naive", "matmul_tiled"])
def test_matrix_product(module, rng, kernel):
    m, n, k = 19, 37, 23
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    c = np.full((m, n), np.nan, np.float32)
    getattr(module, kernel)[(blocks(n, 16), blocks(m, 16)), (16, 16)](a, b, c, m, n, k)
    assert np.allclose(c, a @ b, rtol=1e-5, atol=1e-5)


def test_reductions(module, rng):
    n = 1003
    x = rng.standard_normal(n).astype(np.float32)
    grid = blocks(n, 2 * BLOCK)
    sums = np.empty(grid, np.float32)
    module.reduce_tree[grid, BLOCK, 4 * BLOCK](x, sums, n)
    parts = [x[i : i + 2 * BLOCK].sum() for i in range(0, n, 2 * BLOCK)]
    assert np.allclose(sums, parts, atol=1e-4)
    total = np.zeros(1, np.float32)
    module.reduce_shuffle[3, BLOCK](x, total, n)
    assert np.allclose(total, x.sum(), atol=1e-4)


def test_prefix_sums(module, rng):
    n = 201
    x = rng.integers(-9, 9, n, dtype=np.int32)
    y = np.empty_like(x)
    module.scan_inclusive[1, 256, 2 * 4 * 256](x, y, n)
    assert np.array_equal(y, np.cumsum(x))
    z = np.empty(n, np.float32)
    module.scan_exclusive[1, BLOCK](x.astype(np.float32), z, n)
    assert np.array_equal(z, np.cumsum(x) - x)


@pytest.mark.parametrize("kernel", ["histogram_global", "histogram_shared"])
def test_histogram(module, rng, kernel):
    data = rng.integers(0, 256, 1501, dtype=np.uint8)
    counts = np.zeros(256, np.uint32)
    getattr(module, kernel)[2, 96](data, data.size, counts)
    assert np.array_equal(counts, np.bincount(data, minlength=256))


@pytest.mark.parametrize("kernel", ["transpose_naive", "transpose_conflicts", "transpose_padded"])
def test_transpose(module, rng, kernel):
    height, width = 45, 67
    x = rng.standard_normal((height, width), np.float32)
    y = np.empty((width, height), np.float32)
    grid = blocks(width, 32), blocks(height, 32)
    getattr(module, kernel)[grid, (32, 8)](y, x, width, height)
    assert np.array_equal(y, x.T)


def test_stencils(module, rng):
    n = 301
    x = rng.standard_normal(n).astype(np.float32)
    weights = np.arange(1, 8, dtype=np.float32)
    module.variable("c_weights").view("f")[:] = weights
    y = np.empty(n, np.float32)
    module.stencil_1d[blocks(n, BLOCK), BLOCK](x, y, n)
    assert np.allclose(y, np.correlate(np.pad(x, 3), weights, "valid"), atol=1e-4)
    height, width = 21, 35
    image = rng.standard_normal((height, width), np.float32)
    out = np.empty_like(image)
    module.stencil_2d[(blocks(width, 16), blocks(height, 16)), (16, 16)](image, out, width, height)
    p = np.pad(image, 1)
    neighbours = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:]
    assert np.allclose(out, 0.2 * (image + neighbours), atol=1e-5)


def test_softmax_and_layer_norm_of_rows(module, rng):
    rows, cols = 5, 201
    x = rng.standard_normal((rows, cols), np.float32)
    y = np.empty_like(x)
    module.softmax_rows[rows, BLOCK](x, y, cols)
    e = np.exp(x - x.max(1, keepdims=True))
    assert np.allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)
    gamma, beta = rng.standard_normal((2, cols), np.float32)
    module.layer_norm[blocks(rows, 4), (32, 4)](x, gamma, beta, y, rows, cols, 1e-5)
    normal = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    assert np.allclose(y, normal * gamma + beta, atol=1e-5)


def test_bitonic_sort(module, rng):
    x = rng.integers(-1000, 1000, 201, dtype=np.int32)
    expected = np.sort(x)
    module.bitonic_sort[1, 256, 4 * 256](x, x.size)
    assert np.array_equal(x, expected)


def test_monte_carlo_pi(module):
    hits = module.variable("total_hits").view("u8")
    hits[:] = 0
    module.monte_carlo_pi[4, 64](50, 1)
    assert abs(4 * hits[0] / (4 * 64 * 50) - np.pi) < 0.06


def test_printf(module, capsys):
    module.hello[2, 2]()
    lines = [f"Hello from block {i}, thread {j}\n" for i in (0, 1) for j in (0, 1)]
    assert capsys.readouterr().out == "".join(lines)


def test_the_padded_tile_has_no_bank_conflicts(module):
    """32 x 32 elements: each warp writes a row of the tile and reads a column."""
    x, y = np.ones((2, 32, 32), np.float32)
    counts = {}
    for kernel in ("transpose_naive", "transpose_conflicts", "transpose_padded"):
        before = module.counts
        getattr(module, kernel)[1, (32, 8)](y, x, 32, 32)
        counts[kernel] = module.counts - before
    passes = {kernel: (c.shared_accesses, c.passes) for kernel, c in counts.items()}
    sectors = {kernel: (c.accesses, c.sectors) for kernel, c in counts.items()}
    if module is FAST:
        assert set(passes.values()) == {(0, 0)}
        return
    assert passes == {
        "transpose_naive": (0, 0),
        "transpose_conflicts": (64, 32 + 32 * 32),
        "transpose_padded": (64, 64),
    }
    # A row of 32 floats has 4 sectors; a column of them 32.
    assert sectors == {
        "transpose_naive": (64, 32 * 4 + 32 * 32),
        "transpose_conflicts": (64, 64 * 4),
        "transpose_padded": (64, 64 * 4),
    }
