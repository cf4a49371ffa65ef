"""The same numbers as PyTorch's: convolutions, pooling, normalisers, and a DCGAN, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_helpers import derivatives, torch_derivatives

import minigan as mg
from minigan import nn, ops
from minigan.gan.models import MODELS

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
F = torch.nn.functional
few = settings(max_examples=8)
small = st.integers(1, 3)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def compare(
    device: str, f: Callable[..., Any], other: Callable[..., Any], *shapes: tuple[int, ...]
) -> None:
    """Values, first and second derivatives, to 1e-10 of each tensor's largest number."""
    rng = np.random.default_rng(sum(map(sum, shapes)))
    arrays = [rng.standard_normal(shape) for shape in shapes]
    for y, want in zip(
        derivatives(f, arrays, device), torch_derivatives(other, arrays), strict=True
    ):
        assert_close(y, want, 1e-10 * max(1.0, float(np.abs(want).max(initial=0.0))))


@DEVICES
@few
@given(data=st.data())
def test_convolutions(device: str, data: st.DataObject) -> None:
    n, c, out, *stride = (data.draw(small) for _ in range(5))
    kernel, padding = ([data.draw(st.integers(*ends)) for _ in "hw"] for ends in ((1, 4), (0, 2)))
    size = [
        max(1, k - 2 * p) + data.draw(st.integers(0, 4))
        for k, p in zip(kernel, padding, strict=True)
    ]
    more = [data.draw(st.integers(0, s - 1)) for s in stride]
    places = {"stride": tuple(stride), "padding": tuple(padding)}
    compare(
        device,
        lambda x, w, b: ops.conv2d(x, w, b, **places),
        lambda x, w, b: F.conv2d(x, w, b, **places),
        (n, c, *size), (out, c, *kernel), (out,),
    )  # fmt: skip
    both = zip(size, stride, padding, kernel, strict=True)
    large = [(m - 1) * s - 2 * p + k for m, s, p, k in both]
    if min(large) < 1:
        return
    places["output_padding"] = tuple(more)
    compare(
        device,
        lambda x, w, b: ops.conv_transpose2d(x, w, b, **places),
        lambda x, w, b: F.conv_transpose2d(x, w, b, **places),
        (n, c, *size), (c, out, *kernel), (out,),
    )  # fmt: skip


@DEVICES
def test_resizing(device: str) -> None:
    pairs: list[tuple[Any, Any]] = [
        (lambda x: ops.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2)),
        (
            lambda x: ops.avg_pool2d(x, (3, 2), 1, (1, 0)),
            lambda x: F.avg_pool2d(x, (3, 2), 1, (1, 0)),
        ),
        (lambda x: ops.upsample_nearest(x, 3), lambda x: F.interpolate(x, scale_factor=3)),
        (lambda x: ops.depth_to_space(x, 2), lambda x: F.pixel_shuffle(x, 2)),
        (lambda x: ops.space_to_depth(x, 2), lambda x: F.pixel_unshuffle(x, 2)),
    ]
    for f, other in pairs:
        # The square makes second derivatives that are not zero.
        compare(device, lambda x, f=f: f(x) ** 2, lambda x, f=other: f(x) ** 2, (2, 4, 4, 6))


@DEVICES
@few
@given(n=st.integers(8, 20), c=small, size=st.integers(1, 4))
def test_normalisers(device: str, n: int, c: int, size: int) -> None:
    """At least 8 numbers to a mean, and a variance that is not small: `randn` sees to it."""
    pairs: list[tuple[Any, Any]] = [
        (
            ops.batch_norm,
            lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        ),
        (
            lambda x, w, b: ops.group_norm(x, c, w, b),
            lambda x, w, b: F.group_norm(x, c, w, b),
        ),
    ]
    for f, other in pairs:
        compare(device, f, other, (n, c, 3, size + 2), (c,), (c,))
    compare(
        device,
        lambda x, w, b: ops.layer_norm(x, 2, w, b),
        lambda x, w, b: F.layer_norm(x, (c, n), w, b),
        (size, c, n), (c, n), (c, n),
    )  # fmt: skip


@DEVICES
def test_batch_norm_in_both_modes(device: str) -> None:
    layer = nn.BatchNorm2d(3, eps=1e-3, momentum=0.3, dtype="float64", device=device)
    other = torch.nn.BatchNorm2d(3, eps=1e-3, momentum=0.3, dtype=torch.float64)
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((8, 3, 4, 4)) * 2 + 1
        y = layer(mg.tensor(x, device=device)).numpy()
        assert_close(y, other(torch.tensor(x)).numpy(force=True), 1e-12)
    for name in ("running_mean", "running_var"):
        assert_close(getattr(layer, name).numpy(), getattr(other, name).numpy(), 1e-13)
    layer.eval()
    other.eval()
    compare(device, layer, other, (2, 3, 4, 4))


