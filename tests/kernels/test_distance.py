"""L1 distances of all pairs and their derivatives: reference, adjoints, layouts, PyTorch."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from emulator_helpers import CUDA_DEVICES, needs_compiler
from helpers import (
    DEVICES,
    FLOATS,
    KERNEL_DEVICES,
    LAYOUTS,
    assert_close,
    run,
    spy_parallel,
    threads,
)

import minigan as mg
from minigan import ops
from minigan.engine.cuda import CudaDevice
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.kernels.distance import cpu
from minigan.kernels.runtime.emulator.emulator import Emulator

NAMES = tuple(cpu.KERNELS)
DISTANCES, GRAD, JVP = (Op.registry[name] for name in NAMES)
# (batch, c, n, m): one element; fewer and more columns than a vector, a strip of 128, a block of 32
# rows, a tile of 32 and a chunk of 4; no column, no row, no matrix.
SHAPES: list[tuple[tuple[int, ...], int, int, int]] = [
    *(((), 1, 1, 1), ((2,), 3, 5, 7), ((2, 3), 4, 16, 33), ((1,), 5, 131, 37), ((2,), 9, 33, 130)),
    *(((2,), 2, 1, 70), ((2,), 2, 70, 1), ((2,), 0, 3, 4), ((0,), 2, 3, 4), ((2,), 3, 0, 4)),
    ((2,), 3, 4, 0),
]


def draw(
    batch: tuple[int, ...], c: int, n: int, m: int, dtype: str, seed: int = 0
) -> list[tuple[Op, list[np.ndarray]]]:
    """Return each op with inputs of these sizes; some of the numbers are equal."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-9, 10, (*batch, c, k)).astype(dtype) / 4 for k in (n, m))
    g, v = (rng.standard_normal((*batch, *s)).astype(dtype) for s in ((n, m), (c, n)))
    return [(DISTANCES, [a, b]), (GRAD, [g, a, b]), (JVP, [v, a, b])]


def check(device: str, op: Op, arrays: list[np.ndarray], what: Any = "") -> np.ndarray:
    """Compare with the float64 reference, within the rounding error of a sum; return the result."""
    before = [x.copy() for x in arrays]
    expected = op.reference(*(x.astype(np.float64) for x in arrays))
    y = run(device, op, arrays, {})
    assert y.dtype == arrays[0].dtype
    for x, x_before in zip(arrays, before, strict=True):
        assert np.array_equal(x, x_before, equal_nan=True)
    terms = arrays[0].shape[-1] if op is GRAD else arrays[0].shape[-2]
    largest = max((np.abs(x[np.isfinite(x)]).max(initial=0) for x in arrays), default=0)
    bound = float(np.finfo(y.dtype).eps) * terms * terms * 2 * largest
    assert_close(y, expected, bound, f"{op.name} {what}")
    return y


# -------------------------------------------------------------------------------------- values
@DEVICES
def test_a_result_computed_by_hand(device: str) -> None:
    a = mg.tensor([[0.0, 3.0], [1.0, -1.0]], device=device, requires_grad=True)
    b = mg.tensor([[2.0, 0.0, -1.0], [1.0, 1.0, 5.0]], device=device, requires_grad=True)
    y = ops.l1_distances(a, b)
    assert y.numpy().tolist() == [[2, 0, 5], [3, 5, 10]]
    g = mg.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]], device=device)
    ga, gb = mg.grad(y, [a, b], g)
    assert ga.numpy().tolist() == [[-1 + 0 + 4, 8 + 16 + 32], [0 + 0 - 4, -8 - 16 - 32]]
    assert gb.numpy().tolist() == [[1 - 8, 0 - 16, -4 - 32], [0 + 8, 0 + 16, 4 + 32]]


@KERNEL_DEVICES
@FLOATS
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_kernels_equal_their_references(device: str, dtype: str, sizes: Any, poisoned: Any) -> None:
    for op, arrays in draw(*sizes, dtype):
        check(device, op, arrays, sizes)
        if arrays[0].size:
            for name, layout in LAYOUTS.items():
                check(device, op, [layout(x) for x in arrays], (sizes, name))
    assert poisoned


