"""The kernels of every device against what their ops mean: values, layouts, bits."""

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
    rooms,
    run,
    samples,
    spy_parallel,
    threads,
)

from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.engine.update import Update

CPU, REFERENCE = get_device("cpu"), get_device("reference")
# Random numbers have tests of their own; views compute nothing.
WITH_KERNEL = sorted(
    name
    for name, op in Op.registry.items()
    if name in CPU.kernels and not name.startswith("random_")  # type: ignore[attr-defined]
)
KERNELS = pytest.mark.parametrize("name", WITH_KERNEL)

# Operands large enough for the parallel path, where an op has one; sizes are odd on purpose.
GRAIN = max(getattr(room, "GRAIN", 0) for room in rooms())
WIDE = (307, GRAIN // 307 + 17 | 1)
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
SERIAL_ONLY = {"reshape", "transpose", "broadcast_to", "slice", "gather", "scatter_add"}


def test_every_kernel_is_known_by_an_op_or_update() -> None:
    assert CPU.kernels.keys() <= Op.registry.keys() | Update.registry.keys()  # type: ignore[attr-defined]


def _large(name: str, dtype: str) -> tuple[list[np.ndarray], dict[str, Any]]:
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
    """The kernel's result against the float64 reference; inputs are unchanged."""
    before = [np.array(a) for a in arrays]
    exact = [_exact(a) for a in arrays]
    wanted = REFERENCE.run(Op.registry[name], tuple(exact), attributes)
    y = run(device, Op.registry[name], arrays, attributes)
    for a, b in zip(arrays, before, strict=True):
        assert np.asarray(a).tobytes() == b.tobytes(), f"{what}: an input was changed"
    dtypes = [a.dtype for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    dtype = next(iter(dtypes), np.dtype("float64"))
    if wanted.dtype.kind == "f":
        assert y.dtype == attributes.get("dtype", dtype)
    if y.dtype == bool:
        assert y.view(np.uint8).max(initial=0) <= 1, f"{what}: an element was never written"
    assert_close(y, wanted, _bound(name, exact, wanted, attributes, dtype), what)


def _exact(x: Any) -> Any:
    """The same numbers in float64, as new memory."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return x.astype(np.float64)
    return x


def _bound(
    name: str, inputs: list[Any], wanted: np.ndarray, attributes: dict[str, Any], dtype: np.dtype
) -> float:
    """Roundings times their size, in max-norm: unit roundoff is half of eps."""
    roundoff = float(np.finfo(dtype).eps) / 2
    largest = np.abs(wanted).max(initial=0.0) if wanted.dtype.kind == "f" else 0.0
    if name in ("matmul", "dense"):  # a chain of k multiply-adds (Higham 2002, section 3.1)
        a, b, *bias = (np.abs(x) for x in inputs)
        size = np.matmul(a, b).max(initial=0.0) + sum(x.max(initial=0.0) for x in bias)
        return (inputs[0].shape[-1] + 1) * roundoff * size
    if name == "sum":  # blocks of about sqrt(n) terms, and chains of as many blocks
        x, axis = inputs[0], attributes["axis"]
        count = math.prod(x.shape[i] for i in axis)
        return (2 * math.sqrt(count) + 8) * roundoff * np.abs(x).sum(axis).max(initial=0.0)
    if name == "scatter_add":
        return inputs[0].size * roundoff * largest
    moves = name in SERIAL_ONLY or name in ("slice_scatter", "concatenate", "max", "cast")
    return 0.0 if moves else 8 * roundoff * largest


# ------------------------------------------------------------------------------------- values
@KERNELS
@KERNEL_DEVICES
@FLOATS
def test_samples_in_every_layout(
    device: str, name: str, dtype: str, rng: np.random.Generator, poisoned: list[tuple[int, ...]]
) -> None:
    for inputs, attributes in samples(Op.registry[name]):
        arrays = draw(inputs, rng, dtype)
        for layout, view in LAYOUTS.items():
            views = [view(a) if isinstance(a, np.ndarray) else a for a in arrays]
            _check(device, name, views, attributes, f"{name}, {layout}")
    assert poisoned or name in SERIAL_ONLY


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
def test_elementwise_shapes_in_every_layout(
    device: str, name: str, dtype: str, rng: np.random.Generator, poisoned: list[tuple[int, ...]]
) -> None:
    sample = broadcasting_sample(Op.registry[name])
    assert sample is not None
    makers, attributes = sample
    for shapes in SHAPES[len(makers)]:
        at = tuple(make.at(shape) for make, shape in zip(makers, shapes, strict=True))
        arrays = draw(at, rng, dtype)
        for layout, view in LAYOUTS.items():
            _check(device, name, [view(a) for a in arrays], attributes, f"{name} {shapes} {layout}")
        whole = (2, *np.broadcast_shapes(*shapes))  # strides of 0, and one walked backwards
        views = [np.broadcast_to(arrays[0], whole), *(LAYOUTS["reversed"](a) for a in arrays[1:])]
        _check(device, name, views, attributes, f"{name} {shapes} stride 0")
    assert poisoned


@pytest.mark.parametrize("name", ["sum", "max"])
@KERNEL_DEVICES
@FLOATS
def test_reductions_over_any_axes_in_every_layout(
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
def test_products_in_every_layout(
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
def test_gather_and_scatter_add_with_indices_in_every_layout(
    device: str, dtype: str, rng: np.random.Generator, poisoned: list[tuple[int, ...]]
) -> None:
    x = rng.standard_normal((5, 4, 6)).astype(dtype)
    for axis in range(3):
        shape = tuple(7 if i == axis else n for i, n in enumerate(x.shape))
        i = rng.integers(0, x.shape[axis], shape)
        one = i[tuple(slice(None) if a == axis else slice(0, 1) for a in range(3))]
        given = rng.standard_normal(shape).astype(dtype)
        # The last one is what numpy gives for a sum of transposed indices: not C-contiguous.
        indices = [view(i) for view in LAYOUTS.values()]
        indices += [np.broadcast_to(one, shape), np.asfortranarray(i)]
        for indices_ in indices:
            _check(
                device,
                "gather",
                [LAYOUTS["transposed"](x), indices_],
                {"axis": axis},
                f"gather {axis}",
            )
            attributes = {"axis": axis, "size": x.shape[axis]}
            _check(device, "scatter_add", [given, indices_], attributes, f"scatter_add {axis}")
    assert poisoned


# ----------------------------------------------------------------------- threads and their bits
def _with_threads(count: int, name: str, arrays: list[np.ndarray], attributes: dict) -> np.ndarray:
    with threads(count):
        return CPU.run(Op.registry[name], tuple(arrays), attributes)


# Elementwise kernels come from one template: one for each kind of operands and result will do, and
# all of them at night. Each takes a second to compile.
KINDS = ("exp", "clip", "multiply", "clip_grad", "where", "greater")
NIGHT = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
PARALLEL = [(name, "float32") for name in (ELEMENTWISE if NIGHT else KINDS)]
PARALLEL += [
    ("multiply", "float64"),
    *((name, d) for name in LARGE for d in ("float32", "float64")),
]


@pytest.mark.parametrize(("name", "dtype"), PARALLEL)
def test_parallel_kernel_runs_and_has_the_serial_ones_bits(
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
        if name in ("sum", "max", "matmul"):  # the other axis: rows against columns
            views = [np.array(a.T, order="C").T for a in arrays]
            _check("cpu", name, views, attributes, f"{name}, parallel, transposed")
    assert poisoned


@pytest.mark.parametrize("name", ELEMENTWISE)
@KERNEL_DEVICES
@FLOATS
def test_an_elements_bits_do_not_depend_on_its_place(device: str, name: str, dtype: str) -> None:
    """In a vector, in the tail behind the last one, or where a thread's span begins."""
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
def test_reductions_have_one_result_for_any_threads(name: str, axis: tuple[int, ...]) -> None:
    for shape in [WIDE, (GRAIN + 1, 1), (3, GRAIN), (2, GRAIN + 1), (GRAIN, 3)]:
        x = np.random.default_rng(0).standard_normal(shape).astype("float32")
        attributes = {"axis": axis, "keepdims": False}
        one, two = (_with_threads(n, name, [x], attributes) for n in (1, 2))
        assert one.tobytes() == two.tobytes(), (shape, axis)


def test_threads_are_few_where_work_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy_parallel(monkeypatch)
    x = np.ones(100, np.float32)
    with threads(2):
        CPU.run(Op.registry["add"], (x, x), {})
        CPU.run(Op.registry["sum"], (x,), {"axis": (0,), "keepdims": False})
    assert calls == []
