"""The discriminator's input in both steps: noise, augmentation, packing, comparisons."""

import numpy as np
import pytest
from player_helpers import (
    N,
    arrays,
    bent,
    close,
    line,
    make_players,
    moved,
    points,
    sigmoid,
    small_models,
    spy,
    tiles,
)

import minigan as mg
from minigan import Config, Trainer, nn, ops
from minigan.gan import players as module
from minigan.gan.augment import diff_augment
from minigan.gan.networks import add_minibatch_layer

__all__ = ["small_models"]
LINE = {"model": "line", "data": "ring", "samples": 60, "batch": 8}
LOSSES = pytest.mark.parametrize("loss", ["nonsaturating", "relativistic"])


def discriminator_inputs(players, real):
    """D's input (real, fake) in each step, and the fakes themselves.

    In the generator's step only a relativistic loss has real samples.
    """
    d_calls, g_calls = spy(players.discriminator), spy(players.generator)
    players.step([real], [])
    d_step = np.split(d_calls[0][0], 2)
    g_step = d_calls[2][0] if len(d_calls) > 2 else None, d_calls[1][0]
    return d_step, g_step, g_calls[0][-1]


# ------------------------------------------------------------------------------------------- noise
@LOSSES
def test_instance_noise_is_on_all_inputs_of_d_and_fresh_each_time(loss):
    n, real = 2000, points(2000)
    d_step, g_step, fake = discriminator_inputs(
        make_players(batch=n, instance_noise=0.5, loss=loss), real
    )
    noises = [d_step[0] - real.numpy(), d_step[1] - fake, g_step[1] - fake]
    if loss == "relativistic":
        noises.append(g_step[0] - real.numpy())
    for noise in noises:
        assert abs(noise.mean()) < 4 * 0.5 / np.sqrt(2 * n)
        assert noise.std() == pytest.approx(0.5, rel=4 / np.sqrt(4 * n))
    for i, a in enumerate(noises):
        for b in noises[:i]:
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(2 * n)


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.usefixtures("small_models")
def test_its_deviation_falls_in_a_line_to_zero(captured):
    trainer = Trainer(Config(**LINE, instance_noise=0.8, noise_steps=4, steps=6))
    trainer.captured = captured
    for expected in (0.8, 0.6, 0.4, 0.2, 0, 0, 0):
        trainer.step()
        assert trainer.players.instance_noise.sigma == pytest.approx(expected, abs=1e-7)
    assert Trainer(Config(**LINE, instance_noise=0.8, steps=6)).config.noise_steps == 6


@pytest.mark.usefixtures("small_models")
def test_captured_noise_has_the_deviation_of_its_step_and_none_at_the_end():
    """Nets that stand still: at deviation 0 the losses are those of a run without noise."""
    still = {"lr_g": 1e-30, "lr_d": 1e-30}
    rows = []
    for noise in ({"instance_noise": 3.0, "noise_steps": 3}, {}):
        trainer = Trainer(Config(**LINE, **still, **noise))
        rows.append([trainer.step() for _ in range(5)])
    assert [a == b for a, b in zip(*rows, strict=True)] == [False] * 3 + [True] * 2


@pytest.mark.usefixtures("small_models")
def test_samples_have_no_noise():
    noisy, quiet = (Trainer(Config(**LINE, instance_noise=s)) for s in (0.5, 0.0))
    assert np.array_equal(noisy.sample(9), quiet.sample(9))
    assert np.array_equal(noisy.sample(9), noisy.sample(9))


# ------------------------------------------------------------------------------------ augmentation
class Sum(nn.Module):
    """(n, ...) -> (n, 1), by a weight for each number."""

    def __init__(self, size):
        self.dense = nn.Dense(size, 1)

    def forward(self, x):
        return self.dense(ops.reshape(x, x.shape[0], -1))


def images(**options):
    g = nn.Sequential(nn.Dense(2, 3 * 4 * 4), nn.Reshape(3, 4, 4))
    pack = options.get("pack", 1)
    return make_players(Sum(pack * 48), g, augment="color,translation,cutout", **options)


def pictures(count=N):
    values = np.random.default_rng(4).uniform(-1, 1, (count, 3, 4, 4))
    return mg.tensor(values.astype(np.float32))


