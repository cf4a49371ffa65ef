"""Linear, ModuleList, smooth activations, print(net), and PyTorch's state dicts."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close

import minigan as mg
from minigan import nn, ops
from minigan.engine.check import check_gradients, check_op
from minigan.engine.op import Op
from minigan.utils.notices import Notice


# ------------------------------------------------------------------------------------- Linear
@DEVICES
def test_linear_is_dense_with_its_weight_transposed(device: str) -> None:
    dense, linear = (kind(3, 2, dtype="float64", device=device) for kind in (nn.Dense, nn.Linear))
    assert linear.weight.shape == (2, 3)
    state = dense.state_dict()
    linear.load_state_dict({"weight": state["weight"].T, "bias": state["bias"]})
    a = np.random.default_rng(0).standard_normal((5, 3))
    x = mg.tensor(a, device=device)
    assert np.array_equal(linear(x).numpy(), dense(x).numpy())
    assert_close(linear(x).numpy(), a @ state["weight"] + state["bias"], 1e-14)
    grads = [mg.grad((net(x) ** 2).sum(), net.parameters()) for net in (dense, linear)]
    assert_close(grads[1][0].numpy(), grads[0][0].numpy().T, 1e-13)
    check_gradients(
        lambda x, w: linear.apply_weight(x, w) ** 2, [a, linear.weight.numpy()], device=device
    )
    assert linear.as_matrix(linear.weight).shape == dense.as_matrix(dense.weight).shape == (2, 3)
    assert repr(linear) == "Linear(3, 2)"


def test_linear_trains_under_spectral_norm_and_adam() -> None:
    net = nn.Sequential(nn.spectral_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 1, bias=False))
    optimizer, x = mg.optim.Adam(net.parameters(), 0.05), mg.random.normal((64, 3))

    @mg.capture
    def step() -> mg.Tensor:
        loss = ((net(x) - x[:, :1]) ** 2).mean()
        optimizer.step(mg.grad(loss, net.parameters()))
        return loss * 1.0

    first, *_, last = [step().item() for _ in range(60)]
    assert last < 0.3 * first
    weight = net[0].normalized_weight().numpy()  # type: ignore[attr-defined]
    assert np.linalg.svd(weight)[1][0] == pytest.approx(1, abs=1e-2)


# --------------------------------------------------------------------------------- ModuleList
class Blocks(nn.Module):
    def __init__(self, blocks: Any) -> None:
        self.blocks = blocks

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_a_module_list_is_a_list_and_a_module() -> None:
    a, b, c, d = (nn.Dense(2, 2) for _ in range(4))
    layers = nn.ModuleList([a])
    layers.append(c)
    layers.insert(1, b)
    layers += [d]
    assert [layers[i] for i in range(-1, 3)] == [d, a, b, c]
    assert len(layers) == 4
    assert b in layers
    assert list(layers[1:3]) == [b, c]
    assert type(layers[1:3]) is nn.ModuleList
    assert [name for name, _ in layers.named_parameters()][::2] == [f"{i}.weight" for i in range(4)]
    del layers[1]
    layers[1] = b
    assert list(layers) == [a, b, d]
    assert layers.pop() is d
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert not any(x.training for x in layers.eval().modules())
    with pytest.raises(IndexError):
        layers[2]


def test_names_are_those_of_a_plain_list() -> None:
    """And PyTorch's: "blocks.0.weight"."""
    modules = [nn.Dense(2, 2), nn.Dense(2, 2)]
    states = [Blocks(kind(modules)).state_dict() for kind in (list, tuple, nn.ModuleList)]
    names = ["blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"]
    assert [list(state) for state in states] == [names] * 3


def test_a_captured_step_notices_a_new_module() -> None:
    net = Blocks(nn.ModuleList([nn.Dense(2, 2)]))
    step, x = mg.capture(lambda x: net(x) * 1.0), mg.tensor([[1.0, 2.0]])
    for _ in range(2):
        assert np.array_equal(step(x).numpy(), net(x).numpy())
    net.blocks.append(nn.Dense(2, 2))
    for _ in range(2):
        assert np.array_equal(step(x).numpy(), net(x).numpy())
    net.blocks[0] = nn.Tanh()
    for _ in range(2):
        assert np.array_equal(step(x).numpy(), net(x).numpy())


