"""CUDA convolutions: the three faces, their tiles and splits, and the optimization steps."""

import math

import numpy as np
import pytest
from emulator_helpers import CUDA_DEVICES, needs_compiler
from helpers import FLOATS, LAYOUTS, assert_close, place
from hypothesis import given
from hypothesis import strategies as st

from minigan.engine.cuda import CudaDevice
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.kernels.conv2d import cuda
from minigan.kernels.conv2d.cuda_optimization_steps import STEPS
from minigan.kernels.conv2d.geometry import output_size
from minigan.kernels.matmul.split_k import TARGET_BLOCKS
from minigan.kernels.runtime.emulator.emulator import Emulator

OP = {name: Op.registry[name] for name in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")}
FACES = pytest.mark.parametrize("face", OP)
# n, c, o, (height, width), (kh, kw), stride, padding
CASES = [
    (1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0)),
    (2, 3, 4, (6, 6), (4, 4), (2, 2), (1, 1)),
    (3, 5, 17, (9, 7), (3, 5), (2, 3), (2, 1)),
    (2, 3, 65, (7, 5), (5, 3), (3, 1), (1, 2)),
    (1, 2, 3, (7, 9), (2, 1), (3, 4), (0, 0)),  # a kernel smaller than the stride
    (2, 2, 2, (3, 3), (2, 2), (5, 4), (0, 1)),  # a stride larger than the image
    (2, 1, 2, (2, 3), (4, 5), (1, 1), (3, 2)),  # a kernel larger than the image
    (5, 17, 16, (5, 5), (3, 3), (1, 1), (1, 1)),  # one more than a tile's rows; depth in splits
    (0, 2, 3, (5, 5), (3, 3), (1, 1), (1, 1)),
]
ALL_CASES = pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))


def _operands(case, dtype, seed=0):
    """Return x, w, g and the attributes that all three faces share."""
    n, c, o, size, kernel, stride, padding = case
    shape = output_size(size, kernel, stride, padding)
    rng = np.random.default_rng(seed)
    draw = lambda *s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    window = {"stride": stride, "padding": padding}
    return draw(n, c, *size), draw(o, c, *kernel), draw(n, o, *shape), window


def _call(face, case, dtype):
    """Return the arrays and attributes of one face."""
    x, w, g, window = _operands(case, dtype)
    return {
        "conv2d": ((x, w), window),
        "conv2d_input_grad": ((g, w), {"size": x.shape[2:], **window}),
        "conv2d_weight_grad": ((x, g), {"kernel": w.shape[2:], **window}),
    }[face]


def _expected(face, arrays, attributes):
    """Return the float64 reference and a bound for a chain of fmas (Higham 2002, section 3.1)."""
    exact = [a.astype(np.float64) for a in arrays]
    with np.errstate(invalid="ignore"):
        expected = OP[face].reference(*exact, **attributes)
    sizes = [np.nan_to_num(np.abs(a), posinf=0) for a in exact]
    size = OP[face].reference(*sizes, **attributes).max(initial=0)
    first, second = (a.shape for a in arrays)
    terms = math.prod(first[1:]) if face != "conv2d_weight_grad" else math.prod(first)
    terms = max(terms, math.prod(second[1:]))
    return expected, (terms + 1) * float(np.finfo(arrays[0].dtype).eps) / 2 * size


def _check(target, face, arrays, attributes):
    expected, bound = _expected(face, arrays, attributes)
    originals = [a.copy() for a in arrays]
    inputs = tuple(place(target.name, a) for a in arrays)
    result = target.to_numpy(target.run(OP[face], inputs, attributes))
    assert result.dtype == arrays[0].dtype
    assert_close(result, expected, bound, face)
    for a, before in zip(inputs, originals, strict=True):
        assert np.array_equal(target.to_numpy(a), before, equal_nan=True)
    return result


# ------------------------------------------------------------------------------------- references
@FACES
@CUDA_DEVICES
@ALL_CASES
@FLOATS
def test_each_face_agrees_with_its_reference(poisoned_device, face, case, dtype):
    _check(poisoned_device, face, *_call(face, case, dtype))


@FACES
@CUDA_DEVICES
@given(data=st.data())
def test_each_face_agrees_with_its_reference_at_any_shape(device, face, data):
    one, few = st.integers(1, 4), st.integers(1, 9)
    stride, kernel, padding = (data.draw(st.tuples(few, few)), *data.draw(_kernel_and_padding()))
    size = tuple(
        data.draw(st.integers(max(1, k - 2 * p), 12)) for k, p in zip(kernel, padding, strict=True)
    )
    case = (data.draw(one), data.draw(few), data.draw(st.integers(1, 20)), size, kernel)
    _check(get_device(device), face, *_call(face, (*case, stride, padding), "float32"))


