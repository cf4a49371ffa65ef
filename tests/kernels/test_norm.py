"""Normalization and pooling: kernels against their references, layers and their modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
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
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minigan as mg
from minigan import nn, ops
from minigan.engine.assign import assign
from minigan.engine.check import check_gradients
from minigan.engine.device import get_device
from minigan.engine.op import Op, Update
from minigan.kernels.norm import cpu

EPS = {"eps": 1e-5}
sizes = st.tuples(
    st.sampled_from([1, 2, 3, 9, 255, 257]),
    st.sampled_from([1, 2, 7, 65]),
    st.sampled_from([1, 2, 16, 49, 65]),
).filter(lambda shape: shape[0] * shape[2] >= 8 and np.prod(shape) < 300_000)
NORMS: dict[str, Any] = {
    "normalize": lambda x, g, k: (x, k, k[::-1]),
    "normalize of numbers": lambda x, g, k: (x, 0.5, -2.0),
    "normalize_sums": lambda x, g, k: (g, x),
    "normalize_grad": lambda x, g, k: (g, x, k),
    "normalize_grad of a number": lambda x, g, k: (g, x, 1.0),
    "inverse_std": lambda x, g, k: (x,),
}


def numbers(shape: tuple[int, ...], seed: int, dtype: Any) -> tuple[np.ndarray, ...]:
    """Return x, with means in [-3, 3] and standard deviations in [1, 3]; g; a value per channel."""
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((2, *shape))
    x = x * rng.uniform(1, 3, (1, shape[1], 1)) + rng.uniform(-3, 3, (1, shape[1], 1))
    return x.astype(dtype), g.astype(dtype), rng.uniform(-2, 2, shape[1]).astype(dtype)


def check(device: str, name: str, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    """Compare with the float64 reference, within some hundred roundings of the largest term."""
    op = Op.registry[name.split(" ", maxsplit=1)[0]]
    before = [np.array(a) for a in arrays]
    y = run(device, op, arrays, attributes)
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in arrays]
    with np.errstate(all="ignore"):
        expected = op.reference(*wide, **attributes)
    finite = np.abs(expected[np.isfinite(expected)])
    terms = 400 if op.name != "normalize_sums" else 400 + arrays[0].shape[0]
    bound = terms * float(np.finfo(arrays[0].dtype).eps) * float(finite.max(initial=1.0))
    assert y.dtype == arrays[0].dtype
    assert_close(y, expected, bound, name)
    for a, a_before in zip(arrays, before, strict=True):
        assert np.array_equal(a, a_before, equal_nan=True)


@FLOATS
@pytest.mark.parametrize("name", NORMS)
@settings(max_examples=12)
@given(shape=sizes, seed=st.integers(0, 99), layout=st.sampled_from(sorted(LAYOUTS)))
@example((600, 3, 5), 0, "contiguous")
@example((1, 2, 5000), 0, "contiguous")
def test_cpu_kernels_equal_their_references(
    name: str, dtype: str, shape: tuple[int, ...], seed: int, layout: str
) -> None:
    arrays = NORMS[name](*numbers(shape, seed, dtype))
    views = [LAYOUTS[layout](a) if isinstance(a, np.ndarray) else a for a in arrays]
    check("cpu", name, tuple(views), EPS)


@KERNEL_DEVICES
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_channel(device: str, name: str, bad: float) -> None:
    arrays = NORMS[name](*numbers((5, 3, 7), 0, "float32"))
    for i, a in enumerate(arrays):
        if isinstance(a, np.ndarray):
            changed = a.copy()
            changed[(0,) * (a.ndim - 1) + (1,)] = bad
            check(device, name, (*arrays[:i], changed, *arrays[i + 1 :]), EPS)


def test_every_element_of_a_result_is_written(poisoned: list[tuple[int, ...]]) -> None:
    for name, make in NORMS.items():
        check("cpu", name, make(*numbers((9, 5, 3), 0, "float32")), EPS)
    for name, (arrays, attributes) in POOLS.items():
        check("cpu", name, arrays, attributes)
    assert poisoned


def test_bits_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    multithreaded = spy_parallel(monkeypatch)
    x, g, k = numbers((64, 128, 196), 0, "float32")
    for name, make in NORMS.items():
        kernel = cpu.KERNELS[name.split(" ")[0]]
        with threads(1):
            one = kernel(*make(x, g, k), **EPS)
        with threads(2):
            assert np.array_equal(kernel(*make(x, g, k), **EPS), one)
    assert {"normalize_tasks", "sums_tasks", "grad_tasks", "inverse_std_tasks"} <= set(
        multithreaded
    )


@DEVICES
@pytest.mark.parametrize("shape", [(8, 3, 5), (300, 2, 1), (1, 4, 70)])
def test_running_moments_move_towards_those_of_the_batch(
    device: str, shape: tuple[int, ...]
) -> None:
    update, target = Update.registry["running_moments"], get_device(device)
    x, *_ = numbers(shape, 0, "float64")
    means, variances = np.full(shape[1], 3.0), np.full(shape[1], 2.0)
    rows = [target.from_numpy(a) for a in (means, variances, x)]
    target.update(update, tuple(rows), {"momentum": 0.25})
    flat = x.transpose(1, 0, 2).reshape(shape[1], -1)
    expected = 0.75 * means + 0.25 * flat.mean(1), 0.75 * variances + 0.25 * flat.var(1, ddof=1)
    for row, exact in zip(rows, expected, strict=False):
        assert_close(target.to_numpy(row), exact, 1e-13)


# --------------------------------------------------------------------------------------- pooling
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 7, 6)).astype(np.float32)
POOLS: dict[str, Any] = {
    "sum_pool": ((IMAGES,), {"kernel": (2, 3), "stride": (2, 1)}),
    "sum_pool of one": ((IMAGES,), {"kernel": (7, 6), "stride": (3, 3)}),
    "sum_pool_grad": ((IMAGES,), {"kernel": (2, 3), "stride": (1, 2), "size": (8, 14)}),
    "sum_pool_grad apart": ((IMAGES,), {"kernel": (1, 1), "stride": (2, 3), "size": (13, 17)}),
}


@KERNEL_DEVICES
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", POOLS)
def test_pooling_kernels_equal_their_references(device: str, name: str, layout: str) -> None:
    (x,), attributes = POOLS[name]
    check(device, name, (LAYOUTS[layout](x),), attributes)
    x = x.copy()
    x[0, 0, 0, 0], x[1, 1, 6, 5] = np.nan, np.inf
    check(device, name, (x,), attributes)


@KERNEL_DEVICES
@FLOATS
def test_sum_pool_grad_is_the_adjoint_of_sum_pool(device: str, dtype: str) -> None:
    """<sum_pool(x), g> = <x, sum_pool_grad(g)>, to rounding."""
    rng = np.random.default_rng(0)
    pool, adjoint = Op.registry["sum_pool"], Op.registry["sum_pool_grad"]
    for size, kernel, stride in (((7, 6), (2, 3), (2, 1)), ((9, 5), (3, 1), (1, 4))):
        x = rng.standard_normal((2, 3, *size)).astype(dtype)
        window = {"kernel": kernel, "stride": stride}
        y = run(device, pool, [x], window)
        g = rng.standard_normal(y.shape).astype(dtype)
        back = run(device, adjoint, [g], {**window, "size": size})
        dots = [float(np.sum(a.astype(np.float64) * b)) for a, b in ((y, g), (x, back))]
        bound = 100 * float(np.finfo(dtype).eps) * float(np.abs(y * g).sum())
        assert abs(dots[0] - dots[1]) <= bound


@DEVICES
def test_pooling_and_upsampling_computed_by_hand(device: str) -> None:
    x = mg.tensor(np.arange(16.0).reshape(1, 1, 4, 4), device=device)
    assert ops.avg_pool2d(x, 2).numpy().tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    padded = ops.avg_pool2d(x, 3, stride=2, padding=1).numpy()
    assert padded[0, 0, 0, 0] == pytest.approx((0 + 1 + 4 + 5) / 9)  # padding counts as zeros
    large = ops.upsample_nearest(x[:, :, :1, :2], (2, 3)).numpy()
    assert large.tolist() == [[[[0.0] * 3 + [1.0] * 3] * 2]]


@DEVICES
def test_depth_to_space_and_back(device: str) -> None:
    x = mg.tensor(np.arange(2 * 8 * 2 * 3.0).reshape(2, 8, 2, 3), device=device)
    y = ops.depth_to_space(x, 2)
    assert y.shape == (2, 2, 4, 6)
    assert y.numpy()[1, 1, 2:4, 4:6].tolist() == x.numpy()[1, 4:, 1, 2].reshape(2, 2).tolist()
    assert np.array_equal(ops.space_to_depth(y, 2).numpy(), x.numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: ops.avg_pool2d(x, 9),
            r"a window of \(9, 9\) does not fit into an image of 4 x 6",
        ),
        (lambda x: ops.avg_pool2d(x[0], 2), r"\(n, channels, height, width\) is needed"),
        (lambda x: ops.upsample_nearest(x, 0), "scale = 0"),
        (lambda x: ops.depth_to_space(x, 2), "3 channels are no multiple of 2 x 2"),
        (lambda x: ops.space_to_depth(x, 4), "4 x 6 pixels are no whole blocks"),
        (lambda x: ops.space_to_depth(x, 0.5), "block = 0.5 is not a positive integer"),
    ],
)
def test_images_that_do_not_fit_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(mg.tensor(np.zeros((2, 3, 4, 6))))


# ---------------------------------------------------------------------------------------- layers
def normal(*shape: int, seed: int = 0, **options: Any) -> mg.Tensor:
    x = np.random.default_rng(seed).standard_normal(shape)
    return mg.tensor(x * 2 + 1, **{"dtype": "float64", **options})


LAYERS: dict[str, Any] = {
    "BatchNorm1d": (lambda d: nn.BatchNorm1d(3, dtype="float64", device=d), (9, 3), (0,)),
    "BatchNorm1d of rows": (
        lambda d: nn.BatchNorm1d(3, dtype="float64", device=d),
        (4, 3, 5),
        (0, 2),
    ),
    "BatchNorm2d": (
        lambda d: nn.BatchNorm2d(3, dtype="float64", device=d),
        (4, 3, 2, 5),
        (0, 2, 3),
    ),
    "LayerNorm": (lambda d: nn.LayerNorm((3, 8), dtype="float64", device=d), (4, 3, 8), (1, 2)),
    "InstanceNorm2d": (
        lambda d: nn.InstanceNorm2d(3, affine=True, dtype="float64", device=d),
        (4, 3, 2, 5),
        (2, 3),
    ),
}


@DEVICES
@pytest.mark.parametrize("name", LAYERS)
def test_layers_normalize_over_their_axes(device: str, name: str) -> None:
    make, shape, axes = LAYERS[name]
    layer, x = make(device), normal(*shape, device=device)
    y = layer(x).numpy()
    assert_close(y.mean(axes), np.zeros_like(y.mean(axes)), 1e-12)
    assert_close(y.var(axes), np.ones_like(y.var(axes)), 1e-4)


@DEVICES
def test_group_norm_is_between_layer_and_instance_norm(device: str) -> None:
    x = normal(2, 6, 3, 4, device=device)
    one_group, six_groups = (ops.group_norm(x, groups).numpy() for groups in (1, 6))
    assert_close(one_group, ops.layer_norm(x, 3).numpy(), 1e-14)
    assert_close(six_groups, nn.InstanceNorm2d(6)(x).numpy(), 1e-14)
    layer = nn.GroupNorm(2, 6, dtype="float64", device=device)
    mg.optim.assign(layer.weight, normal(6, seed=1, device=device))
    halves = x.numpy().reshape(2, 2, -1)
    expected = (halves - halves.mean(2, keepdims=True)) / np.sqrt(
        halves.var(2, keepdims=True) + 1e-5
    )
    expected = expected.reshape(2, 6, 3, 4) * layer.weight.numpy()[:, None, None]
    assert_close(layer(x).numpy(), expected, 1e-12)


@DEVICES
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_differentiable_twice_in_both_modes(
    device: str, name: str, training: bool
) -> None:
    make, shape, _ = LAYERS[name]
    layer = make(device)
    layer(normal(*shape, seed=3, device=device))
    layer.train(training)

    def f(x: mg.Tensor, weight: mg.Tensor, bias: mg.Tensor) -> mg.Tensor:
        layer.weight, layer.bias = weight, bias
        return layer(x)

    arrays = [x.numpy() for x in (normal(*shape), layer.weight, layer.bias)]
    check_gradients(f, arrays, device=device, name=name)


def test_running_moments_are_buffers_and_not_parameters() -> None:
    layer = nn.BatchNorm2d(2)
    names = ["weight", "bias", "running_mean", "running_var"]
    assert list(layer.state_dict()) == names
    assert [name for name, _ in layer.named_parameters()] == names[:2]
    layer(normal(4, 2, 3, 3, dtype="float32"))
    other = nn.BatchNorm2d(2)
    other.load_state_dict(layer.state_dict())
    x = normal(1, 2, 3, 3, seed=1, dtype="float32")
    assert np.array_equal(other.eval()(x).numpy(), layer.eval()(x).numpy())


def test_eval_mode_uses_and_keeps_the_running_moments() -> None:
    layer = nn.BatchNorm2d(2, dtype="float64")
    for seed in range(200):
        layer(normal(16, 2, 3, 3, seed=seed))
    x = normal(16, 2, 3, 3, seed=999)
    before, trained = layer.state_dict(), layer(x).numpy()
    layer.load_state_dict(before)
    layer.eval()
    evaluated = layer(x).numpy()
    assert np.array_equal(layer(x[3:4]).numpy(), evaluated[3:4])
    assert {k: v.tolist() for k, v in layer.state_dict().items()} == {
        k: v.tolist() for k, v in before.items()
    }
    assert np.abs(trained - evaluated).max() < 0.5  # the moments have converged


def test_a_captured_step_uses_the_current_running_moments() -> None:
    eager, captured = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    step = mg.capture(captured)
    for seed in range(4):
        x = normal(5, 3, seed=seed, dtype="float32")
        assert np.array_equal(eager(x).numpy(), step(x).numpy())
        assert np.array_equal(eager.running_var.numpy(), captured.running_var.numpy())
    captured.eval()
    assert np.array_equal(eager.eval()(x).numpy(), step(x).numpy())


def test_an_input_that_is_refused_does_not_change_the_running_moments() -> None:
    layer = nn.BatchNorm1d(3)
    with pytest.raises(TypeError, match="BatchNorm1d: the input is float64, its numbers for each"):
        layer(normal(4, 3))
    assert layer.running_mean.numpy().tolist() == [0, 0, 0]


def test_a_graph_uses_the_running_moments_of_its_forward_pass() -> None:
    layer = nn.BatchNorm1d(3).eval()
    y = layer(normal(4, 3, dtype="float32"))
    expected = mg.grad(y.sum(), layer.parameters())
    layer.train()(normal(4, 3, seed=1, dtype="float32"))
    for g, exact in zip(mg.grad(y.sum(), layer.parameters()), expected, strict=True):
        assert np.array_equal(g.numpy(), exact.numpy())


def test_a_captured_step_follows_buffers_that_are_replaced() -> None:
    layer = nn.BatchNorm1d(3, affine=False).eval()
    step, x = mg.capture(layer), normal(4, 3, dtype="float32")
    step(x)
    layer.to(dtype="float64").to(dtype="float32")
    assign(layer.running_mean, mg.tensor([5.0, 6.0, 7.0]))
    assert np.array_equal(step(x).numpy(), layer(x).numpy())


REFUSED: dict[str, tuple[Any, str]] = {
    "no momentum": (lambda: nn.BatchNorm1d(3, momentum=None), "momentum = None is not in"),
    "a word for eps": (lambda: nn.BatchNorm1d(3, eps="a"), "eps = 'a' is not a positive number"),
    "one number": (lambda: nn.BatchNorm1d(3)(normal(1, 3, dtype="float32")), "has no variance"),
    "axes": (lambda: nn.BatchNorm2d(3)(normal(4, 3, dtype="float32")), "4 axes are needed"),
    "channels": (
        lambda: nn.BatchNorm1d(2)(normal(4, 3, dtype="float32")),
        r"\(2,\) numbers for an input \(4, 3\) of 3 channels",
    ),
    "eps": (lambda: nn.BatchNorm1d(2, eps=0), "eps = 0 is not a positive number"),
    "momentum": (lambda: nn.BatchNorm1d(2, momentum=2), r"momentum = 2 is not in \[0, 1\]"),
    "features": (lambda: nn.BatchNorm1d(0), r"\(0,\) are not positive integers"),
    "groups": (lambda: nn.GroupNorm(4, 6), "6 channels do not make 4 equal groups"),
    "last axes": (
        lambda: nn.LayerNorm(4)(normal(4, 3, dtype="float32")),
        r"input \(4, 3\) does not end in the axes \(4,\)",
    ),
    "a group of one": (
        lambda: nn.InstanceNorm2d(3)(normal(2, 3, 1, 1, dtype="float32")),
        "one number to a group",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_refuse_what_they_cannot_compute(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_eps_is_no_positional_argument() -> None:
    """BatchNorm(128, 0.8), as several tutorials have it from Keras, would set PyTorch's eps."""
    with pytest.raises(TypeError, match="positional argument"):
        nn.BatchNorm1d(128, 0.8)  # type: ignore[misc]
