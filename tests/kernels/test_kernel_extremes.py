"""Kernels at special values, NaN, infinity, subnormal and huge numbers; float32 exp and tanh."""

import numpy as np
import pytest
from helpers import (
    DEVICES,
    ELEMENTWISE,
    FLOATS,
    KERNEL_DEVICES,
    broadcasting_sample,
    run,
)

from minigan.engine.device import get_device
from minigan.engine.op import Op, Update

CPU, REFERENCE = get_device("cpu"), get_device("reference")


# --------------------------------------------------------------------- NaN, infinity, extremes
@pytest.mark.parametrize("name", ELEMENTWISE)
@KERNEL_DEVICES
@FLOATS
def test_special_values(device: str, name: str, dtype: str) -> None:
    """NaN and infinities are where the op's reference in this dtype has them."""
    op = Op.registry[name]
    sample = broadcasting_sample(op)
    assert sample is not None
    makers, attributes = sample
    kinds = [make(np.random.default_rng(0)).dtype.kind for make in makers]
    floats = _specials(dtype)
    axes = [floats if kind == "f" else np.array([True, False]) for kind in kinds]
    grids = tuple(np.array(g, order="C") for g in np.meshgrid(*axes, indexing="ij"))
    expected = REFERENCE.run(op, grids, attributes)
    y = run(device, op, grids, attributes)
    assert y.dtype == expected.dtype
    if y.dtype.kind == "b":
        assert np.array_equal(y, expected)
        return
    for mask in (np.isnan, np.isposinf, np.isneginf):
        wrong = np.flatnonzero(mask(y) != mask(expected))
        examples = [(*(float(g.flat[i]) for g in grids), float(y.flat[i])) for i in wrong[:5]]
        assert not wrong.size, f"{name}: {mask.__name__} differs at (inputs.., result) {examples}"


def _specials(dtype: str) -> np.ndarray:
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.tiny, 0.3, 1.0, 1.7, 3.0, 50.0, 120.0, 1e4]
    positive += [np.sqrt(info.max) * 2, info.max, np.inf]
    return np.array([*positive, *(-x for x in positive), np.nan], dtype)


@pytest.mark.parametrize("name", ["abs", "sign", "relu_grad", "leaky_relu_grad", "clip_grad"])
@KERNEL_DEVICES
@FLOATS
def test_kinks_equal_the_reference(device: str, name: str, dtype: str) -> None:
    """At the kink itself, next to it on either side, and at both zeros."""
    sample = broadcasting_sample(Op.registry[name])
    assert sample is not None
    attributes = sample[1]
    bounds = [attributes[bound] for bound in ("low", "high") if bound in attributes]
    points, one = np.array([0.0, -0.0, *bounds], dtype), np.ones((), dtype)[()]
    x = np.concatenate([points, np.nextafter(points, one), np.nextafter(points, -one)])
    inputs = [x] if len(sample[0]) == 1 else [np.full_like(x, 3), x]
    exact = {k: float(one * one.dtype.type(v)) for k, v in attributes.items()}
    expected = REFERENCE.run(Op.registry[name], tuple(inputs), exact)
    assert np.array_equal(run(device, Op.registry[name], inputs, exact), expected)