def _kernel_and_padding():
    side, zeros = st.integers(1, 5), st.integers(0, 3)
    return st.tuples(st.tuples(side, side), st.tuples(zeros, zeros))


@FACES
@CUDA_DEVICES
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_arrays_may_have_any_strides(device, face, first, second):
    arrays, attributes = _call(face, CASES[2], "float32")
    arrays = LAYOUTS[first](arrays[0]), LAYOUTS[second](arrays[1])
    _check(get_device(device), face, arrays, attributes)


@needs_compiler
def test_offsets_beyond_2_to_the_31_elements_are_right():
    """The images are gigabytes apart, in memory that is mostly never touched."""
    x, w, g, window = _operands((3, 2, 3, (5, 6), (3, 3), (1, 1), (1, 1)), "float32")
    stride = 2**30 + 8
    try:
        memory = np.empty(2 * stride + 64, "f")
    except MemoryError:
        pytest.skip("no address space of 8 GiB")
    spaced = np.lib.stride_tricks.as_strided(memory, x.shape, (4 * stride, *x.strides[1:]))
    spaced[...] = x
    gpu = Emulator()
    for from_dense, from_spaced in (
        [cuda.conv2d(gpu, y, w, **window) for y in (x, spaced)],
        [cuda.conv2d_weight_grad(gpu, y, g, kernel=(3, 3), **window) for y in (x, spaced)],
        [
            cuda.conv2d_input_grad(gpu, y, w.swapaxes(0, 1), size=(5, 6), **window)
            for y in (x, spaced)
        ],
    ):
        assert np.array_equal(from_dense, from_spaced)


@FACES
@CUDA_DEVICES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_nan_and_infinity_are_where_the_reference_has_them(device, face, value, which):
    """An infinite weight times the zeros around an image, or around g, is NaN."""
    for stride, padding in (((1, 1), (1, 2)), ((2, 2), (2, 1)), ((3, 4), (0, 0))):
        case = (2, 3, 5, (7, 6), (3, 4), stride, padding)
        arrays, attributes = _call(face, case, "float32")
        arrays[which][0, 1, 0, 0] = arrays[which][-1, -1, -1, -1] = value
        result = _check(get_device(device), face, arrays, attributes)
        assert 0 < np.isfinite(result).sum() < result.size


@CUDA_DEVICES
def test_the_gradient_of_pixels_without_a_weight_is_zero(device):
    arrays, attributes = _call("conv2d_input_grad", CASES[4], "float32")
    x = _check(get_device(device), "conv2d_input_grad", arrays, attributes)
    assert (x[:, :, 2::3] == 0).all()
    assert (x[:, :, :, 1::4] == 0).all()
    assert (x[:, :, :2, 0] != 0).all()


@CUDA_DEVICES
@FLOATS
def test_the_faces_are_adjoint_to_each_other(device, dtype):
    """<conv(x, w), g> == <x, input_grad(g, w)> == <w, weight_grad(x, g)>, to rounding."""
    target = get_device(device)
    for case in CASES[1:-1]:
        x, w, g, _ = _operands(case, dtype)
        results = []
        for face, other in zip(OP, (g, x, w), strict=True):
            arrays, attributes = _call(face, case, dtype)
            inputs = tuple(place(device, a) for a in arrays)
            y = target.to_numpy(target.run(OP[face], inputs, attributes))
            results.append(np.vdot(y.astype(np.float64), other.astype(np.float64)))
        bound = 64 * float(np.finfo(dtype).eps) * math.sqrt(x.size * w.size)
        assert results[1:] == pytest.approx(results[:1] * 2, abs=bound)


# ------------------------------------------------------------------------------ tiles and splits
def _set_plan(monkeypatch, tile, depth):
    monkeypatch.setattr(cuda, "plan", lambda *shape: (tile, depth))


TILES = pytest.mark.parametrize("tile", cuda.TILES, ids=lambda tile: tile.name)


def _exists(tile, face, dtype):
    return tile.name != "128" or (dtype == "float32" and face != "conv2d_weight_grad")