def test_a_parameter_that_left_a_module_list_is_noticed() -> None:
    net = Blocks(nn.ModuleList([nn.Dense(2, 2), nn.Dense(2, 1)]))
    optimizer = mg.optim.SGD(net.parameters(), 0.1)
    gradients = mg.grad(net(mg.tensor([[1.0, 2.0]])).sum(), net.parameters())
    net.blocks.insert(0, nn.Tanh())  # all parameters are still there
    optimizer.step(gradients)
    del net.blocks[1]
    with pytest.raises(ValueError, match=r"SGD: parameter 0 \(\(2, 2\)\) is no longer in its modu"):
        optimizer.step(gradients)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nn.ModuleList([nn.ReLU]),
            "ModuleList: layer 0 is the class ReLU; write nn.ReLU()",
        ),
        (lambda: nn.ModuleList([[nn.ReLU()]]), "ModuleList: layer 0 is list; write one list"),
        (lambda: nn.ModuleList(nn.ReLU()), "ModuleList: ReLU is one module; write"),
        (lambda: nn.ModuleList([nn.ReLU()])(1), "a ModuleList is not called: call its modules"),
        (lambda: nn.Sequential([nn.ReLU()]), r"layer 0 is list; write nn.Sequential\(\*layers\)"),
        (
            lambda: nn.Sequential(nn.ReLU(), nn.Tanh),
            r"layer 1 is the class Tanh; write nn.Tanh\(\)",
        ),
        (lambda: nn.Sequential(abs), "layer 0 is builtin_function_or_method; write nn.Tanh"),
    ],
)
def test_what_is_no_module_is_refused(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


# --------------------------------------------------------------------------------- activations
def _gelu(x: float) -> float:
    return x * math.erfc(-x / math.sqrt(2)) / 2


@DEVICES
def test_smooth_activations(device: str) -> None:
    """The values are the definitions', in both tails, and the gradients those of differences."""
    a = np.array([-30.0, -9.0, -3.0, -1.0, 0.0, 0.5, 2.0, 9.0, 30.0])
    x = mg.tensor(a, device=device)
    sigmoid = 1 / (1 + np.exp(-a))
    tanh = a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) / 2
    expected = {
        nn.GELU(): [_gelu(v) for v in a],
        nn.GELU(approximate="tanh"): tanh,
        nn.SiLU(): a * sigmoid,
        nn.Softplus(): np.logaddexp(0, a),
        nn.Softplus(beta=2.0): np.logaddexp(0, 2 * a) / 2,
        nn.Identity(): a,
    }
    for layer, wanted in expected.items():
        assert np.allclose(layer(x).numpy(), wanted, rtol=1e-13, atol=1e-17), layer
        check_gradients(layer, [a[1:-1] + 0.1], device=device)
    single = nn.GELU()(mg.tensor(a, dtype="float32", device=device)).numpy()
    assert np.allclose(single, [_gelu(v) for v in a], rtol=1e-5, atol=1e-30)
    assert check_op(Op.registry["gelu"], device, order=3).failure == ""
    assert nn.Identity(64, affine=False)(x) is x


def test_settings_of_activations() -> None:
    layers = [nn.GELU(), nn.GELU("tanh"), nn.Softplus(), nn.Softplus(2), nn.SiLU(), nn.Identity(3)]
    assert [repr(x) for x in layers] == [
        "GELU()", "GELU(approximate='tanh')", "Softplus()", "Softplus(beta=2.0)", "SiLU()",
        "Identity()",
    ]  # fmt: skip
    with pytest.raises(
        ValueError, match="unknown approximation of GELU 'tan'; did you mean 'tanh'"
    ):
        nn.GELU("tan")
    with pytest.raises(ValueError, match="gelu: approximate = 'tan'"):
        ops.gelu(mg.tensor([1.0]), "tan")
    for beta in (0, -1.0, math.inf, "1"):
        with pytest.raises(ValueError, match=r"Softplus: beta = .* is not a positive, finite"):
            nn.Softplus(beta)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gelu: argument 0 is int64"):
        ops.gelu(mg.tensor([1]))


# ----------------------------------------------------------------------------------- print(net)
class Scaled(nn.Module):
    def __init__(self) -> None:
        self.inner = [nn.Dense(8, 8), nn.ReLU()]
        self.scale = mg.tensor([1.0], requires_grad=True)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return self.inner[1](self.inner[0](x)) * self.scale


class Bare(nn.Module):
    def __init__(self) -> None:
        self.scale = mg.tensor([1.0, 2.0], requires_grad=True)


def test_print_shows_parameters_buffers_and_the_total() -> None:
    """8*2+8, 8+8, 8*8+8 once, 8*8+8+1: 185 parameters; frozen ones are buffers."""
    shared = nn.Dense(8, 8)
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), shared, shared, Scaled())
    assert str(net).splitlines() == [
        "Sequential(",
        "  0: Linear(2, 8)                               weight (8, 2), bias (8,)",
        "  1: BatchNorm1d(8, eps=1e-05, momentum=0.1)    weight (8,), bias (8,); buffers"
        " running_mean (8,), running_var (8,)",
        "  2: Dense(8, 8)                                weight (8, 8), bias (8,)",
        "  3: Dense(8, 8), the same as 2",
        "  4: Scaled(                                    scale (1,)",
        "    inner.0: Dense(8, 8)                        weight (8, 8), bias (8,)",
        "    inner.1: ReLU()",
        "  )",
        ")                                               185 parameters, 16 in buffers",
    ]
    shared.weight.requires_grad = False
    assert "bias (8,); buffers weight (8, 8)" in str(net)
    assert str(net).endswith("121 parameters, 80 in buffers")
    assert repr(Bare()) == "Bare()    scale (2,)\n          2 parameters"
    assert repr([nn.Dense(2, 3), nn.ReLU()]) == "[Dense(2, 3), ReLU()]"
    assert repr(nn.Sequential()) == "Sequential()"


