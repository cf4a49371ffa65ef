"""The tiles of the CUDA product: edges, layouts, bank conflicts; and asynchronous copies."""

from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler
from matmul_helpers import LAYOUTS, edge_shapes, on_device

from minigan.kernels.matmul.cuda import TILES, multiply
from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator.emulator import Emulator

pytestmark = needs_compiler
# By tile: its kernel's name, its edge, and the threads of a block.
ALL_TILES = pytest.mark.parametrize("tile", TILES, ids=[name for name, *_ in TILES])


def product(gpu, tile, a, b, depth=4096):
    """Return a @ b by one tile."""
    operands = on_device(gpu, a), on_device(gpu, b)
    return gpu.to_numpy(multiply(gpu, *operands, None, (), (*tile, depth)))


@ALL_TILES
@pytest.mark.parametrize("layout_a", LAYOUTS)
@pytest.mark.parametrize("layout_b", LAYOUTS)
def test_the_edges_of_a_tile(tile, layout_a, layout_b, rng):
    """Sizes below, at and above the tile's, in each layout, on the checked build."""
    gpu, edge = Emulator(checked=True), tile[1]
    for m, k, n in edge_shapes(edge):
        a, b = (rng.standard_normal(shape).astype("f") for shape in ((m, k), (k, n)))
        c = product(gpu, tile, LAYOUTS[layout_a](a), LAYOUTS[layout_b](b))
        expected = a.astype("d") @ b.astype("d")
        np.testing.assert_allclose(c, expected, rtol=0, atol=2e-5)


def test_the_bits_depend_on_neither_tile_nor_layout(rng):
    """Each element is one chain of fused multiply-adds, k rising."""
    gpu = Emulator()
    a, b = rng.standard_normal((70, 50)).astype("f"), rng.standard_normal((50, 90)).astype("f")
    expected = product(gpu, TILES[0], a, b)
    for tile in TILES:
        for layout in LAYOUTS.values():
            np.testing.assert_array_equal(product(gpu, tile, layout(a), layout(b)), expected)


# How a (128, 128) operand lies in an array of 128 rows: along k, in packs, in single elements.
STORED = {
    "rows": lambda x: x[:, :128],
    "columns": lambda x: x[:, :128].T,
    "unaligned columns": lambda x: x[:, 1:].T,
}


@ALL_TILES
@pytest.mark.parametrize("stored_a", STORED)
@pytest.mark.parametrize("stored_b", STORED)
def test_no_access_to_shared_memory_has_a_bank_conflict(tile, stored_a, stored_b, rng):
    gpu = Emulator(checked=True)
    a, b = (gpu.from_numpy(rng.standard_normal((128, 136)).astype("f")) for _ in "ab")
    a, b = STORED[stored_a](a), STORED[stored_b](b)
    before = gpu.counts
    multiply(gpu, a[:, :128], b[:128, :128], None, (), (*tile, 4096))
    counts = gpu.counts - before
    assert counts.passes == counts.ideal_passes > 0
    if "unaligned" not in stored_a + stored_b:
        assert counts.sectors == counts.ideal_sectors


@ALL_TILES
def test_nan_and_infinity_stay_in_their_rows_and_columns(tile):
    a, b = np.ones((70, 40), "f"), np.ones((40, 70), "f")
    a[3, 5], b[7, 9] = np.nan, np.inf
    c = product(Emulator(checked=True), tile, a, b)
    assert np.isnan(c[3]).all()
    assert np.isinf(np.delete(c[:, 9], 3)).all()
    rest = np.delete(np.delete(c, 3, 0), 9, 1)
    np.testing.assert_array_equal(rest, 40)


# --------------------------------------------------------------------------- asynchronous copies
KERNEL = """
#include "async_copy.h"
extern "C" __global__ void copy(In<REAL> x, Out<REAL> y, long long n) {
    SHARED(REAL, tile, 64);
    AsyncCopies<REAL, 4> copies;
    const int i = threadIdx.x * PACK_SIZE;
    copies.template start<PACK_SIZE>(tile + i, x + i, static_cast<int>(n) - i);
    copies.wait();
    __syncthreads();
    for (int k = threadIdx.x; k < 64; k += blockDim.x) y[k] = tile[(k + 16) % 64];
}
"""


def copy(tmp_path: Path, text: str, n: int, dtype: str = "float32"):
    source = tmp_path / "copy.cu"
    source.write_text(text)
    gpu = Emulator(checked=True)
    x, y = gpu.from_numpy(np.arange(1, n + 1).astype(dtype)), gpu.empty((64,), dtype)
    threads = 64 * np.dtype(dtype).itemsize // 16
    gpu.launch(source, "copy", np.dtype(dtype), (1,), (threads,), [x, y, n])
    return gpu.to_numpy(y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [64, 61, 1])
def test_an_asynchronous_copy_fills_with_zeros(tmp_path, n, dtype):
    """Exactly n elements are read; the checked build would report another."""
    expected = np.zeros(64)
    expected[:n] = np.arange(1, n + 1)
    np.testing.assert_array_equal(copy(tmp_path, KERNEL, n, dtype), np.roll(expected, -16))


@pytest.mark.parametrize("line", ["    copies.wait();\n", "    __syncthreads();\n"])
def test_a_tile_that_is_read_too_early_is_reported(tmp_path, line):
    with pytest.raises(KernelError, match=r"reads tile\[\d+\], which nothing has written before"):
        copy(tmp_path, KERNEL.replace(line, ""), 64)
