"""A player's step, by hand: what limits it, its rate, and the averages over steps."""

import math

import numpy as np
import pytest
from player_helpers import arrays, bent, close, line, make_players, moved, points, small_models

import minigan as mg
from minigan import Config, Trainer, nn

__all__ = ["small_models"]
LINE = {"model": "line", "data": "ring", "samples": 60, "batch": 8}
SGD = {"optimizer": "sgd", "beta1": 0.0}


# ------------------------------------------------------------------------------------------ limits
def test_clip_weights_bounds_d_alone():
    players = make_players(bent(), clip_weights=0.1, lr_g=0.1, lr_d=0.1)
    assert max(np.abs(x).max() for x in arrays(players.generator)) > 0.2
    players.step([points()], [])
    assert max(np.abs(x).max() for x in arrays(players.discriminator)) == np.float32(0.1)
    assert max(np.abs(x).max() for x in arrays(players.generator)) > 0.2


def length(gradients):
    return math.sqrt(sum(float((np.asarray(g, np.float64) ** 2).sum()) for g in gradients))


@pytest.mark.parametrize("limit", [0.05, 1e3])
def test_clip_norm_bounds_each_step_and_what_is_reported_is_from_before(limit):
    players = make_players(bent(), clip_norm=limit)
    nets = {"d": players.discriminator, "g": players.generator}
    before = {k: arrays(net) for k, net in nets.items()}
    results = players.step([points()], [])
    for k, net in nets.items():
        whole = [g.numpy() for g in results[f"gradients_{k}"]]
        scale = min(1, limit / (length(whole) + 1e-6))
        assert (scale < 1) == (limit < 1)
        for step, g in zip(moved(net, before[k]), whole, strict=True):
            close(step, g * scale)
        assert length(moved(net, before[k])) <= limit * (1 + 1e-5)


def test_clip_value_bounds_each_element_after_the_norm_is_limited():
    players = make_players(bent(), clip_norm=0.3, clip_value=0.1)
    before = arrays(players.discriminator)
    whole = [g.numpy() for g in players.step([points()], [])["gradients_d"]]
    scale = 0.3 / (length(whole) + 1e-6)
    assert max(np.abs(g).max() for g in whole) * scale > 0.1
    for step, g in zip(moved(players.discriminator, before), whole, strict=True):
        close(step, np.clip(g * scale, -0.1, 0.1))


@pytest.mark.usefixtures("small_models")
def test_a_row_has_the_norms_from_before_the_limit():
    rows = [
        Trainer(Config(**LINE, clip_norm=c, clip_value=c)).step(norms=True) for c in (0.0, 1e-3)
    ]
    assert rows[0]["grad_norm_d"] == rows[1]["grad_norm_d"] > 0.01
    assert rows[1]["grad_norm_g"] > 0.01


# ------------------------------------------------------------------------------------------- rates
def test_rates_of_their_own_and_weight_decay():
    players = make_players(lr_g=0.5, lr_d=0.25, weight_decay=0.1)
    for net, k, rate in ((players.discriminator, "d", 0.25), (players.generator, "g", 0.5)):
        before = arrays(net)
        results = players.step([points()], [])
        for step, p, g in zip(moved(net, before), before, results[f"gradients_{k}"], strict=True):
            close(step, rate * (g.numpy() + 0.1 * p))


SCHEDULED = {
    "linear": [0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0],
    "late-linear": [0.5, 1, 1, 1, 1, 0.5, 0, 0],
    "cosine": [0.5, 1, 1, *((1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3, 4, 4))],
    "constant": [0.5, 1, 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULED)
@pytest.mark.usefixtures("small_models")
def test_a_schedule_sets_both_rates_before_each_step(schedule, captured):
    rates = {"lr_g": 0.2, "lr_d": 0.4}
    options = {"schedule": schedule, "warmup": 2, "steps": 6, **rates, **SGD}
    trainer = Trainer(Config(**LINE, **options))
    trainer.captured = captured
    for factor in SCHEDULED[schedule]:
        nets = {"d": trainer.discriminator, "g": trainer.generator}
        before = {k: arrays(net) for k, net in nets.items()}
        row = trainer.step(norms=True)
        for k, net in nets.items():
            rate = rates[f"lr_{k}"] * factor
            close(length(moved(net, before[k])), rate * row[f"grad_norm_{k}"], 1e-6)
            assert trainer.players.optimizers[k].lr == pytest.approx(rate, abs=1e-15)


# ---------------------------------------------------------------------------------------- averages
def two(k, **options):
    """(parameters, gradients) of a player's two steps, without and with these options.

    For the generator, D stands still, so that both runs' G meet the same one.
    """
    actual = []
    for added in ({}, options):
        mg.manual_seed(3)
        players = make_players(bent(), lr_d=1.0 if k == "d" else 1e-30, **added)
        net = players.discriminator if k == "d" else players.generator
        path, gradients = [], []
        for _ in range(2):
            path.append(arrays(net))
            out = players.step([points()], [])
            gradients.append([g.numpy().astype(np.float64) for g in out[f"gradients_{k}"]])
        actual.append((path, gradients))
    return actual


@pytest.mark.parametrize("k", ["d", "g"])
def test_historical_averaging_draws_back_to_the_mean_of_what_was(k):
    (_, plain), (path, held) = two(k, historical=0.3)
    for a, b in zip(plain[0], held[0], strict=True):
        close(a, b)  # the mean begins where the parameters are
    for a, b, first, second in zip(plain[1], held[1], *path, strict=True):
        assert np.abs(second - first).max() > 1e-3
        close(b - a, 2 * 0.3 * (second - (first + second) / 2))


@pytest.mark.parametrize("k", ["d", "g"])
def test_orthogonal_regularisation_pushes_filters_apart(k):
    (_, plain), (path, held) = two(k, orthogonal=0.2)
    pushed = 0.0
    for a, b, p in zip(plain[0], held[0], path[0], strict=True):
        expected = np.zeros_like(p)
        if p.ndim == 2:
            products = p.T @ p
            expected = 4 * 0.2 * p @ (products - np.diag(np.diag(products)))
        close(b - a, expected)
        pushed = max(pushed, np.abs(expected).max())
    assert pushed > 0.01


@pytest.mark.parametrize("steps", [1, 3])
def test_the_average_follows_each_of_gs_steps_and_has_its_buffers(steps):
    g = nn.Sequential(nn.Dense(2, 4), nn.BatchNorm1d(4), nn.Dense(4, 2))
    players = make_players(line(), g, ema=0.2, n_generator=steps)
    average = arrays(players.average.module)
    states, update = [], players.optimizers["g"].step
    players.optimizers["g"].step = lambda gradients: (update(gradients), states.append(arrays(g)))
    players.step([points()], [])
    assert len(states) == steps
    for t, state in enumerate(states):  # the decay rises: 1/10, 2/11, 0.2
        decay = min(0.2, (1 + t) / (10 + t))
        average = [decay * a + (1 - decay) * p for a, p in zip(average, state, strict=True)]
    for a, b in zip(arrays(players.sampler), average, strict=True):
        close(a, b)
    buffers = [n for n, x in g.tensors() if not x.requires_grad]
    assert len(buffers) >= 2
    for name in buffers:
        assert np.array_equal(players.sampler.state_dict()[name], g.state_dict()[name])
        assert players.sampler.state_dict()[name].any()