# ----------------------------------------------------------------------------------- messages
@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            nn.Dense(784, 10),
            (64, 783),
            r"Dense\(784, 10\): the input is \(64, 783\); \(\.\.\., 784",
        ),
        (nn.Linear(3, 2), (), r"Linear\(3, 2\): the input is \(\); \(\.\.\., 3\) is needed"),
        (
            nn.Conv2d(3, 8, 4),
            (2, 1, 8, 8),
            r"Conv2d\(3, 8, .*\): the input is \(2, 1, 8, 8\); \(n, 3",
        ),
        (
            nn.ConvTranspose2d(3, 8, 4),
            (3, 8, 8),
            r"ConvTranspose2d\(3, .*is \(3, 8, 8\); \(n, 3, h",
        ),
        (nn.spectral_norm(nn.Dense(3, 2)), (5, 2), r"Dense\(3, 2\): the input is \(5, 2\)"),
    ],
    ids=str,
)
def test_a_wrong_shape_names_the_layer(layer: nn.Module, shape: Any, message: str) -> None:
    x = mg.tensor(np.zeros(shape), dtype="float32")
    with pytest.raises(ValueError, match=message) as error:
        nn.Sequential(nn.Identity(), layer)(x)
    assert error.value.__notes__ == ["in layer 1 of Sequential"]


@pytest.mark.parametrize("layer", [nn.Dense(3, 2), nn.Linear(3, 2), nn.Conv2d(3, 1, 1)], ids=str)
def test_a_wrong_dtype_names_the_layer(layer: nn.Module) -> None:
    """Numbers of numpy are float64."""
    x = mg.tensor(
        np.zeros((2, 3, 1, 1)[: 4 if isinstance(layer, nn.Conv2d) else 2]), dtype="float64"
    )
    with pytest.raises(TypeError, match=r"input is float64, the parameters are float32; convert"):
        layer(x)
    assert layer.to("float64")(x).dtype == np.float64


def test_super_init_is_not_needed_and_may_be_called() -> None:
    class Old(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Dense(2, 1)]  # a plain list

        def forward(self, x: mg.Tensor) -> mg.Tensor:
            return self.layers[0](x)

    net = Old()
    assert len(net.parameters()) == 2
    net(mg.random.normal((3, 2)))


def test_apply_visits_every_module_once() -> None:
    net = nn.Sequential(nn.Dense(2, 2), nn.Sequential(nn.Dense(2, 1)))
    seen: list[str] = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Sequential", "Dense", "Sequential", "Dense"]


def test_state_dicts_of_pytorchs_layout() -> None:
    """Its batch norm has a counter, and its Linear is refused by a Dense, a square one too."""
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    state = {**net.state_dict(), "1.num_batches_tracked": np.array(5)}
    with pytest.warns(Notice, match=r"1.num_batches_tracked in the state to load: left out"):
        net.load_state_dict(state)
    with pytest.raises(ValueError, match=r"unknown \['0.num_batches_tracked'\]"):
        net.load_state_dict({**net.state_dict(), "0.num_batches_tracked": np.array(5)})
    dense = nn.Dense(3, 2, bias=False)
    with pytest.raises(ValueError, match=r"weight is float32\(2, 3\) .* mg.nn.load_torch"):
        dense.load_state_dict({"weight": np.zeros((2, 3), "f")})


def test_the_same_net_in_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.BatchNorm2d(3), torch.nn.GELU(),
        torch.nn.MaxPool2d(2), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(12, 12),
        torch.nn.Softplus(), torch.nn.Linear(12, 1), torch.nn.GELU("tanh"),
    ).double()  # fmt: skip
    ours = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.GELU(),
        nn.MaxPool2d(2), nn.SiLU(), nn.Flatten(), nn.Linear(12, 12),
        nn.Softplus(), nn.Linear(12, 1), nn.GELU("tanh"),
    ).to("float64")  # fmt: skip
    with pytest.warns(Notice, match=r"1.num_batches_tracked"):
        ours.load_state_dict(theirs.state_dict())
    a = np.random.default_rng(0).standard_normal((4, 1, 4, 4))
    y, z = ours(mg.tensor(a)), theirs(torch.tensor(a))
    assert_close(y.numpy(), z.numpy(force=True), 1e-12)
    gradients = mg.grad(y.sum(), ours.parameters())
    others = torch.autograd.grad(z.sum(), list(theirs.parameters()))
    for g, other in zip(gradients, others, strict=True):
        assert_close(g.numpy(), other.numpy(), 1e-11)
    state = {name: torch.tensor(x) for name, x in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=False)
    square = nn.Sequential(nn.Dense(12, 12))
    with pytest.raises(
        ValueError, match=r"0.weight is float64\(12, 12\).*nn.Linear has that layout"
    ):
        square.to("float64").load_state_dict(torch.nn.Sequential(theirs[6]).state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours[6].load_state_dict(theirs[6].state_dict())