@TILES
@FACES
@CUDA_DEVICES
@FLOATS
def test_every_tile_and_split_has_the_same_bits(device, face, tile, dtype, monkeypatch):
    """A split is one chain of multiply-adds, whatever the tile it is part of."""
    if not _exists(tile, face, dtype):
        pytest.skip("there is no such kernel")
    for case in (
        (2, 9, 66, (5, 6), (3, 2), (2, 1), (1, 1)),
        (3, 19, 5, (7, 7), (3, 3), *[(1, 1)] * 2),
    ):
        arrays, attributes = _call(face, case, dtype)
        for depth in (16, 48, 1024):
            _set_plan(monkeypatch, tile, depth)
            result = _check(get_device(device), face, arrays, attributes)
            _set_plan(monkeypatch, cuda.TILES[1], depth)
            by_middle_tile = _check(get_device(device), face, arrays, attributes)
            assert np.array_equal(result, by_middle_tile)


@CUDA_DEVICES
def test_a_split_is_a_chain_of_multiply_adds(device):
    """To the bit: each split is one chain, k rising, and the splits are added in order."""
    x, w, _, window = _operands((1, 40, 1, (3, 3), (3, 3), (1, 1), (0, 0)), "float32")
    _, depth = cuda.plan(1, 1, 360, np.dtype("float32"), False, 1)
    assert depth < 360
    partial = []
    for first in range(0, 360, depth):
        total = np.float32(0)
        for a, b in zip(x.ravel()[first : first + depth], w.ravel()[first:], strict=False):
            # float64 holds the product exactly, and the sum unless it needs more than 53 bits.
            total = np.float32(np.float64(a) * np.float64(b) + np.float64(total))
        partial.append(total)
    expected = np.float32(0)
    for part in partial:
        expected = np.float32(expected + part)
    target = get_device(device)
    inputs = tuple(place(device, a) for a in (x, w))
    assert target.to_numpy(target.run(OP["conv2d"], inputs, window)).item() == expected


