"""Every rung of the elementwise, reduce, optimizer and shape ladders against float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigan.engine.op import Op
from minigan.kernels.conv2d import cpu as conv2d_cpu
from minigan.kernels.conv2d import optimization_steps as conv2d
from minigan.kernels.conv2d.geometry import output_size
from minigan.kernels.elementwise import cpu as elementwise_cpu
from minigan.kernels.elementwise import optimization_steps as elementwise
from minigan.kernels.norm import cpu as norm_cpu
from minigan.kernels.norm import optimization_steps as norm
from minigan.kernels.optimizer import optimization_steps as optimizer
from minigan.kernels.reduce import cpu as reduce_cpu
from minigan.kernels.reduce import optimization_steps as reduce
from minigan.kernels.shape import cpu as shape_cpu
from minigan.kernels.shape import optimization_steps as shape

FLOATS = ["float32", "float64"]
few = settings(deadline=None, max_examples=12)
sizes = st.sampled_from([1, 2, 3, 7, 16, 31, 64, 65])
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", autouse=True)
def poisoned() -> Iterator[None]:
    """Results come from memory full of NaN, so that an element never written shows."""
    rooms = (elementwise, elementwise_cpu, reduce, reduce_cpu, shape, shape_cpu)
    rooms += (conv2d, conv2d_cpu, norm, norm_cpu)
    with pytest.MonkeyPatch.context() as patch:
        for module in rooms:
            patch.setattr(module, "empty", lambda size, dtype: np.full(size, np.nan, dtype))
        yield


def normal(seed: int, *size: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def assert_near(y: np.ndarray, want: np.ndarray, bound: Any) -> None:
    """|y - want| <= bound, NaN and infinities in the same places."""
    assert y.shape == want.shape
    assert np.array_equal(np.isnan(y), np.isnan(want))
    finite = np.isfinite(want)
    assert np.array_equal(y[~finite], want[~finite], equal_nan=True)
    error = np.abs(y[finite].astype(np.float64) - want[finite])
    allowed = np.broadcast_to(bound, want.shape)[finite]
    assert np.all(error <= allowed), f"{np.max(error - allowed)} above the bound"


# --------------------------------------------------------------------------------- elementwise
MEANINGS = {"leaky_relu": lambda x: np.where(x > 0, x, x * elementwise.SLOPE), "tanh": np.tanh}
VIEWS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T,
    "columns": lambda x: x[:, 1:],
    "every second": lambda x: x[::2, ::2],
    "backwards": lambda x: x[::-1, ::-1],
    "repeated": lambda x: np.lib.stride_tricks.as_strided(x, strides=(x.strides[0], 0)),
}


def check_elementwise(title: str, op: str, x: np.ndarray) -> None:
    before = x.copy()
    y = elementwise.RUNGS[title](op, x)
    assert y.dtype == x.dtype
    assert y.flags.c_contiguous
    assert not np.shares_memory(x, y)
    assert np.array_equal(x, before, equal_nan=True)
    want = MEANINGS[op](x.astype(np.float64))
    info = np.finfo(x.dtype)
    assert_near(y, want, 4 * info.eps * np.abs(want) + info.smallest_subnormal)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", MEANINGS)
@pytest.mark.parametrize("title", elementwise.RUNGS)
@few
@given(n=sizes, m=sizes, view=st.sampled_from(sorted(VIEWS)), seed=seeds)
@example(n=3, m=1, view="columns", seed=0)
def test_elementwise(title: str, op: str, dtype: str, n: int, m: int, view: str, seed: int) -> None:
    x = normal(seed, n, m, dtype=dtype) * 3
    x.flat[:: max(1, x.size // 3)] = np.nan
    check_elementwise(title, op, VIEWS[view](x))


@pytest.mark.parametrize("op", MEANINGS)
@pytest.mark.parametrize("title", elementwise.RUNGS)
def test_elementwise_edges_and_threads(title: str, op: str) -> None:
    """Zeros of both signs, subnormals, infinities and NaN, in an array large enough for threads."""
    x = normal(0, 401, 1009) * 5
    x.flat[::7919] = np.nan
    edges = [0.0, -0.0, 1e-40, -1e-40, 1e-20, 9.9, -88.0, 1e30, np.inf, -np.inf, np.nan]
    x[0, : len(edges)] = x[-1, -len(edges) :] = edges
    check_elementwise(title, op, x)
    y = elementwise.RUNGS[title](op, x)
    assert np.array_equal(np.signbit(y[0, :2]), [False, True])


def ulps(y: np.ndarray, want: np.ndarray) -> float:
    """The largest error, in units of the last place of the right float32."""
    return float(np.max(np.abs(y - want) / np.spacing(np.abs(want).astype(np.float32))))


@pytest.mark.parametrize(("name", "bound", "high"), [("exp", 1.1, 87.3), ("tanh", 2.5, 20.0)])
def test_polynomials_keep_their_bound(name: str, bound: float, high: float) -> None:
    """On 211 mantissas of each sign for every float32 exponent from 2^-100 on."""
    mantissas = np.linspace(1, 2, 211, endpoint=False)
    x = np.outer(2.0 ** np.arange(-100, 8), mantissas).astype(np.float32).ravel()
    x = x[x < high]
    for signed in (x, -x):
        want = getattr(np, name)(signed.astype(np.float64))
        assert ulps(elementwise_cpu.elementwise(name, signed), want) <= bound


# -------------------------------------------------------------------------------------- reduce
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", reduce.AXES.values(), ids=reduce.AXES)
@pytest.mark.parametrize("title", reduce.RUNGS)
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
    y = reduce.RUNGS[title](x, axis)
    assert y.dtype == x.dtype
    assert np.array_equal(x, before, equal_nan=True)
    exact = x.astype(np.float64)
    # The classical bound of a sum of k terms, whatever their order: (k-1) u sum |x|, twice u.
    terms = x.size if axis is None else x.shape[axis]
    bound = terms * np.finfo(dtype).eps * np.sum(np.abs(exact), axis) + 1e-300
    assert_near(y, np.sum(exact, axis), bound)


def test_blocks_keep_the_error_small() -> None:
    """One chain's error grows with the length, the blocks' does not."""
    x = np.random.default_rng(0).random((2**22, 1), np.float32)
    exact = math.fsum(x.ravel().tolist())
    errors = {t: abs(float(rung(x, None)) / exact - 1) for t, rung in reduce.RUNGS.items()}
    eps = np.finfo(np.float32).eps
    assert errors["one chain"] > 5 * eps
    assert errors["blocks"] < 2 * eps
    assert errors["threads over blocks (cpu.py)"] == errors["blocks"]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="numba was given one thread")
@pytest.mark.parametrize("axis", reduce.AXES.values(), ids=reduce.AXES)
def test_threads_do_not_change_the_bits(axis: int | None) -> None:
    x = normal(1, 257, 1031)
    before = numba.get_num_threads()
    bits = set()
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            bits.add(reduce.RUNGS["threads over blocks (cpu.py)"](x, axis).tobytes())
    finally:
        numba.set_num_threads(before)
    assert bits == {reduce.RUNGS["blocks"](x, axis).tobytes()}


def test_prange_sums_too() -> None:
    x = normal(2, 257, 1031)
    error = abs(reduce.prange_sum(x) - np.sum(x, dtype=np.float64))
    assert error <= x.size * np.finfo(np.float32).eps * np.sum(np.abs(x), dtype=np.float64)


@pytest.mark.parametrize("place", [0, 1, 63, 64, 4095, 4096, 8190, 8191])
def test_the_largest_of_numbers_and_nan_is_nan(place: int) -> None:
    x = normal(3, 2, 4096)
    assert reduce.largest_but_nan(x) == x.max()
    x.flat[place] = np.nan
    assert np.isnan(reduce_cpu.KERNELS["max"](x, (0, 1), False))
    assert np.isnan(reduce.largest_but_nan(x)) == (place == 0)


# ----------------------------------------------------------------------------------- optimizer
def adam(arrays: tuple[np.ndarray, ...], lr: float, steps: int) -> np.ndarray:
    """Algorithm 1 of Kingma and Ba (2015) in float64: the parameters after so many steps."""
    p, g, m, v = (x.astype(np.float64) for x in arrays)
    for t in range(1, steps + 1):
        m = optimizer.BETA1 * m + (1 - optimizer.BETA1) * g
        v = optimizer.BETA2 * v + (1 - optimizer.BETA2) * g * g
        mean, square = m / (1 - optimizer.BETA1**t), v / (1 - optimizer.BETA2**t)
        p = p - lr * mean / (np.sqrt(square) + optimizer.EPS)
    return p


SMALL, LARGE = ((3, 5, 1), (1, 1), (31, 67)), ((7, 257, 263),)  # large enough for threads


@pytest.mark.parametrize("title", optimizer.RUNGS)
@pytest.mark.parametrize(
    ("widths", "dtype"),
    [(SMALL, "float32"), (SMALL, "float64"), (LARGE, "float32")],
    ids=["small-float32", "small-float64", "large-float32"],
)
def test_adam(title: str, widths: tuple[tuple[int, ...], ...], dtype: str) -> None:
    lists = tuple([x.astype(dtype) for x in arrays] for arrays in optimizer.tensors(widths))
    lists[1][0].flat[0] = np.nan
    gradients = [g.copy() for g in lists[1]]
    wanted = [adam(arrays, 0.01, 3) for arrays in zip(*lists, strict=True)]
    state = np.array([0.01, 1.0, 1.0])
    for _ in range(3):
        optimizer.RUNGS[title](lists, state)
    assert np.allclose(state, [0.01, optimizer.BETA1**3, optimizer.BETA2**3], rtol=1e-15)
    for p, want, g, given_g in zip(lists[0], wanted, lists[1], gradients, strict=True):
        assert p.dtype == dtype
        assert_near(p, want, 32 * np.finfo(dtype).eps * (np.abs(want) + 1))
        assert np.array_equal(g, given_g, equal_nan=True)


# --------------------------------------------------------------------------------------- shape
def rungs(task: str) -> list[str]:
    return [title for title in shape.RUNGS if title.startswith(task)]


INDICES = {
    "all": (...,),
    "middle": (..., slice(1, -1), slice(2, None)),
    "part of an axis": (slice(None), slice(1)),
    "every second": (slice(None, None, 2), ..., slice(None, None, 2)),
    "backwards": (..., slice(None, None, -1)),
    "nothing": (slice(0),),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("title", rungs("copy"))
@few
@given(
    size=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    index=st.sampled_from(sorted(INDICES)),
    seed=seeds,
    turned=st.booleans(),
)
def test_copies(
    title: str, dtype: str, size: list[int], index: str, seed: int, turned: bool
) -> None:
    x = normal(seed, *size, dtype=dtype)
    x.flat[0] = np.nan
    x = x.T if turned else x
    y = shape.RUNGS[title](x, INDICES[index])
    assert y.flags.c_contiguous
    assert y.dtype == x.dtype
    assert not np.shares_memory(x, y)
    assert np.array_equal(y, x[INDICES[index]], equal_nan=True)


@pytest.mark.parametrize("title", rungs("copy"))
def test_copies_large_enough_for_threads(title: str) -> None:
    x = normal(0, 37, 3, 32, 31)
    assert np.array_equal(shape.RUNGS[title](x, shape.MIDDLE), x[shape.MIDDLE])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("title", rungs("gather"))
@few
@given(n=sizes, m=sizes, count=st.integers(1, 40), seed=seeds)
def test_gathers(title: str, dtype: str, n: int, m: int, count: int, seed: int) -> None:
    x = normal(seed, n, m, dtype=dtype)
    x.flat[-1] = np.nan
    rows = np.random.default_rng(seed).integers(n, size=count)
    assert np.array_equal(shape.RUNGS[title](x, rows), x[rows], equal_nan=True)


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
            want = reference(*(a.astype(np.float64) for a in arrays), **attributes, **geometry)
            sizes = (np.nan_to_num(np.abs(a.astype(np.float64))) for a in arrays)
            terms = 1 + x.size + w.size
            bound = terms * np.finfo(dtype).eps * reference(*sizes, **attributes, **geometry)
            assert y.dtype == dtype
            assert_near(y, want, bound)
            for a, kept in zip(arrays, before, strict=True):
                assert np.array_equal(a, kept, equal_nan=True)


# ----------------------------------------------------------------------------------- normalisers
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("title", norm.RUNGS)
def test_normalisers(title: str, dtype: str) -> None:
    for sides in ((5, 3, 7), (1, 2, 65), (300, 3, 1), (9, 1, 1)):
        x = normal(0, *sides, dtype=dtype) * 2 + 1
        x[0, 0, 0] = np.nan if sides[1] > 1 else 1
        scale, shift = normal(1, sides[1], dtype=dtype), normal(2, sides[1], dtype=dtype)
        y = norm.RUNGS[title](x, scale, shift, 1e-5)
        want = Op.registry["normalize"].reference(
            *(a.astype(np.float64) for a in (x, scale, shift)), eps=1e-5
        )
        assert y.dtype == dtype
        assert_near(y, want, 400 * np.finfo(dtype).eps * np.nanmax(np.abs(want)))


def test_one_pass_loses_the_variance_of_what_lies_far_from_zero() -> None:
    x, one = normal(0, 64, 1, 49) + np.float32(1000), np.ones(1, np.float32)
    want = (x.astype(np.float64) - x.mean(dtype=np.float64)) / x.std(dtype=np.float64)
    for rung in norm.RUNGS.values():
        assert np.abs(rung(x, one, 0 * one, 1e-12) - want).max() < 1e-3
    assert not np.abs(norm.WRONG["one pass"](x, one, 0 * one, 1e-12) - want).max() < 1e-2
