"""CUDA normalisation and pooling agree with their references, in one piece and in several."""

import math

import numpy as np
import pytest
from emulator_helpers import CUDA_DEVICES, needs_compiler
from helpers import FLOATS, LAYOUTS, assert_close, place

from minigan.engine.cuda import CudaDevice
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.engine.update import Update
from minigan.kernels.norm import cuda as norm
from minigan.kernels.runtime.emulator.emulator import Emulator
from minigan.nn import spectral

CHECKED = CudaDevice("cuda-emulator", Emulator(checked=True))
EPS = {"eps": 1e-3}


def _exact(x):
    return x.astype(np.float64) if isinstance(x, np.ndarray) else x


def _reference(op, arrays, attributes):
    with np.errstate(invalid="ignore", divide="ignore"):
        return op.reference(*map(_exact, arrays), **attributes)


def _check(target, name, arrays, attributes, terms):
    """Compare with the float64 reference; a sum of `terms` is in 32 chains or more."""
    op = Op.registry[name]
    expected = _reference(op, arrays, attributes)
    originals = [np.copy(a) for a in arrays]
    inputs = [place(target.name, a) for a in arrays]
    result = target.to_numpy(target.run(op, tuple(inputs), attributes))
    dtype = arrays[0].dtype
    assert result.dtype == dtype
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1)
    assert_close(result, expected, (32 + terms / 8) * float(np.finfo(dtype).eps) * largest, name)
    for a, before in zip(inputs, originals, strict=True):
        if isinstance(before, np.ndarray) and before.ndim:
            assert np.array_equal(target.to_numpy(a), before, equal_nan=True)
    return result


# -------------------------------------------------------------------------------- normalisation
# (a, m, b): one number; fewer, as many and more m than a block takes; rows of 1 to 32 and above;
# rows that end within a warp; and shapes with several pieces.
SHAPES = [
    (1, 1, 1),
    (2, 1, 1),
    (5, 3, 1),
    (9, 32, 1),
    (67, 33, 1),
    (4, 9, 4),
    (3, 31, 16),
    (2, 3, 17),
]
SHAPES += [
    (2, 2, 49),
    (5, 2, 65),
    (1, 3, 300),
    (3, 2, 257),
    (1, 1, 9000),
    (64, 2, 200),
    (700, 40, 1),
]
ALL_SHAPES = pytest.mark.parametrize("shape", SHAPES, ids=str)


def _calls(shape, dtype, rng):
    """Return (name, arguments) for each op, with scale and shift as rows and as numbers."""
    x, g = (rng.standard_normal(shape).astype(dtype) for _ in "xg")
    scale, shift = (rng.standard_normal(shape[1]).astype(dtype) for _ in "ab")
    return [
        ("normalize", (x, scale, shift)),
        ("normalize", (x, 1.5, -0.5)),
        ("normalize", (x, scale, 0.0)),
        ("normalize_grad", (g, x, scale)),
        ("normalize_grad", (g, x, 2.5)),
        ("normalize_sums", (g, x)),
        ("inverse_std", (x,)),
    ]


@CUDA_DEVICES
@ALL_SHAPES
@FLOATS
def test_each_agrees_with_its_reference(poisoned_device, shape, dtype, rng):
    for name, arrays in _calls(shape, dtype, rng):
        _check(poisoned_device, name, arrays, EPS, shape[0] * shape[2])


def _use_small_pieces(monkeypatch):
    monkeypatch.setattr(norm, "MIN_PIECE_ELEMENTS", 20)


PIECES = [(7, 3, 5), (9, 33, 1), (1, 2, 301), (5, 2, 40), (3, 1, 70)]


@pytest.mark.parametrize("shape", PIECES, ids=str)
@CUDA_DEVICES
@FLOATS
def test_in_several_pieces_too(poisoned_device, shape, dtype, rng, monkeypatch):
    _use_small_pieces(monkeypatch)
    assert norm.plan(*shape).pieces > 1
    for name, arrays in _calls(shape, dtype, rng):
        _check(poisoned_device, name, arrays, EPS, shape[0] * shape[2])