def test_splits_fill_a_gpu_and_are_not_too_short():
    """Few tiles have many splits; each split has at least MIN_SPLIT_DEPTH steps."""
    for m, n, k in ((1, 1, 1), (49, 128, 8192), (12544, 64, 1024), (576, 64, 50176), (9, 1, 10**6)):
        for dtype in map(np.dtype, ("float32", "float64")):
            tile, depth = cuda.plan(m, n, k, dtype, False, 1)
            assert depth % cuda.DEPTH_MULTIPLE == 0
            assert depth >= min(k, cuda.MIN_SPLIT_DEPTH)
            tiles = -(-m // tile.rows) * -(-n // tile.columns)
            assert tiles * -(-k // depth) >= min(
                TARGET_BLOCKS // 2, tiles * (k // cuda.MIN_SPLIT_DEPTH)
            )


class Recorder(Emulator):
    """Records launches instead of running them."""

    def __init__(self):
        super().__init__()
        self.launches = []

    def _prepare(self, source, kernel, dtype, grid, block, arguments, shared_bytes):
        self.launches.append((math.prod(grid), math.prod(block)))
        return lambda describe: None


@FACES
@FLOATS
@pytest.mark.parametrize("shape", [(64, 64, 128, 14), (128, 1, 64, 28), (64, 512, 512, 4)], ids=str)
def test_every_launch_fills_a_gpu(face, dtype, shape):
    """At least 132 blocks of 128 threads: one per multiprocessor of an H200."""
    n, c, o, edge = shape
    recorder = Recorder()
    zeros = lambda *shape: np.broadcast_to(np.zeros((), dtype), shape)  # noqa: E731
    half = {"stride": (2, 2), "padding": (1, 1)}
    x, w, g = zeros(n, c, edge, edge), zeros(o, c, 4, 4), zeros(n, o, edge // 2, edge // 2)
    arrays = {"conv2d": (x, w), "conv2d_input_grad": (g, w), "conv2d_weight_grad": (x, g)}[face]
    if face == "conv2d_input_grad":
        half["size"] = (edge, edge)
    elif face == "conv2d_weight_grad":
        half["kernel"] = (4, 4)
    CudaDevice("recorder", recorder).run(OP[face], arrays, half)
    blocks, threads = recorder.launches[0]
    assert blocks >= 132
    assert threads >= 128


# ------------------------------------------------------------------------------------- the checks
CHECKED = CudaDevice("cuda-emulator", Emulator(checked=True))


@pytest.mark.slow
@FACES
@needs_compiler
@FLOATS
def test_each_face_passes_the_checks(face, dtype):
    """No access out of bounds, no uninitialised read, no race: for any strides, with NaN too."""
    for case in CASES:
        arrays, attributes = _call(face, case, dtype)
        _check(CHECKED, face, arrays, attributes)
    for layout in LAYOUTS.values():
        arrays, attributes = _call(face, CASES[2], dtype)
        arrays[1][0, 0, 0, 0] = np.nan
        _check(CHECKED, face, tuple(map(layout, arrays)), attributes)


@TILES
@FACES
@needs_compiler
def test_every_tile_passes_the_checks(face, tile, monkeypatch):
    if not _exists(tile, face, "float32"):
        pytest.skip("there is no such kernel")
    arrays, attributes = _call(face, (2, 5, 66, (5, 6), (3, 2), (2, 1), (1, 1)), "float32")
    for depth in (16, 1024):
        _set_plan(monkeypatch, tile, depth)
        _check(CHECKED, face, arrays, attributes)


@FACES
@needs_compiler
@FLOATS
@pytest.mark.parametrize("step", [1, 2])
def test_memory_is_read_in_whole_sectors(face, dtype, step):
    """The threads of a warp take adjacent positions, which lie `stride` pixels apart."""
    gpu = Emulator(checked=True)
    side = 16 * step
    window = {"stride": (step, step), "padding": (0, 0)}
    rng = np.random.default_rng(0)
    x, w, g = (
        gpu.from_numpy(rng.standard_normal(shape).astype(dtype))
        for shape in ((2, 16, side, side), (64, 16, step, step), (2, 64, 16, 16))
    )
    before = gpu.counts
    if face == "conv2d":
        cuda.conv2d(gpu, x, w, **window)
    elif face == "conv2d_input_grad":
        cuda.conv2d_input_grad(gpu, g, w, size=(side, side), **window)
    else:
        cuda.conv2d_weight_grad(gpu, x, g, kernel=(step, step), **window)
    counts = gpu.counts - before
    assert counts.accesses > 0
    assert counts.sectors <= 2 * counts.ideal_sectors, counts.sectors / counts.ideal_sectors
    # Copies and products have no bank conflicts; those of the decoded indices are few.
    assert counts.passes <= 1.02 * counts.ideal_passes, counts.passes / counts.ideal_passes


# ---------------------------------------------------------------------------- optimization steps
ALL = pytest.mark.parametrize("step", STEPS)


def _run_step(launcher, step, case, dtype):
    (x, w), window = _call("conv2d", case, dtype)
    return launcher.to_numpy(STEPS[step](launcher, *map(launcher.from_numpy, (x, w)), **window))


@ALL
@CUDA_DEVICES
@ALL_CASES
@FLOATS
def test_every_step_is_right_and_has_the_bits_of_the_first(poisoned_device, step, case, dtype):
    expected, bound = _expected("conv2d", *_call("conv2d", case, dtype))
    result = _run_step(poisoned_device.launcher, step, case, dtype)
    assert result.dtype == dtype
    assert_close(result, expected, bound, step)
    assert np.array_equal(result, _run_step(poisoned_device.launcher, "direct", case, dtype))


@pytest.mark.slow
@ALL
@needs_compiler
@FLOATS
def test_every_step_passes_the_checks(step, dtype):
    for case in (CASES[1], CASES[2], CASES[3]):
        _run_step(Emulator(checked=True), step, case, dtype)


@ALL
@CUDA_DEVICES
def test_every_step_propagates_nan(device, step):
    launcher = get_device(device).launcher
    (x, w), window = _call("conv2d", CASES[2], "float32")
    x[0, 1, 2, 3], w[3, 1, 0, 0] = np.nan, np.inf
    expected, bound = _expected("conv2d", (x, w), window)
    result = STEPS[step](launcher, *map(launcher.from_numpy, (x, w)), **window)
    assert_close(launcher.to_numpy(result), expected, bound, step)
    assert 0 < np.isfinite(expected).sum() < expected.size


@needs_compiler
def test_each_step_accesses_less_memory_than_the_one_before():
    """As the checked emulator counts it; all but im2col, which also writes its matrix."""
    sectors = {}
    for step in STEPS:
        gpu = Emulator(checked=True)
        _run_step(gpu, step, (2, 16, 64, (8, 8), (3, 3), (1, 1), (1, 1)), "float32")
        sectors[step] = gpu.counts.sectors
    direct, im2col, implicit, additive = sectors.values()
    assert direct > 4 * implicit > 8 * additive, sectors
    assert direct > im2col > additive, sectors
