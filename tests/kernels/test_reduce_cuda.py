"""CUDA reductions: each length of a row, any alignment, and bits that depend on the shape only."""

import numpy as np
import pytest
from emulator_helpers import needs_compiler
from helpers import FLOATS

from minigan.kernels.reduce import cuda
from minigan.kernels.runtime.emulator.emulator import Emulator

pytestmark = needs_compiler
KINDS = {"sum": np.sum, "max": np.max}


def shifted(x: np.ndarray, shift: int) -> np.ndarray:
    """Return x, `shift` elements behind a multiple of 64 bytes, in memory that is NaN elsewhere."""
    memory = np.full(x.size + 128, np.nan if x.dtype.kind == "f" else 7, x.dtype)
    first = -(memory.ctypes.data // x.itemsize) % (64 // x.itemsize) + shift
    view = memory[first : first + x.size].reshape(x.shape)
    view[...] = x
    return view


@FLOATS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3, 31, 127, 255, 256, 257, 1023, 4095, 4096, 4097, 9001])
def test_rows_of_each_length_and_alignment(size, kind, dtype, rng):
    """Short rows take a warp, others a block; at odd lengths only some rows are aligned."""
    gpu = Emulator(checked=True)
    x = rng.standard_normal((3, size)).astype(dtype)
    results = [cuda.reduce(gpu, shifted(x, s), (1,), False, kind) for s in (0, 1)]
    np.testing.assert_array_equal(*results)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(
        results[0], KINDS[kind](x.astype("d"), 1), rtol=0, atol=tolerance * size**0.5
    )


@FLOATS
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_row_takes_two_launches(kind, dtype, rng, monkeypatch):
    """Each block reduces several times BLOCK_ELEMENTS if there would be more than MAX_PARTS."""
    monkeypatch.setattr(cuda, "MAX_PARTS", 3)
    gpu, launches = Emulator(), []
    launch = gpu.launch
    gpu.launch = lambda *args: (launches.append(args[1]), launch(*args))[1]
    x = rng.standard_normal((2, 50_001)).astype(dtype)
    y = cuda.reduce(gpu, x, (1,), False, kind)
    assert launches == [f"{kind}_rows", f"{kind}_short_rows"]
    np.testing.assert_allclose(y, KINDS[kind](x.astype("d"), 1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 300, 128), (2, 7, 132), (3, 1, 4), (2, 513, 8)])
def test_packs_of_columns_have_the_bits_of_single_columns(kind, shape, rng, monkeypatch):
    gpu = Emulator(checked=True)
    x = gpu.from_numpy(rng.standard_normal(shape).astype("f"))
    results = []
    for blocks in (1, 10**9):  # that fill a GPU
        monkeypatch.setattr(cuda, "TARGET_BLOCKS", blocks)
        results.append(gpu.to_numpy(cuda.reduce(gpu, x, (1,), False, kind)))
    np.testing.assert_array_equal(*results)
    expected = KINDS[kind](gpu.to_numpy(x).astype("d"), 1)
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_maximum_with_nan_is_nan_and_one_of_minus_infinity_is_that(axis):
    x = np.full((40, 300), -np.inf, "f")
    x[3, 290], x[7, 5] = np.nan, 2.0
    y = cuda.reduce(Emulator(checked=True), x, (axis,), False, "max")
    np.testing.assert_array_equal(y, np.max(x, axis))


def test_int64_sums_are_exact():
    x = np.arange(-5000, 7001, dtype=np.int64).reshape(1, -1) * 10**14
    assert cuda.reduce(Emulator(checked=True), x, (1,), False, "sum").tolist() == [x.sum()]