@KERNEL_DEVICES
@FLOATS
def test_bits_do_not_depend_on_strides(device: str, dtype: str) -> None:
    """With each input transposed in memory, and with all of them broadcast over the batch."""
    for op, arrays in draw((2,), 5, 131, 67, dtype):
        y = run(device, op, arrays, {})
        for x in range(len(arrays)):
            views = list(arrays)
            views[x] = np.ascontiguousarray(views[x].swapaxes(-1, -2)).swapaxes(-1, -2)
            assert run(device, op, views, {}).tobytes() == y.tobytes()
        broadcast = [np.broadcast_to(x[:1], x.shape) for x in arrays]
        copies = [np.array(x) for x in broadcast]
        assert run(device, op, broadcast, {}).tobytes() == run(device, op, copies, {}).tobytes()


@KERNEL_DEVICES
@FLOATS
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_where_the_reference_has_them(
    device: str, dtype: str, value: float
) -> None:
    for which in range(3):
        for op, arrays in draw((2,), 3, 20, 37, dtype):
            if which < len(arrays):
                for column in (0, 19):
                    arrays[which][1, 2, column] = value
                with np.errstate(invalid="ignore"):
                    y = check(device, op, arrays)
                assert np.isfinite(y).sum() > 0


@KERNEL_DEVICES
@FLOATS
def test_gradient_of_equal_numbers_is_zero(device: str, dtype: str) -> None:
    a = np.zeros((1, 2, 19), dtype)
    zeros = [np.zeros_like(a), -np.zeros_like(a)]
    g = np.ones((1, 19, 19), dtype)
    for b in zeros:
        assert not run(device, GRAD, [g, a, b], {}).any()
        assert not run(device, JVP, [np.ones_like(a), a, b], {}).any()


@KERNEL_DEVICES
@FLOATS
def test_gradient_and_jvp_are_adjoint(device: str, dtype: str) -> None:
    """<jvp(v), g> = <v, grad(g)>; and jvp(a) to a and jvp(b) to b add up to the distance."""
    for sizes in SHAPES[:6]:
        (_, (a, b)), (_, (g, *_)), (_, (v, *_)) = draw(*sizes, dtype)
        forward, back = run(device, JVP, [v, a, b], {}), run(device, GRAD, [g, a, b], {})
        bound = 8 * float(np.finfo(dtype).eps) * a.size * b.shape[-1]
        pairs = zip((forward, v), (g, back), strict=True)
        products = [float(np.vdot(x.astype(float), y.astype(float))) for x, y in pairs]
        assert products[0] == pytest.approx(products[1], abs=bound)
        to_b = np.swapaxes(run(device, JVP, [b, b, a], {}), -1, -2)
        assert_close(run(device, JVP, [a, a, b], {}) + to_b, DISTANCES.reference(a, b), bound)


# ----------------------------------------------------------------------- threads, seeds, checks
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for op, arrays in draw((3,), 7, 263, 211, dtype):
        views = [arrays]
        if op is GRAD:
            views.append(
                [np.ascontiguousarray(arrays[0].swapaxes(1, 2)).swapaxes(1, 2), *arrays[1:]]
            )
        for inputs in views:
            with threads(1):
                one = run("cpu", op, inputs, {})
            calls = spy_parallel(monkeypatch)
            with threads(2):
                assert run("cpu", op, inputs, {}).tobytes() == one.tobytes()
            assert calls


