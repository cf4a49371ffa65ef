"""Modules and layers: names, state, modes, looks, and what each computes."""

import copy
import math
from collections import UserList, deque
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import nn
from minigan.engine.check import check_gradients


class Block(nn.Module):
    """A module of one's own: a parameter, a buffer, a child, and what is none of them."""

    def __init__(self) -> None:
        self.name = "block"
        self.inner = nn.Dense(2, 2)
        self.scale = mg.tensor([2.0], requires_grad=True)
        self.count = mg.tensor([0])

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return self.inner(x) * self.scale


def small() -> nn.Sequential:
    return nn.Sequential(nn.Dense(3, 4), nn.LeakyReLU(0.2), nn.Dense(4, 2, bias=False))


# ---------------------------------------------------------------------------- names and state
def test_names_are_pytorchs() -> None:
    assert [name for name, _ in small().named_parameters()] == ["0.weight", "0.bias", "2.weight"]
    nested = nn.Sequential(small(), Block())
    assert list(nested.state_dict()) == [
        "0.0.weight", "0.0.bias", "0.2.weight", "1.scale", "1.count", "1.inner.weight",
        "1.inner.bias",
    ]  # fmt: skip
    assert "1.count" not in dict(nested.named_parameters())
    assert [x.shape for x in small().parameters()] == [(3, 4), (4,), (4, 2)]


def test_a_module_used_twice_has_its_parameters_once() -> None:
    """An optimizer would otherwise step twice."""
    shared = nn.Dense(2, 2)
    net = nn.Sequential(shared, nn.Tanh(), shared)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    net.load_state_dict(net.state_dict())


def test_a_state_dict_goes_back() -> None:
    a, b = small(), small()
    state = a.state_dict()
    assert all(type(x) is np.ndarray for x in state.values())
    x = mg.random.normal((5, 3))
    assert not np.array_equal(a(x).numpy(), b(x).numpy())
    parameters = b.parameters()
    b.load_state_dict(state)
    assert np.array_equal(a(x).numpy(), b(x).numpy())
    assert all(p is q and p.version == 1 for p, q in zip(parameters, b.parameters(), strict=True))
    state["0.weight"][...] = 0  # a copy
    assert np.array_equal(a(x).numpy(), b(x).numpy())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda s: s.pop("2.weight"), r"missing \['2.weight'\], unknown \[\]"),
        (lambda s: s.update(more=np.ones(1)), r"missing \[\], unknown \['more'\]"),
        (lambda s: s.update({"2.weight": np.ones((2, 4), "f")}), r"2.weight is float32\(2, 4\)"),
        (lambda s: s.update({"2.weight": np.ones((4, 2))}), r"2.weight is float64\(4, 2\) in"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Any, error: str) -> None:
    net = small()
    before = net.state_dict()
    state = {name: x + 1 for name, x in before.items()}
    change(state)
    with pytest.raises(ValueError, match=f"Sequential: .*{error}"):
        net.load_state_dict(state)
    for name, x in net.state_dict().items():
        assert np.array_equal(x, before[name])
    assert all(p.version == 0 for p in net.parameters())


def test_moving_and_converting() -> None:
    net = Block()
    parameters, x = net.parameters(), mg.tensor([[1.0, 2.0]], dtype="float64", device="reference")
    assert net.to("reference", "float64") is net
    assert net.parameters() == parameters
    assert {(p.device.name, str(p.dtype)) for p in parameters} == {("reference", "float64")}
    assert all(p.requires_grad for p in parameters)
    assert net.count.dtype == np.int64
    assert net(x).dtype == np.float64
    with pytest.raises(TypeError, match="unknown dtype 'double trouble'"):
        net.to(dtype="double trouble")


# --------------------------------------------------------------------------- modes and looks
def test_train_and_eval_reach_every_module() -> None:
    net = nn.Sequential(nn.Sequential(nn.Dropout(0.5)), Block())
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    assert len(list(net.modules())) == 5


