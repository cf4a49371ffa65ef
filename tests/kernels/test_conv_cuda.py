"""CUDA convolutions: three faces of one product, their ladder, and where their bits come from."""

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
from minigan.kernels.conv2d.cuda_optimization_steps import RUNGS
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
    """x, w, g and the attributes that all three faces share."""
    n, c, o, size, kernel, stride, padding = case
    shape = cuda.output_size(size, kernel, stride, padding)
    rng = np.random.default_rng(seed)
    draw = lambda *s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    places = {"stride": stride, "padding": padding}
    return draw(n, c, *size), draw(o, c, *kernel), draw(n, o, *shape), places


def _call(face, case, dtype):
    """Arrays and attributes of one face."""
    x, w, g, places = _operands(case, dtype)
    return {
        "conv2d": ((x, w), places),
        "conv2d_input_grad": ((g, w), {"size": x.shape[2:], **places}),
        "conv2d_weight_grad": ((x, g), {"kernel": w.shape[2:], **places}),
    }[face]


def _wanted(face, arrays, attributes):
    """The float64 reference, and a bound for a chain of fmas (Higham 2002, section 3.1)."""
    exact = [a.astype(np.float64) for a in arrays]
    with np.errstate(invalid="ignore"):
        wanted = OP[face].reference(*exact, **attributes)
    sizes = [np.nan_to_num(np.abs(a), posinf=0) for a in exact]
    size = OP[face].reference(*sizes, **attributes).max(initial=0)
    first, second = (a.shape for a in arrays)
    terms = math.prod(first[1:]) if face != "conv2d_weight_grad" else math.prod(first)
    terms = max(terms, math.prod(second[1:]))
    return wanted, (terms + 1) * float(np.finfo(arrays[0].dtype).eps) / 2 * size


def _check(target, face, arrays, attributes):
    wanted, bound = _wanted(face, arrays, attributes)
    kept = [a.copy() for a in arrays]
    there = tuple(place(target.name, a) for a in arrays)
    found = target.to_numpy(target.run(OP[face], there, attributes))
    assert found.dtype == arrays[0].dtype
    assert_close(found, wanted, bound, face)
    for a, before in zip(there, kept, strict=True):
        assert np.array_equal(target.to_numpy(a), before, equal_nan=True)
    return found


# ------------------------------------------------------------------------------------- references
@FACES
@CUDA_DEVICES
@ALL_CASES
@FLOATS
def test_each_face_is_its_meaning(poisoned_device, face, case, dtype):
    _check(poisoned_device, face, *_call(face, case, dtype))


@FACES
@CUDA_DEVICES
@given(data=st.data())
def test_each_face_is_its_meaning_at_any_shape(device, face, data):
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
def test_arrays_lie_as_they_like(device, face, first, second):
    arrays, attributes = _call(face, CASES[2], "float32")
    arrays = LAYOUTS[first](arrays[0]), LAYOUTS[second](arrays[1])
    _check(get_device(device), face, arrays, attributes)


@needs_compiler
def test_places_beyond_2_to_the_31st_element_are_found():
    """Images far apart in a memory that is mostly never touched."""
    x, w, g, places = _operands((3, 2, 3, (5, 6), (3, 3), (1, 1), (1, 1)), "float32")
    step = 2**30 + 8
    try:
        memory = np.empty(2 * step + 64, "f")
    except MemoryError:
        pytest.skip("no address space of 8 GiB")
    far = np.lib.stride_tricks.as_strided(memory, x.shape, (4 * step, *x.strides[1:]))
    far[...] = x
    gpu = Emulator()
    for near, there in (
        [cuda.conv2d(gpu, y, w, **places) for y in (x, far)],
        [cuda.conv2d_weight_grad(gpu, y, g, kernel=(3, 3), **places) for y in (x, far)],
        [cuda.conv2d_input_grad(gpu, y, w.swapaxes(0, 1), size=(5, 6), **places) for y in (x, far)],
    ):
        assert np.array_equal(near, there)


@FACES
@CUDA_DEVICES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_nan_and_infinity_are_where_the_meaning_has_them(device, face, value, which):
    """Zeros around an image, or around g, make NaN of an infinite weight."""
    for stride, padding in (((1, 1), (1, 2)), ((2, 2), (2, 1)), ((3, 4), (0, 0))):
        case = (2, 3, 5, (7, 6), (3, 4), stride, padding)
        arrays, attributes = _call(face, case, "float32")
        arrays[which][0, 1, 0, 0] = arrays[which][-1, -1, -1, -1] = value
        found = _check(get_device(device), face, arrays, attributes)
        assert 0 < np.isfinite(found).sum() < found.size


