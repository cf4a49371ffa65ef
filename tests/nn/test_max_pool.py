"""Max pooling: values and gradients by hand and as PyTorch's, on every device, of any layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, FLOATS, KERNEL_DEVICES, LAYOUTS, run, threads

import minigan as mg
from minigan import nn, ops
from minigan.engine.check import check_gradients
from minigan.engine.op import Op

# kernel, stride, padding, ceil_mode: windows that touch, overlap, leave gaps, begin and end outside
WINDOWS: list[tuple[Any, Any, Any, bool]] = [
    (2, None, 0, False),
    (3, 2, 1, False),
    (3, 2, 1, True),
    ((3, 2), (1, 3), (1, 0), True),
    (4, 1, 2, False),
    (2, 3, 1, True),
    ((7, 6), 1, (3, 3), False),
    (1, 2, 0, False),
]


def image(seed: int = 0, dtype: str = "float64", shape: tuple[int, ...] = (2, 3, 7, 6)) -> Any:
    """Return distinct numbers, of which finite differences move no maximum."""
    x = np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape)
    return (x / 10 - 3).astype(dtype)


@DEVICES
def test_values_and_gradients_by_hand(device: str) -> None:
    """The 4 in the middle is the maximum of all four windows of 2 x 2 at stride 1."""
    a = np.array([[1.0, 2, 0], [0, 4, 3], [5, 0, 1]]).reshape(1, 1, 3, 3)
    x = mg.tensor(a, device=device, requires_grad=True)
    y = ops.max_pool2d(x, 2, 1)
    assert y.numpy().tolist() == [[[[4, 4], [5, 4]]]]
    g = mg.tensor(np.array([[1.0, 10], [100, 1000]]).reshape(1, 1, 2, 2), device=device)
    (gx,) = mg.grad(y, [x], g)
    assert gx.numpy().tolist() == [[[[0, 0, 0], [0, 1011, 0], [100, 0, 0]]]]
    assert ops.max_pool2d(x, 2).numpy().tolist() == [[[[4]]]]
    assert ops.max_pool2d(x, 2, ceil_mode=True).numpy().tolist() == [[[[4, 3], [5, 1]]]]
    assert ops.max_pool2d(-x, 2, 2, 1).numpy().tolist() == [[[[-1, 0], [0, 0]]]]


@DEVICES
def test_ties_nan_and_infinities(device: str) -> None:
    """The first of equal maxima and the last NaN get the gradient; -inf is a value like others."""
    a = np.array([[7.0, 7, np.nan, 1], [7, 7, 9, np.nan], [-np.inf] * 4, [-np.inf] * 4])
    x = mg.tensor(a.reshape(1, 1, 4, 4), device=device, requires_grad=True)
    y = ops.max_pool2d(x, 2)
    assert np.array_equal(y.numpy()[0, 0], [[7, np.nan], [-np.inf, -np.inf]], equal_nan=True)
    (gx,) = mg.grad(y, [x], mg.tensor(np.array([[[[1.0, 2], [3, 4]]]]), device=device))
    assert gx.numpy()[0, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 2], [3, 0, 4, 0], [0, 0, 0, 0]]


@DEVICES
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_gradients_of_both_orders(device: str, window: Any) -> None:
    def pool(x: mg.Tensor) -> mg.Tensor:
        y = ops.max_pool2d(x, *window[:3], ceil_mode=window[3])
        return y * y

    check_gradients(pool, [image()], device=device)


@KERNEL_DEVICES
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@FLOATS
def test_kernels_equal_their_references(device: str, window: Any, layout: str, dtype: str) -> None:
    """The forward pass copies numbers, so it is equal to the bit; ties and NaNs included."""
    rng = np.random.default_rng(0)
    by = rng.integers(0, 4, (2, 3, 7, 6)).astype(dtype)
    by[0, 1, 2:4, 1:5], by[1, 0] = np.nan, -np.inf
    x = mg.tensor(by, device="reference", requires_grad=True)
    y = ops.max_pool2d(x, *window[:3], ceil_mode=window[3])
    attributes = y.attributes
    a, b, g = (
        LAYOUTS[layout](z)
        for z in (image(1, dtype), by, rng.standard_normal(y.shape).astype(dtype))
    )
    expected = run("reference", Op.registry["max_pool"], [a, b], attributes)
    assert np.array_equal(run(device, Op.registry["max_pool"], [a, b], attributes), expected)
    back = run("reference", Op.registry["max_pool_grad"], [g, b], attributes)
    actual = run(device, Op.registry["max_pool_grad"], [g, b], attributes)
    assert np.allclose(actual, back, rtol=0, atol=50 * np.finfo(dtype).eps)
    empty = run(device, Op.registry["max_pool"], [a[:0], b[:0]], attributes)
    assert empty.shape == (0, *expected.shape[1:])


@KERNEL_DEVICES
def test_the_two_ops_are_adjoint(device: str) -> None:
    """<max_pool(x, by), g> = <x, max_pool_grad(g, by)>."""
    by, x = image(0), image(1)
    for window in WINDOWS:
        y = ops.max_pool2d(
            mg.tensor(by, device=device, requires_grad=True), *window[:3], ceil_mode=window[3]
        )
        g = np.random.default_rng(2).standard_normal(y.shape)
        taken = run(device, Op.registry["max_pool"], [x, by], y.attributes)
        added = run(device, Op.registry["max_pool_grad"], [g, by], y.attributes)
        assert np.vdot(taken, g) == pytest.approx(np.vdot(x, added), rel=1e-12)


def test_threads_give_the_same_bits() -> None:
    x = image(0, "float32", (16, 32, 40, 40))
    results = []
    for count in (1, 2):
        with threads(count):
            t = mg.tensor(x, device="cpu", requires_grad=True)
            y = ops.max_pool2d(t, 3, 1, 1)
            results.append((y.numpy().tobytes(), mg.grad(y.sum(), [t])[0].numpy().tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ops.max_pool2d(x, 9), r"a window of \(9, 9\) does not fit into an image of 4 x"),
        (lambda x: ops.max_pool2d(x, 2, padding=2), "padding = 2 is more than half a window"),
        (lambda x: ops.max_pool2d(x, 2, 0), "stride = 0"),
        (lambda x: ops.max_pool2d(x, 2, dilation=2), "dilation = 2 is not supported"),
        (lambda x: ops.max_pool2d(x[0], 2), r"\(n, channels, height, width\) is needed"),
        (lambda x: nn.MaxPool2d(2, padding=2), "MaxPool2d: padding = 2 is more than half"),
        (lambda x: nn.MaxPool2d(0), "MaxPool2d: kernel_size = 0"),
    ],
)
def test_windows_that_do_not_fit_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(mg.tensor(np.zeros((2, 3, 4, 6))))


GEOMETRY = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "pooled": (2, 3)}


@DEVICES
@pytest.mark.parametrize(
    "change",
    [
        {"kernel": (0, 2)},
        {"stride": (2, -1)},
        {"padding": (2, 0)},
        {"padding": (0, -1)},
        {"pooled": (3, 3)},
        {"pooled": (2, 0)},
    ],
    ids=str,
)
def test_the_ops_refuse_windows_outside_the_image(device: str, change: Any) -> None:
    """A kernel computes addresses from them."""
    x = mg.tensor(np.zeros((1, 1, 4, 6)), device=device)
    window = {**GEOMETRY, **change}
    with pytest.raises(ValueError, match=r"max_pool: .* windows of"):
        Op.registry["max_pool"](x, x, **window)
    rows, columns = window["pooled"]
    g = mg.tensor(np.zeros((1, 1, max(rows, 1), max(columns, 1))), device=device)
    with pytest.raises(ValueError, match="max_pool_grad: "):
        Op.registry["max_pool_grad"](g, x, **window)


def test_the_layer() -> None:
    layer = nn.MaxPool2d(3, 2, 1)
    x = mg.tensor(image())
    assert np.array_equal(layer(x).numpy(), ops.max_pool2d(x, 3, 2, 1).numpy())
    assert repr(layer) == "MaxPool2d(3, stride=2, padding=1)"
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(2)"
    assert nn.MaxPool2d(2, ceil_mode=True)(x).shape == (2, 3, 4, 3)


def test_a_captured_step_follows_its_input() -> None:
    @mg.capture
    def step(x: mg.Tensor) -> mg.Tensor:
        return ops.max_pool2d(x, 3, 2, 1) * 2.0

    for seed in range(4):
        a = image(seed)
        assert np.array_equal(
            step(mg.tensor(a)).numpy(), (ops.max_pool2d(mg.tensor(a), 3, 2, 1) * 2.0).numpy()
        )


@DEVICES
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_values_and_both_orders_are_pytorchs(device: str, window: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    torch.set_num_threads(1)
    size = dict(zip(("kernel_size", "stride", "padding", "ceil_mode"), window, strict=True))
    ties = np.random.default_rng(3).integers(0, 3, (2, 3, 7, 6)).astype(np.float64)
    ties[0, 0, 1:3, 2:5], ties[1, 2] = np.nan, -np.inf
    for a in (image(), ties):
        pairs = zip(
            derivatives(lambda x: ops.max_pool2d(x, **size), [a], device),
            torch_derivatives(lambda x: torch.nn.functional.max_pool2d(x, **size), [a]),
            strict=True,
        )
        for y, want in pairs:
            assert np.allclose(y, want, rtol=1e-12, atol=0, equal_nan=True)
    other = torch.nn.MaxPool2d(**size)(torch.tensor(ties)).numpy()
    assert np.array_equal(nn.MaxPool2d(**size)(mg.tensor(ties)).numpy(), other, equal_nan=True)