def test_repr() -> None:
    net = nn.Sequential(
        nn.Flatten(), nn.Dense(4, 3, bias=False), nn.LeakyReLU(0.2), nn.Dropout(0.3),
        nn.Sequential(nn.Dense(3, 6), nn.Reshape(1, 2, 3)), nn.Sigmoid(), nn.Tanh(), nn.ReLU(),
    )  # fmt: skip
    assert repr(net).splitlines() == [
        "Sequential(",
        "  0: Flatten()",
        "  1: Dense(4, 3, bias=False)    weight (4, 3)",
        "  2: LeakyReLU(0.2)",
        "  3: Dropout(0.3)",
        "  4: Sequential(",
        "    0: Dense(3, 6)              weight (3, 6), bias (6,)",
        "    1: Reshape(1, 2, 3)",
        "  )",
        "  5: Sigmoid()",
        "  6: Tanh()",
        "  7: ReLU()",
        ")                               36 parameters",
    ]


def test_sequential_is_a_sequence() -> None:
    net = small()
    assert len(net) == 3
    assert [type(m) for m in net] == [nn.Dense, nn.LeakyReLU, nn.Dense]
    assert net[-1] is net[2]
    with pytest.raises(TypeError, match="layer 1 is builtin_function_or_method"):
        nn.Sequential(nn.Tanh(), abs)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        nn.Module()(1)


# ------------------------------------------------------------------------------------- layers
@DEVICES
def test_dense(device: str) -> None:
    layer = nn.Dense(3, 2, dtype="float64", device=device)
    rng = np.random.default_rng(0)
    w, b = (x.numpy() for x in layer.parameters())
    for shape in [(5, 3), (2, 4, 3), (3,), (0, 3)]:
        x = rng.standard_normal(shape)
        y = layer(mg.tensor(x, device=device)).numpy()
        assert y.shape == (*shape[:-1], 2)
        assert np.allclose(y, x @ w + b, rtol=1e-13)
    check_gradients(mg.ops.dense, [rng.standard_normal((2, 4, 3)), w, b], device=device)
    check_gradients(mg.ops.dense, [rng.standard_normal((4, 3)), w], device=device)


def test_dense_starts_uniform_within_its_bound() -> None:
    """+-1/sqrt(in): mean 0 and variance bound^2 / 3, within five standard errors."""
    layer = nn.Dense(400, 300)
    bound = 1 / math.sqrt(400)
    for parameter in layer.parameters():
        x = parameter.numpy()
        assert x.dtype == np.float32
        assert np.abs(x).max() <= bound
        assert np.abs(x).max() > 0.95 * bound
        assert abs(x.mean()) < 5 * bound / math.sqrt(3 * x.size)
        assert abs((x**2).mean() / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / x.size)
    mg.manual_seed(0)
    again = nn.Dense(400, 300)
    assert np.array_equal(again.weight.numpy(), layer.weight.numpy())


@pytest.mark.parametrize("sizes", [(0, 1), (1, -1), (1.5, 2), (2, "3")])
def test_dense_refuses_sizes(sizes: Any) -> None:
    with pytest.raises(ValueError, match="is not a positive integer"):
        nn.Dense(*sizes)


@DEVICES
def test_activations(device: str) -> None:
    a = np.linspace(-3, 3, 8).reshape(2, 4)
    x = mg.tensor(a, device=device)
    expected = {
        nn.ReLU(): np.maximum(a, 0),
        nn.LeakyReLU(): np.where(a > 0, a, 0.01 * a),
        nn.LeakyReLU(0.2): np.where(a > 0, a, 0.2 * a),
        nn.Tanh(): np.tanh(a),
        nn.Sigmoid(): 1 / (1 + np.exp(-a)),
    }
    for layer, wanted in expected.items():
        assert np.allclose(layer(x).numpy(), wanted, rtol=1e-14)
        check_gradients(layer, [a], device=device)