@CUDA_DEVICES
def test_pixels_that_no_tap_reaches_are_zero(device):
    arrays, attributes = _call("conv2d_input_grad", CASES[4], "float32")
    x = _check(get_device(device), "conv2d_input_grad", arrays, attributes)
    assert (x[:, :, 2::3] == 0).all()
    assert (x[:, :, :, 1::4] == 0).all()
    assert (x[:, :, :2, 0] != 0).all()


@CUDA_DEVICES
@FLOATS
def test_the_faces_are_adjoint(device, dtype):
    """<conv(x, w), g> == <x, input_grad(g, w)> == <w, weight_grad(x, g)>, to rounding."""
    target = get_device(device)
    for case in CASES[1:-1]:
        x, w, g, _ = _operands(case, dtype)
        results = []
        for face, other in zip(OP, (g, x, w), strict=True):
            arrays, attributes = _call(face, case, dtype)
            there = tuple(place(device, a) for a in arrays)
            y = target.to_numpy(target.run(OP[face], there, attributes))
            results.append(np.vdot(y.astype(np.float64), other.astype(np.float64)))
        bound = 64 * float(np.finfo(dtype).eps) * math.sqrt(x.size * w.size)
        assert results[1:] == pytest.approx(results[:1] * 2, abs=bound)


# ------------------------------------------------------------------------------ tiles and splits
def _with(monkeypatch, tile, depth):
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
            _with(monkeypatch, tile, depth)
            found = _check(get_device(device), face, arrays, attributes)
            _with(monkeypatch, cuda.TILES[1], depth)
            same = _check(get_device(device), face, arrays, attributes)
            assert np.array_equal(found, same)


@CUDA_DEVICES
def test_a_split_is_a_chain_of_multiply_adds(device):
    """To the bit: each split one chain, taps in order, and the splits added in order."""
    x, w, _, places = _operands((1, 40, 1, (3, 3), (3, 3), (1, 1), (0, 0)), "float32")
    _, depth = cuda.plan(1, 1, 360, np.dtype("float32"), False, 1)
    assert depth < 360
    partial = []
    for first in range(0, 360, depth):
        total = np.float32(0)
        for a, b in zip(x.ravel()[first : first + depth], w.ravel()[first:], strict=False):
            # The product is exact, and the sum rounds twice only where 53 bits do not hold it.
            total = np.float32(np.float64(a) * np.float64(b) + np.float64(total))
        partial.append(total)
    wanted = np.float32(0)
    for part in partial:
        wanted = np.float32(wanted + part)
    target = get_device(device)
    there = tuple(place(device, a) for a in (x, w))
    assert target.to_numpy(target.run(OP["conv2d"], there, places)).item() == wanted


