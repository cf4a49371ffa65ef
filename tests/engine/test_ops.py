"""Every op in the registry: its gradients, its shapes, and that its samples reach all of its VJPs.

A new op is tested here by its samples; it needs no test of its own.
"""

import dis
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from emulator_helpers import COMPILER, has_gpu
from helpers import (
    ALL_OPS,
    DEVICES,
    ELEMENTWISE,
    KERNEL_DEVICES,
    assert_close,
    broadcasting_sample,
    draw,
    samples,
)
from hypothesis import given
from hypothesis import strategies as st

import minigan as mg
from minigan.engine.check import check_gradients, op_samples
from minigan.engine.op import Op

HERE = ["reference", "cpu", *["cuda-emulator"] * COMPILER, *["cuda"] * has_gpu()]


# --------------------------------------------------------------------------------- the registry
@ALL_OPS
def test_has_samples(name: str) -> None:
    assert list(samples(Op.registry[name])), f"op {name!r} has no samples to be checked on"


@ALL_OPS
def test_has_a_vjp_per_input(name: str) -> None:
    op = Op.registry[name]
    if not callable(op.vjps):
        for inputs, _ in samples(op):
            assert len(inputs) == len(op.vjps)


def test_names_are_unique(make_op: Callable[..., Op]) -> None:
    with pytest.raises(ValueError, match="an op named 'tanh' exists already"):
        make_op("tanh", np.tanh, (None,))


# ------------------------------------------------------------------------------------ gradients
@ALL_OPS
@DEVICES
def test_gradients_of_order_1_and_2(name: str, device: str) -> None:
    op = Op.registry[name]
    checked = 0
    for f, drawn, smooth in op_samples(op):
        y = f(*(mg.tensor(a, device=device, requires_grad=a.dtype.kind == "f") for a in drawn))
        differentiable = any(op.vjp(i) for i in range(len(drawn)))
        if not differentiable:
            assert not y.requires_grad, f"{name} has no VJP and a result that requires gradients"
        if smooth and y.dtype.kind == "f":
            check_gradients(f, drawn, device=device, name=name)
            checked += 1
        assert checked or not differentiable or not smooth
    assert checked or not any(op.vjp(i) for i in range(len(drawn)))


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if any(Op.registry[n].vjps)])
@given(data=st.data())
def test_gradients_where_shapes_broadcast(name: str, data: st.DataObject) -> None:
    op = Op.registry[name]
    drawn, attributes = _at_drawn_shapes(op, data)
    floats = [a for a in drawn if a.dtype.kind == "f"]
    masks = [mg.tensor(a, device="reference") for a in drawn if a.dtype.kind != "f"]
    check_gradients(lambda *xs: op(*masks, *xs, **attributes), floats, name=name)


def _at_drawn_shapes(op: Op, data: st.DataObject) -> tuple[list[np.ndarray], dict[str, Any]]:
    """The op's sample at shapes that broadcast: 0-d, of size 1 and empty ones among them."""
    sample = broadcasting_sample(op)
    assert sample is not None
    makers, attributes = sample
    shapes = data.draw(
        arrays_of.mutually_broadcastable_shapes(
            num_shapes=len(makers), min_dims=0, max_dims=3, min_side=0, max_side=4
        )
    ).input_shapes
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    return [make.at(s)(rng) for make, s in zip(makers, shapes, strict=True)], attributes


@given(data=st.data())
def test_gradients_of_matmul_where_batches_broadcast(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(1, 4)) for _ in range(3))
    shapes = arrays_of.mutually_broadcastable_shapes(
        num_shapes=2, min_dims=0, max_dims=2, min_side=1, max_side=3
    )
    batch_a, batch_b = data.draw(shapes).input_shapes
    rng = np.random.default_rng(0)
    pair = [rng.standard_normal((*batch_a, m, k)), rng.standard_normal((*batch_b, k, n))]
    device = data.draw(st.sampled_from(HERE))
    check_gradients(mg.ops.matmul, pair, device=device, name="matmul")


# --------------------------------------------------------------------------------------- values
@pytest.mark.parametrize("name", ELEMENTWISE)
@KERNEL_DEVICES
@given(data=st.data())
def test_values_where_shapes_broadcast(device: str, name: str, data: st.DataObject) -> None:
    op = Op.registry[name]
    drawn, attributes = _at_drawn_shapes(op, data)
    expected = op(*(mg.tensor(a, device="reference") for a in drawn), **attributes).numpy()
    y = op(*(mg.tensor(a, device=device) for a in drawn), **attributes).numpy()
    assert y.dtype == expected.dtype
    assert_close(y, expected, 8 * np.finfo(np.float64).eps * np.abs(expected).max(initial=0), name)


