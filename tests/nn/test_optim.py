"""Optimizers against plain numpy in float64; their launches, their state, what they refuse."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from emulator_helpers import needs_compiler, needs_gpu
from helpers import DEVICES, assert_close, spy_parallel, threads

import minigan as mg
import minigan.kernels.optimizer.cpu as optimizer_kernels
from minigan import nn, optim
from minigan.engine.device import get_device

SHAPES = [(3, 4), (4,), (), (1, 5), (0, 2), (2, 3, 2)]


# --------------------------------------------------------------------- the rules, one at a time
def sgd(p: Any, gs: Any, lr: float, momentum: float = 0, nesterov: Any = 0, weight_decay: Any = 0):
    m = 0.0
    for g in gs:
        step = g + weight_decay * p
        m = momentum * m + step
        p = p - lr * (step + momentum * m if nesterov else m)
    return p


def rmsprop(
    p: Any, gs: Any, lr: float, alpha: float = 0.99, eps: float = 1e-8, weight_decay: Any = 0
):
    v = 0.0
    for g in gs:
        step = g + weight_decay * p
        v = alpha * v + (1 - alpha) * step**2
        p = p - lr * step / (np.sqrt(v) + eps)
    return p


def adam(
    p: Any, gs: Any, lr: float, betas: Any = (0.9, 0.999), eps: float = 1e-8, weight_decay: Any = 0
):
    m = v = 0.0
    for t, g in enumerate(gs, 1):
        step = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * step
        v = betas[1] * v + (1 - betas[1]) * step**2
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


def adamw(
    p: Any,
    gs: Any,
    lr: float,
    betas: Any = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: Any = 0.01,
):
    for t in range(len(gs)):  # decay does not enter the moments: add what it takes from p
        p = p * (1 - lr * weight_decay)
        p = p + adam(0.0, gs[: t + 1], lr, betas, eps) - adam(0.0, gs[:t], lr, betas, eps)
    return p


RULES: list[tuple[type[optim.Optimizer], Callable[..., Any], dict[str, Any]]] = [
    (optim.SGD, sgd, {"lr": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "weight_decay": 0.3}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
    (optim.RMSprop, rmsprop, {"lr": 0.1}),
    (optim.RMSprop, rmsprop, {"lr": 0.1, "alpha": 0.5, "eps": 0.01, "weight_decay": 0.3}),
    (optim.Adam, adam, {"lr": 0.1}),
    (optim.Adam, adam, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.01, "weight_decay": 0.3}),
    (optim.Adam, adam, {"lr": 0.1, "betas": (0.0, 0.999)}),
    (optim.AdamW, adamw, {"lr": 0.1}),
    (optim.AdamW, adamw, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 0.01, "weight_decay": 0.3}),
]
EACH = pytest.mark.parametrize("kind", [optim.SGD, optim.RMSprop, optim.Adam, optim.AdamW])


def _parameters(device: str, dtype: str = "float64") -> list[mg.Tensor]:
    rng = np.random.default_rng(0)
    return [mg.tensor(rng.standard_normal(s), dtype, device, requires_grad=True) for s in SHAPES]


def _gradients(device: str, steps: int, dtype: str = "float64") -> list[list[mg.Tensor]]:
    rng = np.random.default_rng(1)
    return [
        [mg.tensor(rng.standard_normal(s), dtype, device) for s in SHAPES] for _ in range(steps)
    ]


@pytest.mark.parametrize(("kind", "rule", "options"), RULES)
@pytest.mark.parametrize(
    ("device", "dtype", "bound"),
    [
        ("reference", "float64", 1e-12),
        ("cpu", "float64", 1e-12),
        ("cpu", "float32", 2e-5),
        pytest.param("cuda-emulator", "float64", 1e-12, marks=needs_compiler),
        pytest.param("cuda-emulator", "float32", 2e-5, marks=needs_compiler),
        pytest.param("cuda", "float64", 1e-12, marks=needs_gpu),
    ],
)
def test_ten_steps(
    kind: Any, rule: Any, options: dict[str, Any], device: str, dtype: str, bound: float
) -> None:
    parameters, gradients = _parameters(device, dtype), _gradients(device, 10, dtype)
    starts = [p.numpy().astype(np.float64) for p in parameters]
    optimizer = kind(parameters, **options)
    for step in gradients:
        optimizer.step(step)
    for i, (p, start) in enumerate(zip(parameters, starts, strict=True)):
        expected = rule(
            start, [step[i].numpy().astype(np.float64) for step in gradients], **options
        )
        assert_close(p.numpy(), expected, bound, f"parameter {i}")
        assert p.version == 10


@DEVICES
def test_parameters_and_gradients_that_are_views(device: str) -> None:
    """A parameter that is no contiguous memory is changed too, and not a copy of it."""
    w = mg.tensor(np.ones((2, 3)), device=device).T.detach()
    w.requires_grad = True
    scale = mg.tensor(np.arange(6.0).reshape(2, 3), device=device)
    for kind in (optim.SGD, optim.RMSprop, optim.Adam):
        before = w.numpy()
        kind([w], lr=0.5).step([scale.T])
        moved = before - w.numpy()
        assert (moved.ravel()[1:] > 0).all()
        assert moved[0, 0] == 0
    optim.SGD([w], lr=0.5).step(mg.grad(w.sum(), [w]))  # a gradient with strides of 0


# ------------------------------------------------------------------------------------- launches
@pytest.mark.parametrize(("kind", "_rule", "options"), RULES)
def test_a_step_is_one_launch(
    kind: Any, _rule: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, (gradients,) = _parameters("cpu"), _gradients("cpu", 1)
    optimizer = kind(parameters, **options)
    updates, launches = [], []
    update, update_elements = type(get_device("cpu")).update, optimizer_kernels.update_elements

    def count_update(self: Any, update_: Any, *arguments: Any) -> None:
        updates.append(update_.name)
        update(self, update_, *arguments)

    def count_launch(*arguments: Any) -> None:
        launches.append(arguments[0])
        update_elements(*arguments)

    monkeypatch.setattr(type(get_device("cpu")), "update", count_update)
    monkeypatch.setattr(optimizer_kernels, "update_elements", count_launch)
    optimizer.step(gradients)
    assert len(updates) == len(launches) == 1


@pytest.mark.parametrize(("kind", "_rule", "options"), RULES)
def test_threads_do_not_change_the_bits(
    kind: Any, _rule: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model whose spans for two threads end within a parameter."""
    shapes = [(97, optimizer_kernels.MIN_PARALLEL_ELEMENTS // 97), (101,), (1,)]
    results = []
    calls = spy_parallel(monkeypatch)
    for count in (1, 2):
        rng = np.random.default_rng(0)
        ps = [mg.tensor(rng.standard_normal(s), "float32", requires_grad=True) for s in shapes]
        optimizer = kind(ps, **options)
        with threads(count):
            for _ in range(2):
                optimizer.step([mg.tensor(rng.standard_normal(s), "float32") for s in shapes])
        assert len(calls) == (0 if count == 1 else 2)
        results.append([x.tobytes() for x in optimizer.state_dict().values()])
        results[-1] += [p.numpy().tobytes() for p in ps]
    assert results[0] == results[1]


# ---------------------------------------------------------------------------- numbers and state
@EACH
@DEVICES
def test_the_learning_rate_can_be_set(kind: Any, device: str) -> None:
    w = mg.tensor([1.0], device=device, requires_grad=True)
    optimizer = kind([w], lr=0.25)
    assert optimizer.lr == 0.25
    optimizer.lr = 0.0
    optimizer.step([mg.tensor([3.0], device=device)])
    assert (optimizer.lr, w.item()) == (0.0, 1.0)
    optimizer.lr = 0.5
    optimizer.step([mg.tensor([3.0], device=device)])
    assert w.item() < 0.9


@EACH
@DEVICES
def test_a_state_dict_goes_on(kind: Any, device: str) -> None:
    gradients = _gradients(device, 4)
    straight, resumed = _parameters(device), _parameters(device)
    optimizer = kind(straight, lr=0.1)
    first = kind(resumed, lr=0.1)
    for step in gradients[:2]:
        optimizer.step(step)
        first.step(step)
    second = kind(resumed, lr=7.0)
    second.load_state_dict(first.state_dict())
    for step in gradients[2:]:
        optimizer.step(step)
        second.step(step)
    for p, q in zip(straight, resumed, strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes()
    assert second.lr == 0.1


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    optimizer = optim.Adam(_parameters("cpu"), lr=0.1)
    optimizer.step(_gradients("cpu", 1)[0])
    before = optimizer.state_dict()
    assert list(before) == [f"{m}.{i}" for m in ("mean", "square") for i in range(6)] + ["state"]
    for change in ({"mean.0": np.ones(3)}, {"more": np.ones(1)}, {"state": np.ones(3, "f")}):
        with pytest.raises(ValueError, match="Adam: "):
            optimizer.load_state_dict({k: x + 1 for k, x in before.items()} | change)
    for key, x in optimizer.state_dict().items():
        assert np.array_equal(x, before[key])


# -------------------------------------------------------------------------------------- refusals
@EACH
@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf])
def test_learning_rates_that_are_none(kind: Any, lr: float) -> None:
    w = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match=f"{kind.__name__}: lr = "):
        kind([w], lr=lr)
    optimizer = kind([w])
    with pytest.raises(ValueError, match="lr = "):
        optimizer.lr = lr


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda w: optim.SGD([w], momentum=-1), "SGD: momentum = -1"),
        (lambda w: optim.SGD([w], nesterov=True), "SGD: nesterov needs a momentum"),
        (lambda w: optim.SGD([w], weight_decay=-1), "SGD: weight_decay"),
        (lambda w: optim.RMSprop([w], alpha=-1), "RMSprop: alpha"),
        (lambda w: optim.RMSprop([w], eps=math.nan), "RMSprop: eps"),
        (lambda w: optim.Adam([w], betas=(0.5, 1.0)), "Adam: betas"),
        (lambda w: optim.Adam([w], betas=(0.5,)), "Adam: betas"),
        (lambda w: optim.AdamW([w], weight_decay=-1), "AdamW: weight_decay"),
        (lambda w: optim.Adam([]), "Adam: there are no parameters"),
        (lambda w: optim.Adam([w.detach()]), "Adam: a parameter of shape .* is no leaf"),
        (lambda w: optim.Adam([w * 2]), "Adam: a parameter of shape .* is no leaf"),
        (lambda w: optim.Adam([w, mg.tensor(w, "float64", requires_grad=True)]), "differ in dtype"),
        (lambda w: optim.Adam([w, w.to("reference")]), "differ in dtype or device"),
        (lambda w: optim.SGD([w, w]), "SGD: a parameter is listed twice"),
    ],
)
def test_arguments_that_do_not_fit(make: Callable[[mg.Tensor], Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        make(mg.tensor([1.0], requires_grad=True))


def test_what_is_no_tensor() -> None:
    with pytest.raises(TypeError, match="Adam: a parameter is ndarray"):
        optim.Adam([np.ones(1)])  # type: ignore[list-item]
    w = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match="Adam: gradient 0 is ndarray"):
        optim.Adam([w]).step([np.ones(1, "f")])  # type: ignore[list-item]


@EACH
def test_gradients_that_do_not_fit_change_nothing(kind: Any) -> None:
    v, w = (mg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    optimizer = kind([v, w], lr=0.1)
    good = mg.tensor([1.0, 1.0])
    for gradients, error in [
        ([good], "1 gradients for 2 parameters"),
        ([good, None], r"there is no gradient for parameter 1 \(\(2,\)\)"),
        ([good, mg.tensor([1.0])], r"gradient 1 is float32\(1,\), its parameter float32\(2,\)"),
        ([good, good.to("float64")], r"gradient 1 is float64"),
        ([good, good.to("reference")], "tensors lie on 'cpu' and on 'reference'"),
    ]:
        with pytest.raises(ValueError, match=error):
            optimizer.step(gradients)
    assert v.numpy().tolist() == w.numpy().tolist() == [1, 2]
    assert v.version == w.version == 0


# ------------------------------------------------------------------------ numbers and elements
@DEVICES
def test_numbers_are_updated_too(device: str) -> None:
    p = mg.tensor(2.0, device=device, requires_grad=True)
    optim.SGD([p], lr=0.25).step(mg.grad(p * p, [p]))
    assert p.numpy() == 1


@DEVICES
def test_an_element_is_a_view(device: str) -> None:
    x = mg.tensor([1.0, 2.0], device=device)
    optim.assign(x[1], mg.tensor(5.0, device=device))
    assert x.numpy().tolist() == [1, 5]


# ------------------------------------------------------------------------------ replaced parameters
def replace_weight(net):
    net[0].weight = mg.tensor(net[0].weight.numpy(), requires_grad=True)


def replace_layer(net):
    setattr(net, "0", nn.Dense(2, 2))


def remove_layer(net):
    delattr(net, "0")


def replace_in_list(net):
    net.layers[0] = nn.Dense(2, 2)


def replace_in_dict(net):
    net.more["tail"] = nn.Dense(2, 2)


def replace_parameter_in_list(net):
    net.scales[0] = mg.tensor([[2.0, 2.0]], requires_grad=True)


class Containers(nn.Module):
    """A net of layers and parameters in lists and dicts."""

    def __init__(self):
        self.layers, self.more = [nn.Dense(2, 2)], {"tail": nn.Dense(2, 2)}
        self.scales = [mg.tensor([[1.0, 1.0]], requires_grad=True)]

    def forward(self, x):
        return self.more["tail"](self.layers[0](x * self.scales[0]))


@pytest.mark.parametrize("change", [replace_in_list, replace_in_dict, replace_parameter_in_list])
@pytest.mark.parametrize("captured", [False, True])
def test_a_replacement_within_a_list_or_dict_is_refused(captured, change):
    with mg.use_device("reference"):
        net, x = Containers(), mg.tensor([[1.0, 2.0]])
        optimizer = optim.Adam(net.parameters())

        def step():
            loss = net(x).sum()
            optimizer.step(mg.grad(loss, net.parameters()))
            return loss

        step = mg.capture(step) if captured else step
        step()
        change(net)
        before = net.state_dict()
        with pytest.raises(
            ValueError, match=r"parameter \d .* is no longer in its module, as Containers"
        ):
            step()
        assert all(np.array_equal(x, before[name]) for name, x in net.state_dict().items())
        optim.Adam(net.parameters()).step([p * 0.0 for p in net.parameters()])


def test_options_are_read_only():
    p = mg.tensor([1.0], requires_grad=True)
    options = {
        optim.SGD([p], 0.1, 0.5): {"momentum": 0.5, "nesterov": False, "weight_decay": 0},
        optim.RMSprop([p]): {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0},
        optim.AdamW([p]): {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2},
    }
    for optimizer, values in options.items():
        for name, value in values.items():
            assert getattr(optimizer, name) == value
            with pytest.raises(AttributeError):
                setattr(optimizer, name, value)


def test_what_is_no_list_of_parameters_or_learning_rate():
    net = nn.Dense(1, 1)
    for parameters in (net, net.parameters):
        with pytest.raises(TypeError, match=r"Adam: (Dense|method) is no list of parameters"):
            optim.Adam(parameters)
    with pytest.raises(ValueError, match=r"SGD: lr = 0.1 is not a finite number"):
        optim.SGD(net.parameters(), "0.1")
    optimizer = optim.SGD(net.parameters(), 0.1)
    for lr in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="SGD: in the state to load: lr = "):
            optimizer.load_state_dict({"state": np.array([lr])})
    with pytest.raises(TypeError, match="SGD: the state to load is NoneType, not a dict"):
        optimizer.load_state_dict(None)
    assert optimizer.lr == 0.1


@pytest.mark.parametrize("change", [replace_weight, replace_layer, remove_layer])
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_an_optimizer_of_replaced_parameters_is_refused(make, captured, change):
    with mg.use_device("reference"):
        net = nn.Sequential(nn.Dense(2, 2), nn.Dense(2, 2))
        optimizer, x = make(net.parameters()), mg.tensor([[1.0, 2.0]])
        parameters = net.parameters()

        def step():
            loss = net(x).sum()
            optimizer.step([x * 0.0 for x in parameters])
            return loss

        step = mg.capture(step) if captured else step
        step()
        change(net)
        with pytest.raises(ValueError, match=r"parameter 0 .* is no longer in its module"):
            step()
        make(net.parameters())


def test_an_optimizer_created_after_the_replacement_is_accepted():
    net = nn.Sequential(nn.Dense(2, 2), nn.Dense(2, 2))
    body = net[0]
    setattr(net, "0", nn.Dense(2, 2))
    for module in (net, body):
        optimizer = optim.SGD(module.parameters(), 0.1)
        optimizer.step([x * 0.0 for x in module.parameters()])


def test_a_layer_that_is_wrapped_keeps_its_optimizer():
    net = nn.Sequential(nn.Dense(2, 2), nn.Dense(2, 2))
    optimizer = optim.SGD(net.parameters(), 0.1)
    setattr(net, "0", nn.spectral_norm(net[0]))
    optimizer.step([x * 0.0 for x in net.parameters()])
    setattr(net, "0", nn.Dense(2, 2))
    with pytest.raises(ValueError, match="was replaced"):
        optimizer.step([x * 0.0 for x in net.parameters()])


def test_a_replacement_that_is_undone_is_accepted():
    net = nn.Dense(2, 2)
    optimizer, weight = optim.SGD(net.parameters(), 0.1), net.weight
    net.weight = mg.tensor(np.zeros((2, 2), np.float32), requires_grad=True)
    net.weight = weight
    optimizer.step([x * 0.0 for x in net.parameters()])


def test_a_frozen_parameter_is_named():
    net = nn.Dense(2, 1)
    optimizer, x = optim.SGD(net.parameters(), 0.1), mg.tensor([[1.0, 2.0]])
    step = mg.capture(lambda: optimizer.step(mg.grad(net(x).sum(), net.parameters())))
    step()
    net.weight.requires_grad = False
    with pytest.raises(ValueError, match="1 gradients for 2 parameters; were parameters frozen"):
        step()
    with pytest.raises(ValueError, match=r"parameter 0 \(\(2, 1\)\) was frozen"):
        optimizer.step([mg.tensor(np.zeros((2, 1), np.float32)), mg.tensor([0.0])])


def test_a_historical_average_of_replaced_parameters_is_refused():
    net = nn.Dense(2, 1)
    history = optim.HistoricalAverage(net.parameters())
    net.weight = mg.tensor(np.zeros((2, 1), np.float32), requires_grad=True)
    with pytest.raises(ValueError, match="HistoricalAverage: parameter 0"):
        history.penalty()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (lambda net: net.named_parameters(), r"a parameter is tuple, not a tensor; net.parameters"),
        (lambda net: [{"params": net.parameters()}], "is dict, .* no parameter groups: make one"),
        (lambda net: net.state_dict(), r"a parameter is str, not a tensor; net.parameters\(\) is"),
        (lambda net: net.weight, r"one tensor, not a list of parameters; write \[tensor\]"),
    ],
)
def test_what_stands_for_a_list_of_parameters_is_answered(parameters, message):
    with pytest.raises(TypeError, match=message):
        optim.Adam(parameters(nn.Dense(2, 1)))