@pytest.mark.slow
@needs_compiler
@FLOATS
def test_normalisation_passes_the_checks(dtype, rng, monkeypatch):
    for shape in SHAPES[:10]:
        for name, arrays in _calls(shape, dtype, rng):
            _check(CHECKED, name, arrays, EPS, shape[0] * shape[2])
    _use_small_pieces(monkeypatch)
    for shape in PIECES:
        for name, arrays in _calls(shape, dtype, rng):
            _check(CHECKED, name, arrays, EPS, shape[0] * shape[2])


@CUDA_DEVICES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_may_have_any_strides(device, layout, rng):
    for name, arrays in _calls((5, 4, 9), "float32", rng):
        inputs = [LAYOUTS[layout](a) if isinstance(a, np.ndarray) else a for a in arrays]
        _check(get_device(device), name, inputs, EPS, 45)


@CUDA_DEVICES
@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("shape", [(6, 3, 40), (30, 9, 4)], ids=str)
def test_the_variance_is_accurate_beside_a_large_mean(device, shape, pieces, rng, monkeypatch):
    """1000 +- 1 in float32, whose squares are rounded to multiples of 0.06."""
    if pieces:
        _use_small_pieces(monkeypatch)
    x = (1000 + rng.standard_normal(shape)).astype("float32")
    expected = _reference(Op.registry["inverse_std"], (x,), EPS)
    result = get_device(device).run(Op.registry["inverse_std"], (place(device, x),), EPS)
    assert np.allclose(get_device(device).to_numpy(result), expected, rtol=1e-5)


@CUDA_DEVICES
@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("shape", [(3, 4, 33), (9, 5, 3)], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_channel(device, shape, pieces, value, rng, monkeypatch):
    if pieces:
        _use_small_pieces(monkeypatch)
    for which in (0, 1):
        for name, arrays in _calls(shape, "float32", rng):
            if which < len(arrays) and isinstance(arrays[which], np.ndarray):
                arrays[which][(1, 2, 1)[: arrays[which].ndim]] = value
                if arrays[which].ndim == 1:
                    arrays[which][2] = value
                result = _check(get_device(device), name, arrays, EPS, shape[0] * shape[2])
                assert 0 < np.isfinite(result).sum() < result.size


@CUDA_DEVICES
def test_squares_beyond_float32_are_infinite_as_in_the_reference(device):
    x = np.array([[[-3e19, 3e19, 0, 1]]], "f")
    with np.errstate(over="ignore"):
        expected = Op.registry["normalize"].reference(x, 1.0, 0.5, **EPS)
    result = get_device(device).run(Op.registry["normalize"], (place(device, x), 1.0, 0.5), EPS)
    assert np.array_equal(get_device(device).to_numpy(result), expected)


@CUDA_DEVICES
@FLOATS
def test_the_gradient_is_symmetric(device, dtype, rng):
    """<u, H(g)> == <H(u), g>, to rounding."""
    for shape in ((4, 5, 9), (30, 40, 1), (1, 2, 500)):
        u, g, x = (rng.standard_normal(shape).astype(dtype) for _ in "ugx")
        target, op = get_device(device), Op.registry["normalize_grad"]
        both = [
            target.to_numpy(target.run(op, (*(place(device, a) for a in (y, x)), 1.0), EPS))
            for y in (g, u)
        ]
        bound = 64 * float(np.finfo(dtype).eps) * x.size
        products = [np.vdot(a, b.astype(np.float64)) for a, b in zip(both, (u, g), strict=True)]
        assert products[0] == pytest.approx(products[1], abs=bound)


# -------------------------------------------------------------------------------------- updates
def _update(target, name, arrays, attributes):
    """Return the updated arrays, and those of the float64 reference."""
    expected = [_exact(a) * 1 for a in arrays]
    with np.errstate(invalid="ignore", divide="ignore"):
        Update.registry[name].reference(*expected, **attributes)
    inputs = [place(target.name, a) for a in arrays]
    target.update(Update.registry[name], tuple(inputs), attributes)
    return [target.to_numpy(a) for a in inputs], expected


@CUDA_DEVICES
@pytest.mark.parametrize("shape", [(5, 3, 1), (4, 40, 2), (2, 3, 70), (1, 2, 9000)], ids=str)
@FLOATS
def test_running_moments_agree_with_their_reference(device, shape, dtype, rng):
    for layout in LAYOUTS.values():
        rows = [layout(rng.standard_normal(shape[1]).astype(dtype)) for _ in range(2)]
        arrays = [*rows, layout((3 + rng.standard_normal(shape)).astype(dtype))]
        for target in (get_device(device), *[CHECKED] * (device != "cuda" and shape[2] < 99)):
            inputs = [a.copy() if target is CHECKED else a for a in arrays]
            result, expected = _update(target, "running_moments", inputs, {"momentum": 0.1})
            bound = (64 + shape[0] * shape[2] / 8) * float(np.finfo(dtype).eps) * 10
            for a, b in zip(result, expected, strict=True):
                assert_close(a, b, bound)


@CUDA_DEVICES
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (65, 33), (2, 600)], ids=str)
@FLOATS
def test_power_iterations_agree_with_their_reference(device, shape, dtype, rng):
    for steps in (0, 1, 3):
        for target in (get_device(device), *[CHECKED] * (device != "cuda")):
            u, v = (LAYOUTS["strided"](rng.standard_normal(n).astype(dtype)) for n in shape)
            w = LAYOUTS["transposed"](rng.standard_normal(shape).astype(dtype))
            result, expected = _update(
                target, "power_iteration", [u, v, w], {"steps": steps, "eps": 1e-12}
            )
            for a, b in zip(result, expected, strict=True):
                assert_close(a, b, 1e3 * float(np.finfo(dtype).eps))