@DEVICES
@pytest.mark.parametrize("name", NAMES)
def test_runs_of_a_stack_are_one_launch_with_the_bits_of_single_ones(
    device: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, below, op = mg.stacked(range(3), device), get_device(device), Op.registry[name]
    single = [dict(draw((2,), 5, 37, 21, "float32", seed))[op] for seed in range(3)]
    stacks = tuple(runs.restore(np.stack(x)) for x in zip(*single, strict=True))
    seen: list[str] = []
    plain = type(below).run
    monkeypatch.setattr(
        type(below), "run", lambda self, op, *given: seen.append(op.name) or plain(self, op, *given)
    )
    many = runs.to_numpy(runs.run(op, stacks, {}))
    assert seen == [name]
    for found, arrays in zip(many, single, strict=True):
        assert found.tobytes() == run(device, op, arrays, {}).tobytes()


@needs_compiler
@FLOATS
def test_cuda_kernels_in_the_checked_emulator(dtype: str) -> None:
    """No faulty access and the same bits; and warps move few more sectors than are needed."""
    gpu = Emulator(checked=True)
    device = CudaDevice("cuda-emulator", gpu)
    for sizes in SHAPES:
        for op, arrays in draw(*sizes, dtype):
            expected = run("cuda-emulator", op, arrays, {})
            assert device.run(op, tuple(arrays), {}).tobytes() == expected.tobytes()
    for op, arrays in draw((2,), 8, 64, 64, dtype):
        for along_i in (False, True):
            inputs = list(arrays)
            if along_i:
                inputs[0] = np.ascontiguousarray(inputs[0].swapaxes(1, 2)).swapaxes(1, 2)
            before = gpu.counts
            device.run(op, tuple(inputs), {})
            counts = gpu.counts - before
            assert op is JVP or counts.sectors <= 2 * counts.ideal_sectors, (op.name, along_i)


@CUDA_DEVICES
def test_each_op_is_one_cuda_launch(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = get_device(device).launcher  # type: ignore[attr-defined]
    launched: list[str] = []
    plain = type(launcher).launch
    monkeypatch.setattr(
        type(launcher),
        "launch",
        lambda self, source, kernel, *arguments, **options: (
            launched.append(kernel) or plain(self, source, kernel, *arguments, **options)
        ),
    )
    for op, arrays in draw((2,), 5, 37, 21, "float32"):
        run(device, op, arrays, {})
    assert launched == list(NAMES)


@pytest.mark.parametrize(
    ("shapes", "error"),
    [
        (((2, 3), (3, 3)), "shapes (2, 3) and (3, 3) do not fit"),
        (((2, 4, 3), (1, 4, 3)), "shapes (2, 4, 3) and (1, 4, 3) do not fit"),
        (((4, 3), (1, 4, 3)), "shapes (4, 3) and (1, 4, 3) do not fit"),
        (((3,), (3,)), "(..., c, n) and (..., c, m) are needed"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: Any, error: str) -> None:
    with pytest.raises(ValueError, match=re.escape(error)):
        ops.l1_distances(*(mg.tensor(np.ones(s)) for s in shapes))


def test_inputs_that_are_not_tensors_of_one_dtype_are_refused() -> None:
    x = mg.tensor(np.ones((2, 3)))
    with pytest.raises(TypeError, match="l1_distances: argument 1"):
        ops.l1_distances(x, 1.0)
    with pytest.raises(TypeError, match="l1_distances: argument 1 is float32, the others float64"):
        ops.l1_distances(x, x.to("float32"))


# ------------------------------------------------------------------------------------- PyTorch
@DEVICES
@pytest.mark.parametrize("sizes", SHAPES[:5], ids=str)
def test_equal_to_pytorchs_cdist(device: str, sizes: Any) -> None:
    """Values, first and second derivatives, to 1e-10."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    (batch, c, n, m), rng = sizes, np.random.default_rng(0)
    arrays = [rng.standard_normal((*batch, c, k)) for k in (n, m)]

    def ours(a: mg.Tensor, b: mg.Tensor) -> mg.Tensor:
        return ops.exp(ops.negative(ops.l1_distances(a, b)))

    def theirs(a: Any, b: Any) -> Any:
        return torch.exp(-(a.mT[..., :, None, :] - b.mT[..., None, :, :]).abs().sum(-1))

    distance = torch.cdist(*(torch.tensor(x).mT.contiguous() for x in arrays), p=1.0)
    assert_close(run(device, DISTANCES, arrays, {}), distance.numpy(), 1e-10)
    pairs = zip(derivatives(ours, arrays, device), torch_derivatives(theirs, arrays), strict=True)
    for y, expected in pairs:
        assert_close(y, expected, 1e-10 * max(1.0, float(np.abs(expected).max())))