def test_spectral_norm() -> None:
    rng = np.random.default_rng(0)
    ours_, theirs_ = nn.Conv2d(3, 5, 2, dtype="float64"), torch.nn.Conv2d(3, 5, 2).double()
    with torch.no_grad():
        theirs_.weight.copy_(torch.tensor(ours_.weight.numpy()))
        theirs_.bias.copy_(torch.tensor(ours_.bias.numpy()))  # type: ignore[union-attr]
    normed = nn.spectral_norm(ours_)
    other = torch.nn.utils.spectral_norm(theirs_)
    other.weight_u.copy_(torch.tensor(normed.u.numpy()))
    for _ in range(3):
        x = rng.standard_normal((2, 3, 4, 4))
        y = normed(mg.tensor(x))
        want = other(torch.tensor(x))
        assert_close(y.numpy(), want.numpy(force=True), 1e-10)
        actual = mg.grad(ops.sum(y * y), [ours_.weight])[0].numpy()
        gradient = torch.autograd.grad((want * want).sum(), [other.weight_orig])[0]
        assert_close(actual, gradient.numpy(), 1e-9)


def as_torch(net: nn.Module) -> Any:
    """The same net in PyTorch, in float64, with the same numbers."""
    sizes = torch.nn
    kinds: dict[type, Callable[[Any], Any]] = {
        nn.Dense: lambda m: sizes.Linear(*m.weight.shape, bias=m.bias is not None),
        nn.Reshape: lambda m: sizes.Unflatten(1, m.shape),
        nn.Flatten: lambda m: sizes.Flatten(),
        nn.ReLU: lambda m: sizes.ReLU(),
        nn.Tanh: lambda m: sizes.Tanh(),
        nn.LeakyReLU: lambda m: sizes.LeakyReLU(m.slope),
        nn.BatchNorm2d: lambda m: sizes.BatchNorm2d(m.num_features),
        nn.Conv2d: lambda m: sizes.Conv2d(
            m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding,
            bias=m.bias is not None,
        ),
        nn.ConvTranspose2d: lambda m: sizes.ConvTranspose2d(
            m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding,
            bias=m.bias is not None,
        ),
    }  # fmt: skip
    made = sizes.Sequential(*(kinds[type(m)](m) for m in net)).double()  # type: ignore[attr-defined]
    load(made, net)
    return made


def load(made: Any, net: nn.Module) -> None:
    state = made.state_dict()
    for name, x in net.state_dict().items():
        turned = x.T if state[name].ndim == 2 else x
        state[name] = torch.tensor(np.ascontiguousarray(turned))
    made.load_state_dict(state)


def test_ten_steps_of_a_dcgan() -> None:
    """Losses, weights and running moments to 1e-8 in float64."""
    generator, discriminator = MODELS["dcgan"].build((1, 16, 16), 6)
    for net in (generator, discriminator):
        net.to(dtype="float64")
    g, d = as_torch(generator), as_torch(discriminator)
    options = {"lr": 1e-3, "betas": (0.5, 0.999)}
    optimizers = [mg.optim.Adam(net.parameters(), **options) for net in (generator, discriminator)]
    others = [torch.optim.Adam(net.parameters(), **options) for net in (g, d)]
    loss, rng = mg.losses.NonSaturating(), np.random.default_rng(0)
    for _ in range(10):
        real, z = rng.standard_normal((8, 1, 16, 16)), rng.standard_normal((8, 6))
        fake = generator(mg.tensor(z))
        loss_d = loss.discriminator(discriminator(mg.tensor(real)), discriminator(fake.detach()))
        optimizers[1].step(mg.grad(loss_d, discriminator.parameters()))
        loss_g = loss.generator(discriminator(fake))
        optimizers[0].step(mg.grad(loss_g, generator.parameters()))

        theirs_ = g(torch.tensor(z))
        other_d = F.softplus(-d(torch.tensor(real))).mean() + F.softplus(d(theirs_.detach())).mean()
        step(others[1], other_d, d)
        other_g = F.softplus(-d(theirs_)).mean()
        step(others[0], other_g, g)
        assert float(loss_d) == pytest.approx(other_d.item(), abs=1e-9)
        assert float(loss_g) == pytest.approx(other_g.item(), abs=1e-9)
    for net, other in ((generator, g), (discriminator, d)):
        for name, x in net.state_dict().items():
            want = other.state_dict()[name].numpy(force=True)
            assert_close(x.T if x.ndim == 2 else x, want, 1e-8, name)


def step(optimizer: Any, loss: Any, net: Any) -> None:
    for p, gradient in zip(
        net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True
    ):
        p.grad = gradient
    optimizer.step()