@CUDA_DEVICES
def test_power_iteration_of_a_zero_matrix(device):
    """There is no division by 0, and NaN stays NaN, as in the reference."""
    assert spectral.power_iteration is Update.registry["power_iteration"]
    for value in (0.0, np.nan):
        arrays = [np.ones(3, "f"), np.ones(4, "f"), np.full((3, 4), value, "f")]
        result, expected = _update(
            get_device(device), "power_iteration", arrays, {"steps": 1, "eps": 1e-12}
        )
        for a, b in zip(result, expected, strict=True):
            assert np.array_equal(a, b, equal_nan=True)


# -------------------------------------------------------------------------------------- pooling
# size, kernel, stride
WINDOWS = [
    ((1, 1), (1, 1), (1, 1)),
    ((4, 6), (2, 3), (2, 3)),
    ((5, 6), (3, 1), (1, 2)),  # they overlap along one axis, and leave gaps along the other
    ((7, 9), (2, 2), (5, 3)),
    ((8, 5), (5, 4), (2, 1)),
    ((13, 11), (3, 5), (4, 2)),
    ((3, 4), (3, 4), (7, 9)),  # one window
]


def _pool(size, kernel, stride, dtype, rng):
    """Return (op, input, attributes) for both ops."""
    both = {"kernel": kernel, "stride": stride}
    count = ((n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True))
    x = rng.standard_normal((3, 5, *size)).astype(dtype)
    g = rng.standard_normal((3, 5, *count)).astype(dtype)
    return (("sum_pool", x, both), ("sum_pool_grad", g, {**both, "size": size}))