@DEVICES
def test_flatten_and_reshape(device: str) -> None:
    x = mg.tensor(np.arange(24.0).reshape(2, 3, 2, 2), device=device)
    flat = nn.Flatten()(x)
    assert flat.shape == (2, 12)
    assert np.array_equal(nn.Reshape(3, 2, 2)(flat).numpy(), x.numpy())
    assert nn.Reshape(4, -1)(flat).shape == (2, 4, 3)
    assert nn.Flatten()(x[:0]).shape == (0, 12)
    check_gradients(nn.Sequential(nn.Flatten(), nn.Reshape(2, 6)), [x.numpy()], device=device)


@DEVICES
def test_dropout_drops_its_share(device: str) -> None:
    """Shares and means within five standard errors; what stays is divided by 1 - p."""
    for p in (0.0, 0.3, 0.9):
        layer = nn.Dropout(p)
        x = mg.tensor(np.ones((200, 300)), device=device, requires_grad=True)
        y = layer(x)
        kept = y.numpy() != 0
        assert abs(kept.mean() - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / kept.size)
        assert np.allclose(y.numpy()[kept], 1 / (1 - p))
        (gx,) = mg.grad(y.sum(), [x])
        assert np.array_equal(gx.numpy(), y.numpy())  # the same mask
        assert p == 0 or not np.array_equal(layer(x).numpy(), y.numpy())  # another mask
        assert layer.eval()(x) is x


def test_dropout_has_the_same_bits_on_every_device() -> None:
    masks = []
    for device in ("reference", "cpu"):
        mg.manual_seed(3)
        masks.append(nn.Dropout(0.4)(mg.tensor(np.ones((7, 9), "f"), device=device)).numpy())
    assert masks[0].tobytes() == masks[1].tobytes()


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, math.nan])
def test_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"Dropout: p = .* is not in \[0, 1\)"):
        nn.Dropout(p)


def test_a_copied_net_stays_on_its_device() -> None:
    net = copy.deepcopy(nn.Sequential(nn.Dense(2, 3)))
    assert net(mg.random.normal((4, 2))).shape == (4, 3)


# ----------------------------------------------------------------- containers and replacement
class Container(nn.Module):
    def __init__(self) -> None:
        self.blocks = [nn.Dense(2, 3), (nn.Dense(3, 3), nn.Tanh())]
        self.heads = {"a": nn.Dense(3, 1), "b": [mg.tensor([1.0], requires_grad=True)]}
        self.sizes = [2, 3]

    def forward(self, x: Any) -> Any:
        first, rest = self.blocks
        return self.heads["a"](rest[1](rest[0](first(x)))) * self.heads["b"][0]  # type: ignore


def test_layers_in_lists_tuples_and_dicts_are_registered() -> None:
    net = Container()
    names = [name for name, _ in net.named_parameters()]
    layers = [
        f"{layer}.{x}"
        for layer in ("blocks.0", "blocks.1.0", "heads.a")
        for x in ("weight", "bias")
    ]
    assert names == ["heads.b.0", *layers]
    assert [name for name, _ in net.children()] == [
        "blocks.0",
        "blocks.1.0",
        "blocks.1.1",
        "heads.a",
    ]
    assert all(not x.training for x in net.eval().modules())
    before = net.state_dict()
    optimizer = mg.optim.Adam(net.parameters(), 0.1)
    optimizer.step(mg.grad(net(mg.tensor([[1.0, 2.0]])).sum(), net.parameters()))
    assert all((x != before[name]).any() for name, x in net.state_dict().items())
    net.load_state_dict(before)
    assert all((x == before[name]).all() for name, x in net.state_dict().items())
    net.to(dtype="float64")
    assert {str(x.dtype) for x in net.parameters()} == {"float64"}
    assert "blocks.1.0: Dense(3, 3)" in repr(net)


def test_layers_in_a_set_are_refused() -> None:
    net = nn.Sequential()
    net.layers = {nn.ReLU(), nn.Tanh()}  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="layers is a set of modules or tensors"):
        net.parameters()
    for container in (deque, UserList):
        net.layers = container([nn.Dense(1, 1)])  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match=f"layers is a {container.__name__} of modules"):
            net.parameters()


