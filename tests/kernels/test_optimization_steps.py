"""Each optimization step of the CPU kernels, but matrix products, against float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
from helpers import poison
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigan.engine.kernel_families import family_modules
from minigan.engine.op import Op
from minigan.kernels.conv2d import cpu as conv2d_cpu
from minigan.kernels.conv2d import optimization_steps as conv2d
from minigan.kernels.conv2d.geometry import output_size
from minigan.kernels.elementwise import cpu as elementwise_cpu
from minigan.kernels.elementwise import optimization_steps as elementwise
from minigan.kernels.norm import optimization_steps as norm
from minigan.kernels.optimizer import optimization_steps as optimizer
from minigan.kernels.reduce import cpu as reduce_cpu
from minigan.kernels.reduce import optimization_steps as reduce
from minigan.kernels.shape import optimization_steps as shape

FLOATS = ["float32", "float64"]
few = settings(deadline=None, max_examples=12)
sizes = st.sampled_from([1, 2, 3, 7, 16, 31, 64, 65])
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", autouse=True)
def poisoned() -> Iterator[None]:
    """Poison the memory of results, so that an element never written shows."""
    with pytest.MonkeyPatch.context() as patch:
        for module in [*family_modules("cpu"), *family_modules("optimization_steps")]:
            if hasattr(module, "empty"):
                patch.setattr(module, "empty", poison)
        yield


def normal(seed: int, *size: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def assert_near(y: np.ndarray, expected: np.ndarray, bound: Any) -> None:
    """Assert |y - expected| <= bound, and NaN and infinities at the same positions."""
    assert y.shape == expected.shape
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    finite = np.isfinite(expected)
    assert np.array_equal(y[~finite], expected[~finite], equal_nan=True)
    error = np.abs(y[finite].astype(np.float64) - expected[finite])
    bounds = np.broadcast_to(bound, expected.shape)[finite]
    assert np.all(error <= bounds), f"{np.max(error - bounds)} above the bound"


# --------------------------------------------------------------------------------- elementwise
REFERENCES = {"leaky_relu": lambda x: np.where(x > 0, x, x * elementwise.SLOPE), "tanh": np.tanh}
VIEWS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T,
    "columns": lambda x: x[:, 1:],
    "every second": lambda x: x[::2, ::2],
    "backwards": lambda x: x[::-1, ::-1],
    "repeated": lambda x: np.lib.stride_tricks.as_strided(x, strides=(x.strides[0], 0)),
}


def check_elementwise(title: str, op: str, x: np.ndarray) -> None:
    """Compare a step with numpy in float64; the result is a new C-contiguous array."""
    before = x.copy()
    y = elementwise.STEPS[title](op, x)
    assert y.dtype == x.dtype
    assert y.flags.c_contiguous
    assert not np.shares_memory(x, y)
    assert np.array_equal(x, before, equal_nan=True)
    expected = REFERENCES[op](x.astype(np.float64))
    info = np.finfo(x.dtype)
    assert_near(y, expected, 4 * info.eps * np.abs(expected) + info.smallest_subnormal)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", REFERENCES)
@pytest.mark.parametrize("title", elementwise.STEPS)
@few
@given(n=sizes, m=sizes, view=st.sampled_from(sorted(VIEWS)), seed=seeds)
@example(n=3, m=1, view="columns", seed=0)
def test_elementwise(title: str, op: str, dtype: str, n: int, m: int, view: str, seed: int) -> None:
    x = normal(seed, n, m, dtype=dtype) * 3
    x.flat[:: max(1, x.size // 3)] = np.nan
    check_elementwise(title, op, VIEWS[view](x))


@pytest.mark.parametrize("op", REFERENCES)
@pytest.mark.parametrize("title", elementwise.STEPS)
def test_elementwise_special_values_and_threads(title: str, op: str) -> None:
    """Zeros, subnormals, infinities and NaN, in an array large enough for two threads."""
    x = normal(0, 401, 1009) * 5
    x.flat[::7919] = np.nan
    special = [0.0, -0.0, 1e-40, -1e-40, 1e-20, 9.9, -88.0, 1e30, np.inf, -np.inf, np.nan]
    x[0, : len(special)] = x[-1, -len(special) :] = special
    check_elementwise(title, op, x)
    y = elementwise.STEPS[title](op, x)
    assert np.array_equal(np.signbit(y[0, :2]), [False, True])


def ulps(y: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest error, in units in the last place (ulp) of float32."""
    return float(np.max(np.abs(y - exact) / np.spacing(np.abs(exact).astype(np.float32))))