def test_splits_follow_from_the_shape():
    """Few tiles: many splits; and each is deep enough to be worth a block."""
    for m, n, k in ((1, 1, 1), (49, 128, 8192), (12544, 64, 1024), (576, 64, 50176), (9, 1, 10**6)):
        for dtype in map(np.dtype, ("float32", "float64")):
            tile, depth = cuda.plan(m, n, k, dtype, False, 1)
            assert depth % cuda.DEEP == 0
            assert depth >= min(k, cuda.LEAST_DEPTH)
            tiles = -(-m // tile.rows) * -(-n // tile.columns)
            assert tiles * -(-k // depth) >= min(cuda.BUSY // 2, tiles * (k // cuda.LEAST_DEPTH))


class Recorder(Emulator):
    """Notes launches instead of running them."""

    def __init__(self):
        super().__init__()
        self.launches = []

    def _prepare(self, source, kernel, dtype, grid, block, arguments, shared):
        self.launches.append((math.prod(grid), math.prod(block)))
        return lambda about: None


@FACES
@FLOATS
@pytest.mark.parametrize("shape", [(64, 64, 128, 14), (128, 1, 64, 28), (64, 512, 512, 4)], ids=str)
def test_every_launch_fills_a_gpu(face, dtype, shape):
    """At least 132 blocks of 128 threads: one for each core of an H200."""
    n, c, o, edge = shape
    recorder = Recorder()
    nothing = lambda *shape: np.broadcast_to(np.zeros((), dtype), shape)  # noqa: E731
    half = {"stride": (2, 2), "padding": (1, 1)}
    x, w, g = nothing(n, c, edge, edge), nothing(o, c, 4, 4), nothing(n, o, edge // 2, edge // 2)
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


@FACES
@needs_compiler
@FLOATS
def test_no_face_makes_a_mistake(face, dtype):
    """No access outside, or of what nothing wrote, no race: of any layout, of NaN too."""
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
def test_no_tile_makes_a_mistake(face, tile, monkeypatch):
    if not _exists(tile, face, "float32"):
        pytest.skip("there is no such kernel")
    arrays, attributes = _call(face, (2, 5, 66, (5, 6), (3, 2), (2, 1), (1, 1)), "float32")
    for depth in (16, 1024):
        _with(monkeypatch, tile, depth)
        _check(CHECKED, face, arrays, attributes)


@FACES
@needs_compiler
@FLOATS
@pytest.mark.parametrize("step", [1, 2])
def test_memory_is_read_in_sectors(face, dtype, step):
    """Neighbours in a warp are places: with stride s they lie s pixels apart."""
    gpu = Emulator(checked=True)
    side = 16 * step
    places = {"stride": (step, step), "padding": (0, 0)}
    rng = np.random.default_rng(0)
    x, w, g = (
        gpu.from_numpy(rng.standard_normal(shape).astype(dtype))
        for shape in ((2, 16, side, side), (64, 16, step, step), (2, 64, 16, 16))
    )
    before = gpu.counts
    if face == "conv2d":
        cuda.conv2d(gpu, x, w, **places)
    elif face == "conv2d_input_grad":
        cuda.conv2d_input_grad(gpu, g, w, size=(side, side), **places)
    else:
        cuda.conv2d_weight_grad(gpu, x, g, kernel=(step, step), **places)
    found = gpu.counts - before
    assert found.accesses > 0
    assert found.sectors <= 2 * found.ideal_sectors, found.sectors / found.ideal_sectors


# ------------------------------------------------------------------------------------ the ladder
ALL = pytest.mark.parametrize("rung", RUNGS)


def _climb(launcher, rung, case, dtype):
    (x, w), places = _call("conv2d", case, dtype)
    return launcher.to_numpy(RUNGS[rung](launcher, *map(launcher.from_numpy, (x, w)), **places))


@ALL
@CUDA_DEVICES
@ALL_CASES
@FLOATS
def test_every_rung_is_right_and_has_the_bits_of_the_first(poisoned_device, rung, case, dtype):
    wanted, bound = _wanted("conv2d", *_call("conv2d", case, dtype))
    found = _climb(poisoned_device.launcher, rung, case, dtype)
    assert found.dtype == dtype
    assert_close(found, wanted, bound, rung)
    assert np.array_equal(found, _climb(poisoned_device.launcher, "direct", case, dtype))


@ALL
@needs_compiler
@FLOATS
def test_every_rung_passes_the_checks(rung, dtype):
    for case in (CASES[1], CASES[2], CASES[3]):
        _climb(Emulator(checked=True), rung, case, dtype)


@ALL
@CUDA_DEVICES
def test_every_rung_passes_nan_on(device, rung):
    launcher = get_device(device).launcher
    (x, w), places = _call("conv2d", CASES[2], "float32")
    x[0, 1, 2, 3], w[3, 1, 0, 0] = np.nan, np.inf
    wanted, bound = _wanted("conv2d", (x, w), places)
    found = RUNGS[rung](launcher, *map(launcher.from_numpy, (x, w)), **places)
    assert_close(launcher.to_numpy(found), wanted, bound, rung)
    assert 0 < np.isfinite(wanted).sum() < wanted.size


@needs_compiler
def test_each_rung_reads_less_memory_than_the_one_before():
    """Or so the checked emulator counts: all but im2col, which writes its matrix too."""
    found = {}
    for rung in RUNGS:
        gpu = Emulator(checked=True)
        _climb(gpu, rung, (2, 16, 64, (8, 8), (3, 3), (1, 1), (1, 1)), "float32")
        found[rung] = gpu.counts.sectors
    direct, im2col, implicit, additive = found.values()
    assert direct > 4 * implicit > 8 * additive, found
    assert direct > im2col > additive, found
