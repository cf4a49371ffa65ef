"""Layers, nets and training for images: shapes, spectral norm, averages, what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close

import minigan as mg
from minigan import nn, ops
from minigan.data import Dataset
from minigan.engine.assign import assign
from minigan.engine.check import check_gradients
from minigan.gan.models import MODELS
from minigan.metrics import sliced_wasserstein
from minigan.optim import ExponentialMovingAverage

IMAGE_MODELS = ["dcgan", "sngan", "resnet"]


def normal(*shape: int, seed: int = 0, **options: Any) -> mg.Tensor:
    x = np.random.default_rng(seed).standard_normal(shape)
    return mg.tensor(x, **{"dtype": "float64", **options})


# ---------------------------------------------------------------------------------------- layers
def test_convolutions_begin_as_pytorchs() -> None:
    """Uniform in +-1/sqrt(fan), where the fan counts the weight's second axis for both."""
    for layer, shape, fan in (
        (nn.Conv2d(3, 50, (2, 5)), (50, 3, 2, 5), 30),
        (nn.ConvTranspose2d(50, 3, 4, 2, 1), (50, 3, 4, 4), 48),
    ):
        assert layer.weight.shape == shape
        for x, least in ((layer.weight.numpy(), 0.98), (layer.bias.numpy(), 0.4)):
            assert least / math.sqrt(fan) < np.abs(x).max() <= 1 / math.sqrt(fan)
    assert list(nn.Conv2d(1, 1, 1).state_dict()) == ["weight", "bias"]
    assert list(nn.Conv2d(1, 1, 1, bias=False).state_dict()) == ["weight"]


@DEVICES
def test_layers_are_their_ops(device: str) -> None:
    x = normal(2, 3, 5, 6, device=device, dtype="float32")
    conv = nn.Conv2d(3, 4, (3, 2), (2, 1), (1, 0), device=device)
    want = ops.conv2d(x, conv.weight, conv.bias, (2, 1), (1, 0))
    assert np.array_equal(conv(x).numpy(), want.numpy())
    back = nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, device=device)
    assert back(x).shape == (2, 4, 10, 12)
    plain = ops.conv_transpose2d(x, back.weight, stride=2, padding=1, output_padding=1)
    column = back.bias.numpy()[:, None, None]
    assert_close(back(x).numpy(), plain.numpy().astype("float64") + column, 1e-6)


def test_looks() -> None:
    assert repr(nn.Conv2d(3, 8, 4, 2, 1)) == (
        "Conv2d(3, 8, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))"
    )
    assert repr(nn.ConvTranspose2d(8, 3, 1, bias=False)) == (
        "ConvTranspose2d(8, 3, kernel_size=(1, 1), bias=False)"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 1, 3), "Conv2d: in_channels = 0 is not a positive integer"),
        (lambda: nn.Conv2d(1, 1, 0), "Conv2d: kernel_size = 0"),
        (lambda: nn.Conv2d(1, 1, 3, dilation=2), "Conv2d: dilation = 2 is not supported"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, groups=2), "groups = 2 is not supported"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, 2, 1, 2), "output_padding = 2 is not less than"),
    ],
)
def test_options_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_shapes_tell_what_becomes_of_a_sample() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Dense(36, 1))
    before = net.state_dict()
    rows = nn.shapes(net, (1, 6, 6))
    assert [shape for _, shape in rows] == [
        (2, 1, 6, 6), (2, 4, 3, 3), (2, 4, 3, 3), (2, 36), (2, 1),
    ]  # fmt: skip
    assert rows[1][0] == "0: Conv2d(1, 4, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))"
    assert net.training
    assert all(np.array_equal(x, before[name]) for name, x in net.state_dict().items())
    with pytest.raises(
        ValueError, match=r"layer 3: Dense\(36, 1\) does not take \(2, 64\)"
    ) as caught:
        nn.shapes(net, (1, 8, 8))
    assert "(2, 4, 4, 4)" in str(caught.value)
    assert net[1].training