def test_two_tensors_of_the_same_name_are_refused() -> None:
    net = nn.Sequential()
    net.x = {1: mg.tensor(1.0), "1": mg.tensor(2.0)}  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"two tensors have the name 'x\.1'"):
        net.state_dict()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda w: w * 1.0, "a tensor with a graph cannot replace"),
        (lambda w: w.detach(), "a tensor without requires_grad cannot replace"),
        (lambda w: w.numpy(), "a value of type ndarray cannot replace"),
    ],
)
def test_only_a_parameter_replaces_a_parameter(value: Any, text: str) -> None:
    layer = nn.Dense(2, 2)
    weight = layer.weight
    with pytest.raises(TypeError, match=f"Dense.weight is a parameter, which {text}"):
        layer.weight = value(weight)
    assert layer.weight is weight
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_a_kept_result_is_no_parameter() -> None:
    net = nn.Dense(2, 2)
    net.kept = net(mg.tensor([[1.0, 2.0]]))  # type: ignore[attr-defined]
    assert list(net.state_dict()) == ["weight", "bias"]


# --------------------------------------------------------------------------- numbers of numpy
def test_sizes_and_numbers_of_numpy_are_numbers():
    n, half = np.int64(2), np.float32(0.5)
    x = mg.tensor(np.random.default_rng(0).standard_normal((4, 2)), dtype="float32")
    for layer in (
        nn.Dense(n, n),
        nn.LayerNorm(n),
        nn.BatchNorm1d(n, momentum=half),
        nn.spectral_norm(nn.Dense(2, 2), steps=n),
        nn.GaussianNoise(half),
        nn.Dropout(half),
    ):
        assert layer(x).shape == (4, 2)
    images = mg.tensor(np.ones((1, 4, 2, 2)), dtype="float32")
    assert nn.GroupNorm(n, np.int64(4))(images).shape == (1, 4, 2, 2)
    assert mg.optim.ExponentialMovingAverage(nn.Dense(1, 1), half).decay == 0.5
    assert mg.optim.schedules.factor("linear", n, 4) == 0.5
    (g,) = mg.optim.clip_grad_norm((g for g in [mg.tensor([3.0])]), np.float32(1))
    assert g.item() == pytest.approx(1)
    with pytest.raises(ValueError, match="clip_grad_norm: there are no gradients"):
        mg.optim.clip_grad_norm(iter([]), 1.0)


def test_a_momentum_that_was_changed_is_checked():
    layer = nn.BatchNorm1d(2)
    for momentum in (None, 5.0):
        layer.momentum = momentum
        with pytest.raises(ValueError, match=r"BatchNorm1d: momentum = .* is not in"):
            layer(mg.tensor([[1.0, 2.0], [3.0, 5.0]]))
    assert layer.running_mean.numpy().tolist() == [0, 0]


def test_parameters_stay_floats():
    net = nn.Dense(1, 1)
    for dtype in ("int64", "bool"):
        with pytest.raises(TypeError, match="to: a module has float32 or float64 parameters"):
            net.to(dtype=dtype)
    assert net.to("float64").weight.dtype == np.float64


def test_what_layers_refuse():
    with pytest.raises(ValueError, match="Flatten: a tensor of shape"):
        nn.Flatten()(mg.tensor(1.0))
    with pytest.raises(ValueError, match=r"Dropout: p = 0.5 is not in"):
        nn.Dropout("0.5")


def test_an_observer_gets_each_module_and_its_output_in_the_order_of_their_calls():
    net = nn.Sequential(nn.Dense(2, 3), nn.Sequential(nn.ReLU()))
    calls = []
    with nn.observing(lambda module, y: calls.append((type(module).__name__, y.shape))):
        net(mg.tensor(np.ones((5, 2), np.float32)))
    net(mg.tensor(np.ones((5, 2), np.float32)))
    shape = (5, 3)
    names = ["Dense", "ReLU", "Sequential", "Sequential"]
    assert calls == [(name, shape) for name in names]
