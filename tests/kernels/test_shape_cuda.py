"""CUDA copies and transpositions: tiles and their edges, aligned and unaligned views."""

import numpy as np
import pytest
from emulator_helpers import needs_compiler

from minigan.kernels.elementwise.cuda import copy_to
from minigan.kernels.runtime.emulator.emulator import Emulator
from minigan.kernels.shape import cuda

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("blocks", [1, 10**9], ids=["large tiles", "small tiles"])
@pytest.mark.parametrize("shape", [(64, 64), (65, 63), (2, 129, 31), (3, 32, 96), (1, 2)])
def test_a_transposed_copy(shape, blocks, dtype, rng, monkeypatch):
    """Both tiles, whole and at the edges; `TARGET_BLOCKS` chooses."""
    monkeypatch.setattr(cuda, "TARGET_BLOCKS", blocks)
    gpu = Emulator(checked=True)
    x = gpu.from_numpy((rng.standard_normal(shape) * 9).astype(dtype))
    y = cuda.contiguous_copy(gpu, np.swapaxes(x, -1, -2))
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(gpu.to_numpy(y), np.swapaxes(x, -1, -2))


def test_a_large_tile_has_no_bank_conflict_and_moves_whole_sectors(monkeypatch):
    monkeypatch.setattr(cuda, "TARGET_BLOCKS", 1)
    gpu = Emulator(checked=True)
    x = gpu.from_numpy(np.zeros((128, 128), "f"))
    before = gpu.counts
    cuda.contiguous_copy(gpu, x.T)
    counts = gpu.counts - before
    assert counts.passes == counts.ideal_passes > 0
    assert counts.sectors == counts.ideal_sectors > 0


# (size of the array, first and last element of the part that is written)
PARTS = [
    (5000, 0, 5000),
    (4096, 0, 4096),
    (4097, 1, 4097),
    (5000, 4, 4999),
    (3, 1, 2),
    (1024, 0, 1023),
    (1030, 0, 1025),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize(("size", "first", "last"), PARTS)
def test_copies_and_fills_of_a_part_leave_the_rest(size, first, last, dtype):
    """At least one block of Packs, a part of one, elements behind it; aligned or not."""
    gpu = Emulator(checked=True)
    y = gpu.from_numpy(np.zeros(size, dtype))
    x = gpu.from_numpy((np.arange(last - first) % 5 + 1).astype(dtype))
    copy_to(gpu, y[first:last], x)
    expected = np.zeros(size, dtype)
    expected[first:last] = x
    np.testing.assert_array_equal(gpu.to_numpy(y), expected)
    copy_to(gpu, y[first:last], 1)
    expected[first:last] = 1
    np.testing.assert_array_equal(gpu.to_numpy(y), expected)


def test_a_fill_of_a_strided_view():
    gpu = Emulator(checked=True)
    y = gpu.from_numpy(np.zeros((6, 10), "f"))
    copy_to(gpu, y[1::2, ::3], 2.5)
    expected = np.zeros((6, 10))
    expected[1::2, ::3] = 2.5
    np.testing.assert_array_equal(gpu.to_numpy(y), expected)
