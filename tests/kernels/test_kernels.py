"""Kernels of every device against the ops' references: values, memory layouts, bits."""

import math
import os
from typing import Any

import numpy as np
import pytest
from helpers import (
    ELEMENTWISE,
    FLOATS,
    KERNEL_DEVICES,
    LAYOUTS,
    assert_close,
    broadcasting_sample,
    draw,
    run,
    samples,
    spy_parallel,
    threads,
)

from minigan.engine.device import get_device
from minigan.engine.op import Op, Update
from minigan.kernels.elementwise import cpu as elementwise
from minigan.kernels.reduce import cpu as reduce
from minigan.kernels.shape import cpu as shape_kernels

CPU, REFERENCE = get_device("cpu"), get_device("reference")
# All but the random ops, which test_random_kernels.py tests.
WITH_KERNEL = sorted(
    name
    for name, op in Op.registry.items()
    if name in CPU.kernels and not name.startswith("random_")  # type: ignore[attr-defined]
)
KERNELS = pytest.mark.parametrize("name", WITH_KERNEL)

# More elements than any elementwise, shape or reduction kernel needs for a second thread. Sizes are
# odd, so that threads get parts of unequal size.
MIN_PARALLEL_ELEMENTS = max(
    elementwise.GRAIN, reduce.MIN_PARALLEL_ELEMENTS, shape_kernels.MIN_PARALLEL_ELEMENTS
)
WIDE = (307, MIN_PARALLEL_ELEMENTS // 307 + 17 | 1)
# Shapes and attributes for which a kernel that is not elementwise uses several threads.
LARGE: dict[str, tuple[tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "sum": ((WIDE,), {"axis": (1,), "keepdims": False}),
    "max": ((WIDE,), {"axis": (0,), "keepdims": False}),
    "cast": ((WIDE,), {"dtype": np.dtype("float64")}),
    "slice_scatter": (
        (WIDE,),
        {"shape": (311, WIDE[1] + 1), "index": (slice(3, 310), slice(1, None)), "value": 0.5},
    ),
    "concatenate": (((3, WIDE[1]), WIDE), {"axis": 0}),
    "matmul": (((397, 67), (67, 263)), {}),
    "dense": (((397, 67), (67, 263), (263,)), {}),
}
# Ops whose results are not rounded. (Of these, scatter_add adds: `_bound` has a case for it.)
EXACT = shape_kernels.KERNELS.keys() | {"max", "cast"}


def test_every_kernel_belongs_to_an_op_or_update() -> None:
    assert CPU.kernels.keys() <= Op.registry.keys() | Update.registry.keys()  # type: ignore[attr-defined]


def _is_view(op: Op, arrays: list[Any], attributes: dict[str, Any]) -> bool:
    """Return whether the op's numpy reference moves no element."""
    y = op.reference(*arrays, **attributes)
    return any(np.may_share_memory(x, y) for x in arrays if isinstance(x, np.ndarray))


def _large(name: str, dtype: str) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Return inputs and attributes for which the kernel uses several threads."""
    rng = np.random.default_rng(1)
    if name in LARGE:
        shapes, attributes = LARGE[name]
        return [rng.uniform(-2, 2, shape).astype(dtype) for shape in shapes], attributes
    sample = broadcasting_sample(Op.registry[name])
    assert sample is not None, f"no operands large enough for the parallel kernel of {name!r}"
    makers, attributes = sample
    shapes = (WIDE, WIDE[1:], ())[: len(makers)]
    return draw(tuple(m.at(s) for m, s in zip(makers, shapes, strict=True)), rng, dtype), attributes


def _check(
    device: str, name: str, arrays: list[Any], attributes: dict[str, Any], what: str
) -> None:
    """Compare the kernel's result with the float64 reference; the inputs stay unchanged."""
    before = [np.array(a) for a in arrays]
    exact = [_exact(a) for a in arrays]
    expected = REFERENCE.run(Op.registry[name], tuple(exact), attributes)
    y = run(device, Op.registry[name], arrays, attributes)
    for a, b in zip(arrays, before, strict=True):
        assert np.asarray(a).tobytes() == b.tobytes(), f"{what}: an input was changed"
    dtypes = [a.dtype for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    dtype = next(iter(dtypes), np.dtype("float64"))
    if expected.dtype.kind == "f":
        assert y.dtype == attributes.get("dtype", dtype)
    if y.dtype == bool:
        assert y.view(np.uint8).max(initial=0) <= 1, f"{what}: an element was never written"
    assert_close(y, expected, _bound(name, exact, expected, attributes, dtype), what)


def _exact(x: Any) -> Any:
    """Return the same numbers in float64, in new memory."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return x.astype(np.float64)
    return x


def _bound(
    name: str, inputs: list[Any], expected: np.ndarray, attributes: dict[str, Any], dtype: np.dtype
) -> float:
    """Return a bound of the rounding error in max-norm; the unit roundoff is half of eps."""
    roundoff = float(np.finfo(dtype).eps) / 2
    largest = np.abs(expected).max(initial=0.0) if expected.dtype.kind == "f" else 0.0
    if name in ("matmul", "dense"):  # a sum of k products (Higham 2002, section 3.1)
        a, b, *bias = (np.abs(x) for x in inputs)
        size = np.matmul(a, b).max(initial=0.0) + sum(x.max(initial=0.0) for x in bias)
        return (inputs[0].shape[-1] + 1) * roundoff * size
    if name == "sum":  # blocks of about sqrt(n) terms, and as many blocks
        x, axis = inputs[0], attributes["axis"]
        count = math.prod(x.shape[i] for i in axis)
        return (2 * math.sqrt(count) + 8) * roundoff * np.abs(x).sum(axis).max(initial=0.0)
    if name == "scatter_add":
        return inputs[0].size * roundoff * largest
    return 0.0 if name in EXACT else 8 * roundoff * largest


# ------------------------------------------------------------------------------------- values
@KERNELS
@KERNEL_DEVICES
@FLOATS
def test_samples_in_every_memory_layout(
    device: str, name: str, dtype: str, rng: np.random.Generator, poisoned: list[tuple[int, ...]]
) -> None:
    only_views = True
    for inputs, attributes in samples(Op.registry[name]):
        arrays = draw(inputs, rng, dtype)
        only_views &= _is_view(Op.registry[name], arrays, attributes)
        for layout, view in LAYOUTS.items():
            views = [view(a) if isinstance(a, np.ndarray) else a for a in arrays]
            _check(device, name, views, attributes, f"{name}, {layout}")
    assert poisoned or only_views


SHAPES = {
    1: [[()], [(1,)], [(67,)], [(13, 17)], [(0, 3)], [(2, 3, 5, 7)], [(4, 1, 3)]],
    2: [
        [(), ()],
        [(67,), (67,)],
        [(13, 17), (17,)],
        [(13, 1), (1, 17)],
        [(), (5, 3)],
        [(0, 3), (1, 3)],
        [(2, 1, 5, 1), (3, 1, 7)],
    ],
    3: [[(5,), (), (5,)], [(13, 1), (17,), (2, 1, 1)], [(0,), (1,), (0,)]],
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@KERNEL_DEVICES
@FLOATS
def test_elementwise_kernels_broadcast_in_every_memory_layout(
    device: str, name: str, dtype: str, rng: np.random.Generator, poisoned: list[tuple[int, ...]]
) -> None:
    sample = broadcasting_sample(Op.registry[name])
    assert sample is not None
    makers, attributes = sample
    for shapes in SHAPES[len(makers)]:
        inputs = tuple(make.at(shape) for make, shape in zip(makers, shapes, strict=True))
        arrays = draw(inputs, rng, dtype)
        for layout, view in LAYOUTS.items():
            _check(device, name, [view(a) for a in arrays], attributes, f"{name} {shapes} {layout}")
        shape = (2, *np.broadcast_shapes(*shapes))  # strides of 0, and negative ones
        views = [np.broadcast_to(arrays[0], shape), *(LAYOUTS["reversed"](a) for a in arrays[1:])]
        _check(device, name, views, attributes, f"{name} {shapes} stride 0")
    assert poisoned


@pytest.mark.parametrize("name", ["sum", "max"])
@KERNEL_DEVICES
@FLOATS
def test_reductions_over_any_axes_in_every_memory_layout(
    device: str, name: str, dtype: str, rng: np.random.Generator, poisoned: list[tuple[int, ...]]
) -> None:
    sizes = [
        (1,),
        (2, 3, 5),
        (67, 3),
        (3, 67),
        (5, 1, 7),
        (9001,),
        (3, 4099),
        (4099, 3),
        (2, 521, 66),
    ]
    for shape in sizes:
        x = rng.standard_normal(shape).astype(dtype)
        for layout, view in LAYOUTS.items():
            for mask in range(2 ** len(shape)):
                axis = tuple(i for i in range(len(shape)) if mask >> i & 1)
                attributes = {"axis": axis, "keepdims": bool(mask % 3)}
                _check(device, name, [view(x)], attributes, f"{name} {shape} {axis} {layout}")
    empty = np.zeros((0, 3), dtype)
    assert np.array_equal(
        run(device, Op.registry["sum"], (empty,), {"axis": (0,), "keepdims": False}), np.zeros(3)
    )
    assert poisoned


@pytest.mark.parametrize("name", ["matmul", "dense"])
@KERNEL_DEVICES
@FLOATS
def test_matrix_products_in_every_memory_layout(
    device: str, name: str, dtype: str, rng: np.random.Generator, poisoned: list[tuple[int, ...]]
) -> None:
    for m, k, n in [
        (1, 1, 1),
        (3, 5, 7),
        (17, 13, 1),
        (1, 600, 31),
        (65, 33, 49),
        (0, 3, 2),
        (2, 0, 3),
    ]:
        a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
        bias = [rng.standard_normal(n).astype(dtype)] if name == "dense" else []
        for first, left in LAYOUTS.items():
            for second, right in LAYOUTS.items():
                views = [left(a), right(b), *map(right, bias)]
                _check(device, name, views, {}, f"{name} {m} {k} {n} {first} {second}")
        repeated = [np.broadcast_to(a[:1], (m, k)) if m else a, b, *bias]
        _check(device, name, repeated, {}, f"{name} {m} {k} {n} stride 0")
    assert poisoned


@KERNEL_DEVICES
@FLOATS
def test_gather_and_scatter_add_with_indices_in_every_memory_layout(
    device: str, dtype: str, rng: np.random.Generator, poisoned: list[tuple[int, ...]]
) -> None:
    x = rng.standard_normal((5, 4, 6)).astype(dtype)
    for axis in range(3):
        shape = tuple(7 if i == axis else n for i, n in enumerate(x.shape))
        i = rng.integers(0, x.shape[axis], shape)
        one = i[tuple(slice(None) if a == axis else slice(0, 1) for a in range(3))]
        source = rng.standard_normal(shape).astype(dtype)
        # The last one is what numpy returns for a sum of transposed indices: not C-contiguous.
        index_views = [view(i) for view in LAYOUTS.values()]
        index_views += [np.broadcast_to(one, shape), np.asfortranarray(i)]
        for index in index_views:
            arrays = [LAYOUTS["transposed"](x), index]
            _check(device, "gather", arrays, {"axis": axis}, f"gather {axis}")
            attributes = {"axis": axis, "size": x.shape[axis]}
            _check(device, "scatter_add", [source, index], attributes, f"scatter_add {axis}")
    assert poisoned


# ------------------------------------------------------------------------------ multithreading
def _with_threads(count: int, name: str, arrays: list[np.ndarray], attributes: dict) -> np.ndarray:
    with threads(count):
        return CPU.run(Op.registry[name], tuple(arrays), attributes)


def _one_of_each_kind() -> list[str]:
    """Return one elementwise op for each number of inputs, with and without attributes or bools."""
    kinds: dict[tuple[int, bool, bool], str] = {}
    for name in ELEMENTWISE:
        makers, attributes = broadcasting_sample(Op.registry[name]) or ((), {})
        kinds[len(makers), bool(attributes), name in elementwise.COMPARISONS] = name
    return list(kinds.values())


# Elementwise kernels are generated from one template, and each takes a second to compile. So one of
# each kind is tested, and all of them in the nightly profile.
NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
PARALLEL = [(name, "float32") for name in (ELEMENTWISE if NIGHTLY else _one_of_each_kind())]
PARALLEL += [
    ("multiply", "float64"),
    *((name, d) for name in LARGE for d in ("float32", "float64")),
]


@pytest.mark.parametrize(("name", "dtype"), PARALLEL)
def test_multithreaded_kernels_have_the_bits_of_one_thread(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch, poisoned: list[tuple[int, ...]]
) -> None:
    arrays, attributes = _large(name, dtype)
    one = _with_threads(1, name, arrays, attributes)
    calls = spy_parallel(monkeypatch)
    two = _with_threads(2, name, arrays, attributes)
    assert calls, f"{name}: no parallel kernel ran for {[a.shape for a in arrays]}"
    assert (one.dtype, one.tobytes()) == (two.dtype, two.tobytes())
    with threads(2):
        _check("cpu", name, arrays, attributes, f"{name}, parallel")
        if name in ("sum", "max", "matmul"):  # the other axis: columns instead of rows
            views = [np.array(a.T, order="C").T for a in arrays]
            _check("cpu", name, views, attributes, f"{name}, parallel, transposed")
    assert poisoned


@pytest.mark.parametrize("name", ELEMENTWISE)
@KERNEL_DEVICES
@FLOATS
def test_bits_of_an_element_do_not_depend_on_its_position(
    device: str, name: str, dtype: str
) -> None:
    """In a vector, in the rest after the last vector, or at the start of a thread's part."""
    sample = broadcasting_sample(Op.registry[name])
    assert sample is not None
    makers, attributes = sample
    arrays = draw(tuple(m.at((1003,)) for m in makers), np.random.default_rng(0), dtype)
    y = run(device, Op.registry[name], arrays, attributes)
    for begin, end in [(1, 1003), (0, 1001), (517, 524), (3, 4)]:
        part = run(device, Op.registry[name], [a[begin:end] for a in arrays], attributes)
        assert part.tobytes() == y[begin:end].tobytes(), (begin, end)


@pytest.mark.parametrize("axis", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("name", ["sum", "max"])
def test_bits_of_reductions_do_not_depend_on_threads(name: str, axis: tuple[int, ...]) -> None:
    size = MIN_PARALLEL_ELEMENTS
    for shape in [WIDE, (size + 1, 1), (3, size), (2, size + 1), (size, 3)]:
        x = np.random.default_rng(0).standard_normal(shape).astype("float32")
        attributes = {"axis": axis, "keepdims": False}
        one, two = (_with_threads(n, name, [x], attributes) for n in (1, 2))
        assert one.tobytes() == two.tobytes(), (shape, axis)


def test_small_arrays_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy_parallel(monkeypatch)
    x = np.ones(100, np.float32)
    with threads(2):
        CPU.run(Op.registry["add"], (x, x), {})
        CPU.run(Op.registry["sum"], (x,), {"axis": (0,), "keepdims": False})
    assert calls == []