@pytest.mark.parametrize("name", ["sum", "max"])
@KERNEL_DEVICES
@FLOATS
def test_reductions_keep_nan_and_infinity(device: str, name: str, dtype: str) -> None:
    for size in (3, 64, 67, 4100):
        for bad in (np.nan, np.inf, -np.inf):
            for position in {0, 1, size // 2, size - 1}:
                x = np.zeros((size, 3), dtype)
                x[position, 1] = bad
                for view in (x, np.array(x.T, order="C")):
                    axis = (0 if view is x else 1,)
                    attributes = {"axis": axis, "keepdims": False}
                    y = run(device, Op.registry[name], (view,), attributes)
                    expected = REFERENCE.run(Op.registry[name], (view,), attributes)
                    assert np.array_equal(y, expected, equal_nan=True), (size, bad, position)


@KERNEL_DEVICES
@FLOATS
def test_matrix_products_keep_nan_and_infinity(device: str, dtype: str) -> None:
    for bad in (np.nan, np.inf):
        a, b = np.ones((9, 70), dtype), np.ones((70, 21), dtype)
        a[4, 69] = bad
        b[3, 20] = bad
        expected = REFERENCE.run(Op.registry["matmul"], (a, b), {})
        y = run(device, Op.registry["matmul"], (a, b), {})
        assert np.array_equal(y, expected, equal_nan=True)


@KERNEL_DEVICES
@FLOATS
def test_casts_to_and_from_every_dtype(device: str, dtype: str) -> None:
    x = np.array([-2.7, -0.0, 0.5, 2.7, 300.0], dtype)
    for other in ("float32", "float64", "int64", "bool"):
        attributes = {"dtype": np.dtype(other)}
        y = run(device, Op.registry["cast"], (x,), attributes)
        assert y.dtype == other
        assert np.array_equal(y, x.astype(other))
        back = run(device, Op.registry["cast"], (y,), {"dtype": np.dtype(dtype)})
        assert np.array_equal(back, y.astype(dtype))


# ------------------------------------------------------------------------ float32 polynomials
def _every_nth_float32(low: float, high: float, n: int) -> np.ndarray:
    """Return every n-th positive float32 number from low to high."""
    first, last = np.array([low, high], np.float32).view(np.int32)
    return np.arange(first, last, n, dtype=np.int32).view(np.float32)


def _ulps(y: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest error in units in the last place (ulp) of float32."""
    return float((np.abs(y - exact) / np.spacing(np.abs(exact).astype(np.float32))).max())


def _run(name: str, x: np.ndarray) -> np.ndarray:
    return CPU.run(Op.registry[name], (x,), {})


def test_exp_of_float32_is_within_3_ulps() -> None:
    up = _every_nth_float32(1e-45, 88.722, 2003)
    down = -_every_nth_float32(1e-45, 103.97, 2003)  # down to the smallest subnormal number
    for x in (up, down, np.array([0.0, -0.0, 88.722835, -87.4, -103.9], np.float32)):
        assert _ulps(_run("exp", x), np.exp(x.astype(np.float64))) <= 3
    ends = np.array([-np.inf, -1e38, -106, -104.5, 88.8, 1e38, np.inf], np.float32)
    assert _run("exp", ends).tolist() == [0, 0, 0, 0, np.inf, np.inf, np.inf]


def test_tanh_of_float32_is_within_3_ulps() -> None:
    x = _every_nth_float32(1e-45, 20, 2003)
    for signed in (x, -x):
        assert _ulps(_run("tanh", signed), np.tanh(signed.astype(np.float64))) <= 3
    ends = np.array([-np.inf, -1e38, -12, 12, 1e38, np.inf], np.float32)
    assert _run("tanh", ends).tolist() == [-1, -1, -1, 1, 1, 1]
    assert np.signbit(_run("tanh", np.array([-0.0, 0.0], np.float32))).tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "low", "high"), [("exp", -104, -86), ("exp", 87, 90), ("tanh", 8, 11)]
)
def test_float32_functions_are_monotonic_at_the_ends(name: str, low: float, high: float) -> None:
    """Up to rounding, there is no jump where the polynomial's range ends."""
    y = _run(name, np.linspace(low, high, 100_001, dtype=np.float32))
    with np.errstate(invalid="ignore"):
        fall = np.diff(y) < -2 * np.spacing(y[:-1])
    assert not fall.any()
    assert y.max() == y[-1]
    assert y.min() == y[0]


@DEVICES
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("op", "numbers", "attributes"),
    [
        ("add", (1e300,), {}),
        ("clip", (), {"low": -1e300, "high": 1e300}),
        ("leaky_relu", (), {"slope": 1e300}),
        ("slice_scatter", (), {"shape": (4,), "index": (slice(0, 2),), "value": 1e300}),
    ],
)
def test_a_number_too_large_for_the_dtype_is_infinite_without_warning(
    device, op, numbers, attributes
):
    x = np.array([-1.0, 1.0], np.float32)
    result = run(device, Op.registry[op], (x, *numbers), attributes)
    reference = run("reference", Op.registry[op], (x, *numbers), attributes)
    np.testing.assert_array_equal(result, reference)


@DEVICES
@pytest.mark.parametrize(
    ("target", "value"),
    [
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[::2], np.s_[:3]),
        (np.s_[:], np.s_[::-1]),
        (np.s_[2:], np.s_[2:]),
        (np.s_[:3], np.s_[3:]),
        (np.s_[:], np.s_[4:5]),
    ],
)
def test_assign_between_views_of_shared_memory(device, target, value):
    device = get_device(device)
    x = device.from_numpy(np.arange(6.0))
    device.update(Update.registry["assign"], (x[target], x[value]), {})
    expected = np.arange(6.0)
    expected[target] = np.arange(6.0)[value]
    np.testing.assert_array_equal(device.to_numpy(x), expected)
