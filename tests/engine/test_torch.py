"""The same numbers as PyTorch's: kinks, losses, optimizers, and a whole GAN, step by step."""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close
from torch_helpers import derivatives, torch_derivatives

import minigan as mg
from minigan import nn, ops, optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """PyTorch's threads and numba's would only get in each other's way."""
    torch.set_num_threads(1)


T = [-2.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.0, 2.0]
KINKS: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[list[float]]]] = {
    "abs": (abs, torch.abs, [T]),
    "relu": (ops.relu, torch.relu, [T]),
    "leaky_relu": (
        lambda x: ops.leaky_relu(x, 0.2),
        lambda x: torch.nn.functional.leaky_relu(x, 0.2),
        [T],
    ),
    "maximum": (ops.maximum, torch.maximum, [T, T[::-1]]),
    "minimum": (ops.minimum, torch.minimum, [T, T[::-1]]),
    "maximum of itself": (lambda x: ops.maximum(x, x), lambda x: torch.maximum(x, x), [T]),
    "clip": (lambda x: ops.clip(x, -0.5, 1.0), lambda x: torch.clip(x, -0.5, 1.0), [T]),
    "max of all": (lambda x: x.max(), torch.amax, [[*T[:6], 2.0, 2.0]]),
    "max of one axis": (
        lambda x: x.reshape(2, 4).max(axis=1),
        lambda x: torch.amax(x.reshape(2, 4), 1),
        [[1.0, 3.0, 3.0, 3.0, -1.0, -1.0, -2.0, -5.0]],
    ),
    "power of 2": (lambda x: x**2, lambda x: x**2, [T]),
    "power of 3": (lambda x: x**3, lambda x: x**3, [T]),
    "power of 0": (lambda x: x**0 * x, lambda x: x**0 * x, [T]),
    "softplus": (ops.softplus, lambda x: -torch.nn.functional.logsigmoid(-x), [[-50.0, 0.0, 60.0]]),
    "sigmoid": (ops.sigmoid, torch.sigmoid, [[-800.0, -1.0, 0.0, 800.0]]),
    "log_softmax": (
        lambda x: ops.log_softmax(x.reshape(2, 4)),
        lambda x: torch.log_softmax(x.reshape(2, 4), 1),
        [T],
    ),
    "where": (
        lambda x, y: ops.where(x > 0, x * y, y),
        lambda x, y: torch.where(x > 0, x * y, y),
        [T, T[::-1]],
    ),
}


@DEVICES
@pytest.mark.parametrize("name", list(KINKS))
def test_ties_and_kinks(name: str, device: str) -> None:
    ours, theirs, lists = KINKS[name]
    arrays = [np.array(x) for x in lists]
    for result, expected in zip(
        derivatives(ours, arrays, device), torch_derivatives(theirs, arrays), strict=True
    ):
        assert_close(result, expected, 1e-13 * max(1.0, np.abs(expected).max()), name)


@DEVICES
def test_powers_at_0(device: str) -> None:
    """First derivatives: 0 * inf and 0 * log 0 occur nowhere."""
    x, p = np.array([0.0, 0.0, 2.0, 0.0]), np.array([0.0, 2.0, 2.0, 1.0])
    xs = [mg.tensor(a, device=device, requires_grad=True) for a in (x, p)]
    ts = [torch.tensor(a, requires_grad=True) for a in (x, p)]
    gx, gp = (g.numpy() for g in mg.grad((xs[0] ** xs[1]).sum(), xs))
    tx, tp = (g.numpy() for g in torch.autograd.grad((ts[0] ** ts[1]).sum(), ts))
    assert_close(gx, tx, 1e-15)
    assert_close(gp, tp, 1e-15)
    for base in (0.0, 3.0):
        (gp,) = mg.grad((base ** xs[1]).sum(), [xs[1]])
        (tp,) = torch.autograd.grad((base ** ts[1]).sum(), [ts[1]])
        assert_close(gp.numpy(), tp.numpy(), 1e-13)


@DEVICES
@pytest.mark.parametrize("target", [0.0, 0.9, 1.0])
def test_binary_cross_entropy(device: str, target: float) -> None:
    functional = torch.nn.functional
    p = np.array([0.0, 1e-9, 0.3, 0.5, 1.0])
    pairs = zip(
        derivatives(lambda p: mg.losses.binary_cross_entropy(p, target), [p], device)[:2],
        torch_derivatives(
            lambda p: functional.binary_cross_entropy(p, torch.full_like(p, target)), [p]
        )[:2],
        strict=True,
    )
    for result, expected in pairs:  # PyTorch's bound of p (1 - p) is 1e-12 rounded to float32
        assert np.allclose(result, expected, rtol=4e-8, atol=0)
    x = np.array([-1e4, -40.0, -1.0, 0.0, 2.0, 40.0, 1e4])
    pairs = zip(
        derivatives(lambda x: mg.losses.binary_cross_entropy_with_logits(x, target), [x], device),
        torch_derivatives(
            lambda x: functional.binary_cross_entropy_with_logits(x, torch.full_like(x, target)),
            [x],
        ),
        strict=True,
    )
    for result, expected in pairs:
        assert_close(result, expected, 1e-13 * max(1.0, np.abs(expected).max()))