@ALL_OPS
@KERNEL_DEVICES
def test_devices_agree_on_shape_and_dtype(device: str, name: str) -> None:
    """Of every sample, its floats in either dtype; numbers mixed in do not change the dtype."""
    op = Op.registry[name]
    for inputs, attributes in samples(op):
        for dtype in ("float32", "float64"):
            drawn = draw(inputs, np.random.default_rng(0), dtype)
            results = []
            for where in ("reference", device):
                xs = [
                    mg.tensor(a, device=where) if callable(m) else a
                    for a, m in zip(drawn, inputs, strict=True)
                ]
                y = op(*xs, **attributes)
                for x in xs:  # else a later update of x would change y, and nobody would know
                    shared = isinstance(x, mg.Tensor) and _share_memory(x, y)
                    assert op.view or not shared, f"{name} gave back its input's memory"
                results.append(y)
            a, b = results
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            if op.dtypes[0] in "fx" and a.dtype.kind == "f" and "dtype" not in attributes:
                assert a.dtype == dtype


def _share_memory(x: mg.Tensor, y: mg.Tensor) -> bool:
    if isinstance(x.array, np.ndarray):
        return np.may_share_memory(x.array, y.array)
    return x.array.data.mem is y.array.data.mem  # cupy's, of a GPU


@DEVICES
@pytest.mark.parametrize("number", [np.float64(0.1), np.float32(0.1), np.int64(2)])
def test_numpy_numbers_are_numbers(device: str, number: Any) -> None:
    """They stand for their value and leave the tensor's dtype as it is."""
    x = mg.tensor([1.0, 2.0], device=device, requires_grad=True)
    for y in (x * number, number * x, mg.ops.divide(x, 1 / number)):
        assert y.dtype == np.float32
        assert np.allclose(y.numpy(), [number, 2 * number], rtol=1e-6)
    (gx,) = mg.grad((x * number).sum(), [x])
    assert gx.dtype == np.float32


# ------------------------------------------------------------------- samples reach all of a VJP
def _functions(op: Op) -> list[Any]:
    vjps = [op.vjps] if callable(op.vjps) else [vjp for vjp in op.vjps if vjp is not None]
    return vjps + ([op.prepare] if op.prepare else [])


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions within it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _unreached(run: Callable[[], object], functions: list[Any]) -> list[str]:
    """The expressions in `functions`, with their positions, that `run` never evaluates."""
    codes = [code for function in functions for code in _codes(function.__code__)]
    executed: dict[CodeType, set[int]] = {code: set() for code in codes}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code not in executed:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            executed[frame.f_code].add(frame.f_lasti)
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at it when the tracing starts
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    missed = []
    for code, offsets in executed.items():
        reached: dict[Any, bool] = {}  # by the position of the expression in the source
        for instruction in dis.get_instructions(code):
            span = instruction.positions
            if span is not None and span.lineno and span.col_offset != span.end_col_offset:
                reached[span] = reached.get(span, False) or instruction.offset in offsets
        missed += [
            f"{code.co_name}, {span}" for span, is_reached in reached.items() if not is_reached
        ]
    return missed


def _differentiate(op: Op) -> None:
    for f, drawn, smooth in op_samples(op):
        tensors = [mg.tensor(a, device="reference") for a in drawn]
        if smooth and f(*tensors).dtype.kind == "f":
            check_gradients(f, drawn, name=op.name)


@ALL_OPS
def test_samples_reach_every_expression_of_every_vjp(name: str) -> None:
    op = Op.registry[name]
    assert _unreached(lambda: _differentiate(op), _functions(op)) == []


def test_an_unreached_branch_is_found(make_op: Callable[..., Op]) -> None:
    op = make_op(
        "half_tested",
        lambda x, twice: x * (2 if twice else 1),
        (lambda g, y, x, twice: mg.ops.multiply(g, 2.0) if twice else mg.ops.multiply(g, 1.0),),
        [(lambda rng: rng.standard_normal(3), {"twice": True})],
    )
    op.samples[0][0].smooth = True
    (function,) = _functions(op)
    missed = _unreached(lambda: _differentiate(op), [function])
    assert missed
    assert all("half_tested" not in place for place in missed)
    op.samples.append((op.samples[0][0], {"twice": False}))
    assert _unreached(lambda: _differentiate(op), [function]) == []