@pytest.mark.parametrize(("name", "bound", "high"), [("exp", 1.1, 87.3), ("tanh", 2.5, 20.0)])
def test_polynomials_keep_their_error_bound(name: str, bound: float, high: float) -> None:
    """For 211 mantissas of each sign and every float32 exponent from 2^-100 on."""
    mantissas = np.linspace(1, 2, 211, endpoint=False)
    x = np.outer(2.0 ** np.arange(-100, 8), mantissas).astype(np.float32).ravel()
    x = x[x < high]
    for signed in (x, -x):
        exact = getattr(np, name)(signed.astype(np.float64))
        assert ulps(elementwise_cpu.elementwise(name, signed), exact) <= bound


# -------------------------------------------------------------------------------------- reduce
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", reduce.AXES.values(), ids=reduce.AXES)
@pytest.mark.parametrize("title", reduce.STEPS)
@few
@given(n=sizes, m=st.sampled_from([1, 2, 63, 64, 65, 127, 4095, 4097]), nan=st.booleans())
@example(n=513, m=2, nan=False)
@example(n=13, m=4097, nan=True)
def test_sums(title: str, axis: int | None, dtype: str, n: int, m: int, nan: bool) -> None:
    x = normal(n * m, n, m, dtype=dtype)
    if nan:
        x[n // 2, m // 3] = np.nan
        x[n // 3, m // 2] = np.inf
    before = x.copy()
    y = reduce.STEPS[title](x, axis)
    assert y.dtype == x.dtype
    assert np.array_equal(x, before, equal_nan=True)
    exact = x.astype(np.float64)
    # The bound of a sum of k terms in any order, (k-1) u sum |x| (Higham 2002), with 2 u = eps.
    terms = x.size if axis is None else x.shape[axis]
    bound = terms * np.finfo(dtype).eps * np.sum(np.abs(exact), axis) + 1e-300
    assert_near(y, np.sum(exact, axis), bound)


def test_blocked_summation_keeps_the_error_small() -> None:
    """The error of one accumulator grows with the length, that of blocks does not."""
    x = np.random.default_rng(0).random((2**22, 1), np.float32)
    exact = math.fsum(x.ravel().tolist())
    errors = {t: abs(float(step(x, None)) / exact - 1) for t, step in reduce.STEPS.items()}
    eps = np.finfo(np.float32).eps
    assert errors["naive, one accumulator"] > 5 * eps
    assert errors["blocked summation"] < 2 * eps
    assert errors["multithreading over blocks (cpu.py)"] == errors["blocked summation"]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba was given one thread")
@pytest.mark.parametrize("axis", reduce.AXES.values(), ids=reduce.AXES)
def test_bits_of_sums_do_not_depend_on_threads(axis: int | None) -> None:
    x = normal(1, 257, 1031)
    before = numba.get_num_threads()
    bits = set()
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            bits.add(reduce.STEPS["multithreading over blocks (cpu.py)"](x, axis).tobytes())
    finally:
        numba.set_num_threads(before)
    assert bits == {reduce.STEPS["blocked summation"](x, axis).tobytes()}


def test_prange_sum() -> None:
    x = normal(2, 257, 1031)
    error = abs(reduce.prange_sum(x) - np.sum(x, dtype=np.float64))
    assert error <= x.size * np.finfo(np.float32).eps * np.sum(np.abs(x), dtype=np.float64)


@pytest.mark.parametrize("position", [0, 1, 63, 64, 4095, 4096, 8190, 8191])
def test_the_maximum_of_numbers_and_nan_is_nan(position: int) -> None:
    x = normal(3, 2, 4096)
    assert reduce.max_without_nan(x) == x.max()
    x.flat[position] = np.nan
    assert np.isnan(reduce_cpu.KERNELS["max"](x, (0, 1), False))
    assert np.isnan(reduce.max_without_nan(x)) == (position == 0)


# ----------------------------------------------------------------------------------- optimizer
def adam(arrays: tuple[np.ndarray, ...], lr: float, steps: int) -> np.ndarray:
    """Return the parameters after `steps` of Algorithm 1 of Kingma and Ba (2015), in float64."""
    p, g, m, v = (x.astype(np.float64) for x in arrays)
    for t in range(1, steps + 1):
        m = optimizer.BETA1 * m + (1 - optimizer.BETA1) * g
        v = optimizer.BETA2 * v + (1 - optimizer.BETA2) * g * g
        mean, square = m / (1 - optimizer.BETA1**t), v / (1 - optimizer.BETA2**t)
        p = p - lr * mean / (np.sqrt(square) + optimizer.EPS)
    return p


SMALL, LARGE = ((3, 5, 1), (1, 1), (31, 67)), ((7, 257, 263),)  # large: for several threads


@pytest.mark.parametrize("title", optimizer.STEPS)
@pytest.mark.parametrize(
    ("widths", "dtype"),
    [(SMALL, "float32"), (SMALL, "float64"), (LARGE, "float32")],
    ids=["small-float32", "small-float64", "large-float32"],
)
def test_adam(title: str, widths: tuple[tuple[int, ...], ...], dtype: str) -> None:
    lists = tuple([x.astype(dtype) for x in arrays] for arrays in optimizer.tensors(widths))
    lists[1][0].flat[0] = np.nan
    gradients = [g.copy() for g in lists[1]]
    expected = [adam(arrays, 0.01, 3) for arrays in zip(*lists, strict=True)]
    state = np.array([0.01, 1.0, 1.0])
    for _ in range(3):
        optimizer.STEPS[title](lists, state)
    assert np.allclose(state, [0.01, optimizer.BETA1**3, optimizer.BETA2**3], rtol=1e-15)
    for p, exact, g, g_before in zip(lists[0], expected, lists[1], gradients, strict=True):
        assert p.dtype == dtype
        assert_near(p, exact, 32 * np.finfo(dtype).eps * (np.abs(exact) + 1))
        assert np.array_equal(g, g_before, equal_nan=True)


# --------------------------------------------------------------------------------------- shape
def shape_steps(kind: str) -> list[str]:
    return [title for title in shape.STEPS if title.startswith(kind)]


INDICES = {
    "all": (...,),
    "middle": (..., slice(1, -1), slice(2, None)),
    "part of an axis": (slice(None), slice(1)),
    "every second": (slice(None, None, 2), ..., slice(None, None, 2)),
    "backwards": (..., slice(None, None, -1)),
    "nothing": (slice(0),),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("title", shape_steps("copy"))
@few
@given(
    size=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    index=st.sampled_from(sorted(INDICES)),
    seed=seeds,
    transposed=st.booleans(),
)
def test_copies(
    title: str, dtype: str, size: list[int], index: str, seed: int, transposed: bool
) -> None:
    x = normal(seed, *size, dtype=dtype)
    x.flat[0] = np.nan
    x = x.T if transposed else x
    y = shape.STEPS[title](x, INDICES[index])
    assert y.flags.c_contiguous
    assert y.dtype == x.dtype
    assert not np.shares_memory(x, y)
    assert np.array_equal(y, x[INDICES[index]], equal_nan=True)


@pytest.mark.parametrize("title", shape_steps("copy"))
def test_copies_large_enough_for_two_threads(title: str) -> None:
    x = normal(0, 37, 3, 32, 31)
    assert np.array_equal(shape.STEPS[title](x, shape.MIDDLE), x[shape.MIDDLE])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("title", shape_steps("gather"))
@few
@given(n=sizes, m=sizes, count=st.integers(1, 40), seed=seeds)
def test_gathers(title: str, dtype: str, n: int, m: int, count: int, seed: int) -> None:
    x = normal(seed, n, m, dtype=dtype)
    x.flat[-1] = np.nan
    rows = np.random.default_rng(seed).integers(n, size=count)
    assert np.array_equal(shape.STEPS[title](x, rows), x[rows], equal_nan=True)


# -------------------------------------------------------------------------------- convolutions
CONVOLUTIONS = [(2, 3, 5, 7, 6, 3, 4), (1, 1, 1, 1, 1, 1, 1), (3, 5, 17, 8, 9, 4, 2)]
GEOMETRIES = [((1, 1), (0, 0)), ((2, 1), (1, 2)), ((3, 2), (0, 1))]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("operation", conv2d_cpu.KERNELS)
@pytest.mark.parametrize("title", conv2d.STEPS)
def test_convolutions(title: str, operation: str, dtype: str) -> None:
    for n, c, o, height, width, kh, kw in CONVOLUTIONS:
        for stride, padding in GEOMETRIES:
            geometry = {"stride": stride, "padding": padding}
            out = output_size((height, width), (kh, kw), **geometry)
            x, w = normal(0, n, c, height, width, dtype=dtype), normal(1, o, c, kh, kw, dtype=dtype)
            g = normal(2, n, o, *out, dtype=dtype)
            arrays, attributes = {
                "conv2d": ((x, w), {}),
                "conv2d_input_grad": ((g, w), {"size": (height, width)}),
                "conv2d_weight_grad": ((x, g), {"kernel": (kh, kw)}),
            }[operation]
            x[-1, 0, 0, 0] = np.nan
            before = [a.copy() for a in arrays]
            y = conv2d.STEPS[title][operation](*arrays, **attributes, **geometry)
            reference = Op.registry[operation].reference
            expected = reference(*(a.astype(np.float64) for a in arrays), **attributes, **geometry)
            sizes = (np.nan_to_num(np.abs(a.astype(np.float64))) for a in arrays)
            terms = 1 + x.size + w.size
            bound = terms * np.finfo(dtype).eps * reference(*sizes, **attributes, **geometry)
            assert y.dtype == dtype
            assert_near(y, expected, bound)
            for a, a_before in zip(arrays, before, strict=True):
                assert np.array_equal(a, a_before, equal_nan=True)


# --------------------------------------------------------------------------------- normalization
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("title", norm.STEPS)
def test_normalize(title: str, dtype: str) -> None:
    for sides in ((5, 3, 7), (1, 2, 65), (300, 3, 1), (9, 1, 1)):
        x = normal(0, *sides, dtype=dtype) * 2 + 1
        x[0, 0, 0] = np.nan if sides[1] > 1 else 1
        scale, shift = normal(1, sides[1], dtype=dtype), normal(2, sides[1], dtype=dtype)
        y = norm.STEPS[title](x, scale, shift, 1e-5)
        expected = Op.registry["normalize"].reference(
            *(a.astype(np.float64) for a in (x, scale, shift)), eps=1e-5
        )
        assert y.dtype == dtype
        assert_near(y, expected, 400 * np.finfo(dtype).eps * np.nanmax(np.abs(expected)))


def test_one_pass_variance_is_wrong_where_the_mean_is_large() -> None:
    x, one = normal(0, 64, 1, 49) + np.float32(1000), np.ones(1, np.float32)
    exact = (x.astype(np.float64) - x.mean(dtype=np.float64)) / x.std(dtype=np.float64)
    for step in norm.STEPS.values():
        assert np.abs(step(x, one, 0 * one, 1e-12) - exact).max() < 1e-3
    for step in norm.UNSTABLE_STEPS.values():
        assert not np.abs(step(x, one, 0 * one, 1e-12) - exact).max() < 1e-2