@LOSSES
@pytest.mark.parametrize("pack", [1, 2])
def test_augmentation_is_of_all_inputs_of_d_before_packing(monkeypatch, loss, pack):
    calls = []

    def tripled(x, policy):
        calls.append((x.shape, policy))
        return ops.multiply(x, 3.0)

    monkeypatch.setattr(module, "diff_augment", tripled)
    real = pictures()
    d_step, g_step, fake = discriminator_inputs(images(pack=pack, loss=loss), real)
    assert calls == [((N, 3, 4, 4), "color,translation,cutout")] * (
        4 if loss == "relativistic" else 3
    )
    shape = (N // pack, 3 * pack, 4, 4)
    for inputs, x in ((d_step[0], real.numpy()), (d_step[1], fake), (g_step[1], fake)):
        assert np.array_equal(inputs, 3 * x.reshape(shape))
    if loss == "relativistic":
        assert np.array_equal(g_step[0], 3 * real.numpy().reshape(shape))


def test_the_generators_gradient_goes_through_the_augmentation(monkeypatch):
    monkeypatch.setattr(module, "diff_augment", lambda x, policy: ops.multiply(x, 3.0))
    players, real = images(lr_d=1e-30), pictures()
    g_calls, before = spy(players.generator), arrays(players.generator)
    w, b = arrays(players.discriminator)
    players.step([real], [])
    z, fake = g_calls[0]
    up = (sigmoid(3 * fake.reshape(N, -1) @ w + b) - 1) / N
    close(moved(players.generator, before)[0], z.T @ up @ (3 * w.T))


def test_each_input_is_augmented_anew():
    players, real = images(), pictures()
    d_step, g_step, fake = discriminator_inputs(players, real)
    assert not np.array_equal(d_step[1], g_step[1])  # the same fakes
    mg.manual_seed(0)
    again = diff_augment(real, "color,translation,cutout").numpy()
    other = diff_augment(real, "color,translation,cutout").numpy()
    assert not np.array_equal(again, other)
    assert d_step[0].shape == fake.shape


# ----------------------------------------------------------------------------------------- packing
def test_packed_points_are_neighbours_in_the_batch():
    real = points()
    d_step, g_step, fake = discriminator_inputs(make_players(pack=2), real)
    for inputs, x in ((d_step[0], real.numpy()), (d_step[1], fake), (g_step[1], fake)):
        assert np.array_equal(inputs, np.concatenate([x[0::2], x[1::2]], axis=1))


def test_packed_images_are_side_by_side_in_channels():
    players = make_players(Sum(96), images().generator, pack=2)
    real = pictures()
    d_step, g_step, fake = discriminator_inputs(players, real)
    for inputs, x in ((d_step[0], real.numpy()), (d_step[1], fake), (g_step[1], fake)):
        assert np.array_equal(inputs, np.concatenate([x[0::2], x[1::2]], axis=1))


@pytest.mark.usefixtures("small_models")
def test_shares_are_of_packed_logits():
    trainer = Trainer(Config(**LINE, pack=4, lr_d=1e-30, lr_g=1e-30))
    trainer.captured = False
    d_calls = spy(trainer.discriminator)
    inputs = set()
    for k in range(12):
        row = trainer.step()
        r, f = np.split(d_calls[2 * k][-1], 2)
        assert r.shape == (2, 1)
        assert row["d_real"] == (r > 0).mean()
        assert row["d_fake"] == (f <= 0).mean()
        inputs |= {row["d_real"], row["d_fake"]}
    assert inputs <= {0.0, 0.5, 1.0}
    assert len(inputs) > 1


# ------------------------------------------------------------------------------------- comparisons
def test_minibatch_layers_get_real_and_fake_samples_in_separate_batches():
    d = add_minibatch_layer(bent(), "stddev")
    players, real = make_players(d), points()
    d_calls, head, g_calls = spy(d), spy(d[-1]), spy(players.generator)
    players.step([real], [])
    fake = g_calls[0][-1]
    for call, x in zip(d_calls, (real.numpy(), fake, fake), strict=True):
        assert np.array_equal(call[0], x)
    for features, _ in head:
        groups = features[:, :-1].reshape(4, N // 4, -1)
        expected = np.sqrt(groups.var(axis=0) + 1e-8).mean(axis=1)
        close(features[:, -1], np.tile(expected, 4))


def test_minibatch_discrimination_by_hand_and_its_head():
    d = add_minibatch_layer(bent(), "discrimination")
    head = spy(d[-1])
    players, real = make_players(d), points()
    players.step([real], [])
    weight = players.discriminator[2].weight
    assert weight.shape == (3, 8, 4)
    features = head[-1][0]  # of G's step, after D's
    m = np.einsum("ni,iok->nok", features[:, :3], weight.numpy())
    distance = np.abs(m[:, None] - m[None]).sum(axis=-1)
    close(features[:, 3:], np.exp(-distance).sum(axis=1) - 1, 1e-5)
    assert d[-1].weight.shape == (11, 1)


def test_a_spectral_head_stays_spectral():
    net = nn.Sequential(nn.Dense(2, 3), nn.spectral_norm(nn.Dense(3, 1)))
    head = add_minibatch_layer(net, "stddev")[-1]
    assert isinstance(head, nn.SpectralNorm)
    assert head.module.weight.shape == (4, 1)
    assert add_minibatch_layer(net, "none") is net


# ----------------------------------------------------------------------------------------- dropout
def test_dropout_is_on_in_both_steps_with_draws_of_their_own():
    d = nn.Sequential(nn.Dense(2, 50), nn.Dropout(0.3), nn.Dense(50, 1))
    dropped = spy(d[1])
    make_players(d).step([points()], [])
    masks = [y == 0 for _, y in dropped]
    assert [len(m) for m in masks] == [2 * N, N]
    for mask in masks:
        assert mask.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / mask.size))
    assert not np.array_equal(masks[0][N:], masks[1])  # the same fakes
    assert not np.array_equal(masks[0][N:], masks[0][:N])


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.usefixtures("small_models")
def test_samples_are_drawn_in_eval_mode_and_modes_come_back(ema, monkeypatch):
    g = nn.Sequential(nn.Dense(2, 20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Dense(20, 2))
    monkeypatch.setattr("minigan.training.trainer.build_networks", lambda *_: (g, line()))
    trainer = Trainer(Config(**LINE, ema=ema))
    trainer.captured = False
    g[2].train(False)  # a mode of one's own is kept
    trainer.step()
    modes = [x.training for x in g.modules()]
    net = trainer.players.sampler
    kept = [x.training for x in net.modules()]
    before = net.state_dict()
    latent = trainer.players.latent(6, "samples")
    first = trainer.generate(latent)
    assert np.array_equal(first, trainer.generate(latent))
    state = before["1.running_mean"], before["1.running_var"]
    w, b = before["0.weight"], before["0.bias"]
    hidden = (latent.numpy() @ w + b - state[0]) / np.sqrt(state[1] + 1e-5)
    hidden = hidden * before["1.weight"] + before["1.bias"]
    close(first, hidden @ before["3.weight"] + before["3.bias"], 1e-5)
    assert [x.training for x in g.modules()] == modes == [True, True, True, False, True]
    assert [x.training for x in net.modules()] == kept
    assert all(np.array_equal(before[k], x) for k, x in net.state_dict().items())


# ----------------------------------------------------------------------------------- standardising
def test_standardised_points_are_shown_small_and_sampled_large():
    config = Config(data="grid", samples=200, batch=8, lr_g=1e-30, lr_d=1e-30)
    inputs, trainers = [], []
    for standardize in (False, True):
        trainer = Trainer(config.replace(standardize=standardize))
        trainers.append(trainer)
        trainer.captured = False
        d_calls = spy(trainer.discriminator)
        trainer.step()
        inputs.append(np.split(d_calls[0][0], 2))
    plain, scaled = trainers
    deviation = plain.data.values.std(dtype=np.float64)
    assert scaled.scale == pytest.approx(deviation, rel=1e-12)
    assert deviation > 2
    close(inputs[1][0], inputs[0][0] / deviation)
    close(inputs[1][1], inputs[0][1])  # fakes come small from the generator
    close(scaled.sample(5), plain.sample(5) * deviation, 1e-5)
    tensors, info = scaled.state()
    other = Trainer(scaled.config)
    other.load_state(tensors, info)
    assert np.array_equal(other.sample(5), scaled.sample(5))


@pytest.mark.usefixtures("small_models")
def test_images_reach_d_as_they_are():
    config = Config(model="small-dcgan", batch=4)
    trainer = Trainer(config, tiles())
    trainer.captured = False
    d_calls = spy(trainer.discriminator)
    trainer.step()
    rows = {x.tobytes() for x in trainer.data.values}
    assert d_calls[0][0].shape == (4, 3, 16, 16)  # batch norm: real samples pass alone
    assert all(x.tobytes() in rows for x in d_calls[0][0])