# --------------------------------------------------------------------------------- spectral norm
def spread_matrix(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Singular values of which the second is 0.95 of the first."""
    u, s, v = np.linalg.svd(rng.standard_normal((rows, columns)), full_matrices=False)
    s = 3.0 * np.minimum(0.95, s / s[0])
    s[0] = 3.0
    return (u * s) @ v


SPECTRAL: dict[str, tuple[Any, Any]] = {
    "Dense": (lambda d: nn.Dense(12, 7, dtype="float64", device=d), lambda w: w.T),
    "Conv2d": (
        lambda d: nn.Conv2d(3, 7, 2, dtype="float64", device=d),
        lambda w: w.reshape(7, 12),
    ),
    "ConvTranspose2d": (
        lambda d: nn.ConvTranspose2d(3, 7, 2, dtype="float64", device=d),
        lambda w: w.transpose(1, 0, 2, 3).reshape(7, 12),
    ),
}


@DEVICES
@pytest.mark.parametrize("name", SPECTRAL)
def test_the_largest_singular_value_becomes_1(
    device: str, name: str, rng: np.random.Generator
) -> None:
    make, matrix = SPECTRAL[name]
    layer = make(device)
    expected = spread_matrix(rng, 7, 12)
    shape = layer.weight.shape
    back = expected.T if name == "Dense" else expected.reshape(7, *shape[2:], -1)
    if name == "Conv2d":
        back = expected.reshape(shape)
    if name == "ConvTranspose2d":
        back = expected.reshape(7, 3, 2, 2).transpose(1, 0, 2, 3)
    assign(layer.weight, mg.tensor(np.ascontiguousarray(back), device=device))
    normed = nn.spectral_norm(layer)
    for _ in range(200):
        actual = normed.normalized_weight()
    assert np.linalg.svd(matrix(actual.numpy()))[1][0] == pytest.approx(1, abs=1e-6)
    assert_close(actual.numpy(), layer.weight.numpy() / 3.0, 1e-6)


@DEVICES
def test_its_gradient_holds_u_and_v_constant(device: str) -> None:
    normed = nn.spectral_norm(nn.Dense(4, 3, dtype="float64", device=device)).eval()

    def f(w: mg.Tensor, x: mg.Tensor) -> mg.Tensor:
        normed.module.weight = w
        return normed(x)

    arrays = [normed.module.weight.numpy(), normal(5, 4).numpy()]
    check_gradients(f, arrays, device=device, name="spectral norm")


def test_a_graph_keeps_the_vectors_that_it_was_made_with() -> None:
    """Two passes, then the gradient of the first: PyTorch's own once raised here."""
    normed = nn.spectral_norm(nn.Dense(4, 3))
    x = normal(5, 4, dtype="float32")
    state = normed.state_dict()
    first = normed(x)
    normed(x)
    late = mg.grad(ops.sum(first), normed.parameters())
    normed.load_state_dict(state)
    at_once = mg.grad(ops.sum(normed(x)), normed.parameters())
    for a, b in zip(late, at_once, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


def test_its_vectors_are_saved_and_move_in_training_alone() -> None:
    normed = nn.spectral_norm(nn.Conv2d(2, 3, 3))
    assert list(normed.state_dict()) == ["u", "v", "module.weight", "module.bias"]
    assert [name for name, _ in normed.named_parameters()] == ["module.weight", "module.bias"]
    x, before = normal(1, 2, 5, 5, dtype="float32"), normed.state_dict()
    normed.eval()(x)
    assert np.array_equal(normed.u.numpy(), before["u"])
    normed.train()(x)
    assert not np.array_equal(normed.u.numpy(), before["u"])
    with pytest.raises(TypeError, match="ReLU has no weight to normalize"):
        nn.spectral_norm(nn.ReLU())


# --------------------------------------------------------------------------------------- average
def test_an_average_follows_parameters_and_copies_buffers() -> None:
    net = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm1d(3))
    average = ExponentialMovingAverage(net, 0.75)
    start = net.state_dict()
    assign(net[0].weight, normal(2, 3, dtype="float32"))
    net(normal(8, 2, dtype="float32"))
    average.update()
    actual, now = average.module.state_dict(), net.state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert_close(actual[name], 0.75 * start[name].astype("f8") + 0.25 * now[name], 1e-6, name)
    assert np.array_equal(actual["1.running_var"], now["1.running_var"])
    assert not average.module.training
    assert net.training
    with pytest.raises(ValueError, match=r"decay = 1 is not in \[0, 1\)"):
        ExponentialMovingAverage(net, 1)


def test_an_average_moves_with_its_net_and_says_what_does_not_fit() -> None:
    net = nn.Sequential(*(nn.Dense(2, 2, bias=False) for _ in range(3)))
    net[2].weight.requires_grad = False
    average = ExponentialMovingAverage(net, 0.0)
    net[0].weight.requires_grad, net[2].weight.requires_grad = False, True  # others are frozen now
    for i, layer in enumerate(net):
        assign(layer.weight, mg.tensor(np.full((2, 2), float(i), "float32")))
    average.update()
    assert [layer.weight.numpy()[0, 0] for layer in average.module] == pytest.approx([0, 1, 2])
    net.to(dtype="float64")
    with pytest.raises(ValueError, match=r"0.weight is \(\(2, 2\), 'float32', 'cpu'\), the net's"):
        average.update()
    for x in (net, average.module):
        x.to(dtype="float32", device="reference")
    average.update()
    for x in net.parameters():
        x.requires_grad = False
    assign(net[1].weight, mg.tensor(np.full((2, 2), 9.0, "float32"), device="reference"))
    average.update()  # what is frozen is copied
    assert average.module[1].weight.numpy()[0, 0] == 9
    net.more = nn.Dense(1, 1)
    with pytest.raises(ValueError, match=r"\['more.bias', 'more.weight'\] are in the net or its"):
        average.update()
    with pytest.raises(ValueError, match="decay = None"):
        ExponentialMovingAverage(net, None)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ nets
def test_weights_of_a_dcgan_are_drawn_small() -> None:
    generator, discriminator = MODELS["dcgan"].build((1, 32, 32), 100)
    for net in (generator, discriminator):
        for name, x in net.named_parameters():
            if x.ndim > 1:
                assert x.numpy().std() == pytest.approx(0.02, rel=0.15), name
    scale = generator[2].weight.numpy()
    assert scale.mean() == pytest.approx(1, abs=0.01)
    assert scale.std() == pytest.approx(0.02, rel=0.3)


def test_a_spectral_critic_has_no_batch_norm_and_all_its_layers_normalised() -> None:
    _, critic = MODELS["sngan"].build((1, 28, 28), 100)
    kinds = [type(x) for x in critic.modules()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(nn.SpectralNorm) == 3
    assert not nn.depends_on_batch(critic)


# -------------------------------------------------------------------------------------- training
def images(n: int = 80, side: int = 16) -> Dataset:
    """Squares of one grey or another in a corner or another."""
    rng = np.random.default_rng(0)
    values = np.full((n, 1, side, side), -1.0, np.float32)
    for x, (i, j) in zip(values, rng.integers(0, 2, (n, 2)), strict=True):
        x[0, i * 8 : i * 8 + 8, j * 8 : j * 8 + 8] = rng.uniform(0.2, 1)
    return Dataset("squares", values)


def trainer(**options: Any) -> mg.Trainer:
    defaults = {"data": "squares", "batch": 16, "steps": 4, "latent_size": 8, "holdout": 0.2}
    return mg.Trainer(mg.Config(**{**defaults, **options}), data=images())


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_an_average_and_buffers_are_in_the_state_and_resume_to_the_bit(model: str) -> None:
    straight = trainer(model=model, ema=0.5)
    for _ in range(2):
        straight.step()
    tensors, info = straight.state()
    assert any(name.startswith("average.") for name in tensors)
    assert any(name.endswith("running_var") for name in tensors)
    assert (model == "dcgan") != any(name.endswith(".u") for name in tensors)
    resumed = trainer(model=model, ema=0.5)
    resumed.load_state(tensors, info)
    for _ in range(2):
        row = resumed.step()
    resumed_tensors, _ = resumed.state()
    straight.load_state(tensors, info)
    for _ in range(2):
        assert np.isfinite(straight.step()["loss_d"])
    for name, x in straight.state()[0].items():
        assert np.array_equal(x, resumed_tensors[name]), name
    assert row["loss_g"] > 0


def test_samples_are_the_averages() -> None:
    run = trainer(model="dcgan", ema=0.9)
    for _ in range(3):
        run.step()
    z = run.fixed_latent
    assert run.average is not None
    with mg.no_grad():
        want = run.average.module(z).numpy()
        plain = run.generator.eval()(z).numpy()
    assert np.array_equal(run.generate(z), want)
    assert not np.array_equal(want, plain)
    assert not run.average.module.training


def test_captured_and_eager_steps_have_the_same_bits() -> None:
    for model in IMAGE_MODELS:
        rows = []
        for captured in (True, False):
            run = trainer(model=model, ema=0.9)
            run.captured = captured
            rows.append([run.step(norms=True) for _ in range(3)])
        assert rows[0] == rows[1], model


def test_many_samples_are_made_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(model="dcgan")
    run.generator[2].eval()
    whole = run.sample(40)
    monkeypatch.setattr("minigan.training.sampler.GENERATE_BATCH", 16)
    assert np.array_equal(run.sample(40), whole)
    assert trainer(model="mlp").sample(0).shape == (0, 1, 16, 16)
    assert not run.generator[2].training
    assert run.generator[5].training


def test_real_and_fake_samples_do_not_share_moments() -> None:
    """With batch norm in D each batch passes alone: D's moments are never those of a mixture."""
    run = trainer(model="dcgan")
    batch_sizes: list[int] = []
    forward = run.discriminator.forward

    def spy(x: mg.Tensor) -> Any:
        batch_sizes.append(x.shape[0])
        return forward(x)

    run.discriminator.forward = spy  # type: ignore[method-assign]
    run.step()
    assert batch_sizes == [16, 16, 16]
    plain = trainer(model="sngan")
    forward = plain.discriminator.forward
    batch_sizes.clear()
    plain.discriminator.forward = spy  # type: ignore[method-assign]
    plain.step()
    assert batch_sizes == [32, 16]


def test_what_nets_cannot_take_is_said_before_training() -> None:
    with pytest.raises(ValueError, match=r"20x20, 16x16 \(--size 20x20\)"):
        mg.Trainer(mg.Config(data="squares", model="dcgan", batch=4), data=images(side=18))
    with pytest.raises(ValueError, match="samples of shape"):
        mg.Trainer(mg.Config(data="ring", samples=500, model="resnet"))


def test_a_dcgan_learns() -> None:
    """120 steps on squares in four corners: the distance falls from 0.77 to about 0.25."""
    run = trainer(model="dcgan", lr_g=1e-3, lr_d=1e-3)
    real = run.data.values
    start = sliced_wasserstein(run.sample(len(real)), real, seed=0)
    for _ in range(120):
        run.step()
    fake = run.sample(len(real))
    assert sliced_wasserstein(fake, real, seed=0) < 0.4 * start
    run.generator.train()
    with mg.no_grad():  # a batch by its own moments: the same pictures as by the running ones
        by_batch = run.generator(normal(len(real), 8, dtype="float32")).numpy()
    assert sliced_wasserstein(by_batch, fake, seed=0) < 0.25 * start