# -------------------------------------------------------------------------------------- optimizers
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.05}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.999), "eps": 1e-3, "weight_decay": 0.05}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.999), "weight_decay": 0.3}),
]


@DEVICES
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_ten_optimizer_steps(name: str, options: dict[str, Any], device: str) -> None:
    """With PyTorch's own default options, too."""
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(s) for s in [(3, 4), (4,), ()]]
    ours = [mg.tensor(a, device=device, requires_grad=True) for a in starts]
    theirs = [torch.tensor(a, requires_grad=True) for a in starts]
    optimizer = getattr(optim, name)(ours, **options)
    peer = getattr(torch.optim, name)(theirs, **options)
    for _ in range(10):
        gradients = [rng.standard_normal(a.shape) for a in starts]
        optimizer.step([mg.tensor(g, device=device) for g in gradients])
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = torch.tensor(g)
        peer.step()
    for p, q in zip(ours, theirs, strict=True):
        assert_close(p.numpy(), q.detach().numpy(), 1e-12)


# --------------------------------------------------------------------------------- a GAN, whole
def _nets(sizes: list[int], end: list[Any], device: str) -> tuple[nn.Sequential, Any]:
    """The same perceptron here and there, with equal weights."""
    ours: list[nn.Module] = []
    theirs: list[Any] = []
    options = {"dtype": "float64", "device": device}
    for i, (a, b) in enumerate(pairwise(sizes)):
        ours.append(nn.Dense(a, b, **options))
        theirs.append(torch.nn.Linear(a, b, dtype=torch.float64))
        with torch.no_grad():
            theirs[-1].weight.copy_(torch.tensor(ours[-1].weight.numpy().T))  # type: ignore[union-attr]
            theirs[-1].bias.copy_(torch.tensor(ours[-1].bias.numpy()))  # type: ignore[union-attr]
        if i < len(sizes) - 2:
            ours.append(nn.LeakyReLU(0.2))
            theirs.append(torch.nn.LeakyReLU(0.2))
    if end:
        ours.append(nn.Tanh())
        theirs.append(torch.nn.Tanh())
    return nn.Sequential(*ours), torch.nn.Sequential(*theirs)


def _train_ours(g: Any, d: Any, reals: np.ndarray, noise: np.ndarray, device: str) -> list[float]:
    gan = mg.losses.NonSaturating()
    step_g = optim.Adam(g.parameters(), lr=2e-4, betas=(0.5, 0.999)).step
    step_d = optim.Adam(d.parameters(), lr=2e-4, betas=(0.5, 0.999)).step
    history = []
    for x, (z, w) in zip(reals, noise, strict=True):
        with mg.no_grad():
            fake = g(mg.tensor(z, device=device))
        loss_d = gan.discriminator(d(mg.tensor(x, device=device)), d(fake))
        step_d(mg.grad(loss_d, d.parameters()))
        loss_g = gan.generator(d(g(mg.tensor(w, device=device))))
        step_g(mg.grad(loss_g, g.parameters()))
        history += [loss_d.item(), loss_g.item()]
    return history


def _train_theirs(g: Any, d: Any, reals: np.ndarray, noise: np.ndarray) -> list[float]:
    bce = torch.nn.BCEWithLogitsLoss()
    optimizer_g, optimizer_d = (
        torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (g, d)
    )
    ones, zeros = (f((len(reals[0]), 1), dtype=torch.float64) for f in (torch.ones, torch.zeros))
    history = []
    for x, (z, w) in zip(torch.tensor(reals), torch.tensor(noise), strict=True):
        optimizer_d.zero_grad()
        loss_d = bce(d(x), ones) + bce(d(g(z).detach()), zeros)
        loss_d.backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        loss_g = bce(d(g(w)), ones)
        loss_g.backward()
        optimizer_g.step()
        history += [loss_d.item(), loss_g.item()]
    return history


FULL = ([100, 256, 512, 784], [784, 512, 256, 1], 16)
SMALL = ([5, 16, 33, 21], [21, 33, 16, 1], 7)


@pytest.mark.parametrize(("sizes", "device"), [(SMALL, "reference"), (SMALL, "cpu"), (FULL, "cpu")])
def test_twenty_training_steps_are_pytorchs(sizes: Any, device: str) -> None:
    """Losses and weights of a GAN of two perceptrons, to 1e-9 of the largest."""
    widths_g, widths_d, batch = sizes
    rng = np.random.default_rng(0)
    reals = rng.uniform(-1, 1, (20, batch, widths_g[-1]))
    noise = rng.standard_normal((20, 2, batch, widths_g[0]))
    (g, torch_g), (d, torch_d) = (_nets(widths_g, [1], device), _nets(widths_d, [], device))
    start = copy.deepcopy(g.state_dict())
    ours = _train_ours(g, d, reals, noise, device)
    theirs = _train_theirs(torch_g, torch_d, reals, noise)
    assert_close(np.array(ours), np.array(theirs), 1e-9 * max(theirs), "losses")
    for net, peer in ((g, torch_g), (d, torch_d)):
        for p, q in zip(net.parameters(), peer.parameters(), strict=True):
            expected = q.detach().numpy().T
            assert_close(p.numpy(), expected, 1e-9 * np.abs(expected).max(), "weights")
    moved = max(np.abs(x - start[name]).max() for name, x in g.state_dict().items())
    assert moved > 1e-3