@CUDA_DEVICES
@pytest.mark.parametrize("windows", WINDOWS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@FLOATS
def test_pooling_agrees_with_its_reference(poisoned_device, windows, layout, dtype, rng):
    for name, x, attributes in _pool(*windows, dtype, rng):
        _check(poisoned_device, name, [LAYOUTS[layout](x)], attributes, math.prod(windows[1]))
        empty = poisoned_device.run(
            Op.registry[name], (place(poisoned_device.name, x[:0]),), attributes
        )
        assert empty.shape[0] == 0


@needs_compiler
@pytest.mark.parametrize("windows", WINDOWS, ids=str)
def test_pooling_passes_the_checks(windows, rng):
    for name, x, attributes in _pool(*windows, "float32", rng):
        for layout in LAYOUTS.values():
            _check(CHECKED, name, [layout(x)], attributes, math.prod(windows[1]))


@CUDA_DEVICES
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pooling_has_nan_where_its_reference_has(device, value, rng):
    for name, x, attributes in _pool(*WINDOWS[4], "float32", rng):
        x[1, 2, 1, 1] = value
        result = _check(get_device(device), name, [x], attributes, 20)
        assert 0 < np.isfinite(result).sum() < result.size


@CUDA_DEVICES
@FLOATS
def test_pooling_and_its_adjoint(device, dtype, rng):
    """<sum_pool(x), g> == <x, sum_pool_grad(g)>, to rounding."""
    target = get_device(device)
    for windows in WINDOWS:
        (pool, x, attributes), (sum_pool_grad, g, more) = _pool(*windows, dtype, rng)
        y = target.to_numpy(target.run(Op.registry[pool], (place(device, x),), attributes))
        z = target.to_numpy(target.run(Op.registry[sum_pool_grad], (place(device, g),), more))
        bound = 64 * float(np.finfo(dtype).eps) * x.size
        assert np.vdot(y, g) == pytest.approx(np.vdot(x, z), abs=bound)


# ----------------------------------------------------------------------- parallel and coalesced
class Recorder(Emulator):
    """Records launches instead of running them."""

    def __init__(self):
        super().__init__()
        self.launches = []

    def _prepare(self, source, kernel, dtype, grid, block, arguments, shared_bytes):
        self.launches.append((kernel, math.prod(grid), math.prod(block)))
        return lambda describe: None


@pytest.mark.parametrize("shape", [(64, 64, 1024), (128, 16, 784), (1, 2048, 4096), (4096, 512, 1)])
@FLOATS
def test_large_arrays_fill_a_gpu(shape, dtype):
    """At least one block, and 128 threads, per multiprocessor of an H200."""
    recorder = Recorder()
    device = CudaDevice("recorder", recorder)
    x = np.broadcast_to(np.zeros((), dtype), shape)
    device.run(Op.registry["normalize_grad"], (np.empty(shape, dtype), x, 1.0), EPS)
    for kernel, blocks, threads in recorder.launches:
        assert threads >= 64
        assert blocks * threads >= 132 * 128 or kernel == "sum_splits"
        assert blocks >= 132 or kernel == "sum_splits"


def test_one_piece_takes_one_launch():
    recorder = Recorder()
    device, x = CudaDevice("recorder", recorder), np.ones((16, 200, 49), "f")
    for name in ("normalize", "normalize_grad", "inverse_std", "normalize_sums"):
        arrays = {"normalize": (x, 1.0, 0.0), "normalize_grad": (x, x, 1.0), "inverse_std": (x,)}
        device.run(Op.registry[name], arrays.get(name, (x, x)), EPS)
    assert [kernel for kernel, *_ in recorder.launches] == [
        *("normalize", "normalize_grad", "inverse_std", "normalize_sums")
    ]


@needs_compiler
@pytest.mark.parametrize("shape", [(16, 64, 1), (8, 24, 4), (4, 6, 64), (2, 5, 256)], ids=str)
@FLOATS
def test_memory_is_read_and_written_in_whole_sectors(shape, dtype, rng):
    gpu = Emulator(checked=True)
    device = CudaDevice("checked", gpu)
    for name, arrays in _calls(shape, dtype, rng):
        inputs = [gpu.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arrays]
        before = gpu.counts
        device.run(Op.registry[name], tuple(inputs), EPS)
        counts = gpu.counts - before
        assert counts.sectors <= 2 * counts.ideal_sectors, (name, counts)
    x = gpu.from_numpy(rng.standard_normal((2, 3, 32, 32)).astype(dtype))
    half = {"kernel": (2, 2), "stride": (2, 2)}
    for name, attributes in (("sum_pool", half), ("sum_pool_grad", {**half, "size": (64, 64)})):
        before = gpu.counts
        device.run(Op.registry[name], (x,), attributes)
        counts = gpu.counts - before
        assert counts.sectors <= 2 * counts.ideal_sectors, (name, counts)
