"""A training step of each player, by hand: losses, added terms, and who updates what."""

import math

import numpy as np
import pytest
from player_helpers import (
    N,
    arrays,
    bent,
    close,
    make_players,
    moved,
    numbers,
    points,
    sigmoid,
    small_models,
    softplus,
    spy,
)

from minigan import Config, Trainer, nn

__all__ = ["small_models"]
LINE = {"model": "line", "data": "ring", "samples": 60, "batch": 8}


# --------------------------------------------------------------------------------------- penalties
@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        ({"penalty": "r1"}, lambda s: 5 * s**2),
        ({"penalty": "r2", "penalty_weight": 3}, lambda s: 3 * s**2),
        ({"penalty": "wgan-gp"}, lambda s: 10 * (s - 1) ** 2),
        ({"penalty": "wgan-gp-one-sided"}, lambda s: 10 * max(0, s - 1) ** 2),
        ({"penalty": "dragan", "penalty_weight": 2}, lambda s: 2 * (s - 1) ** 2),
        ({"penalty": "r1+wgan-gp"}, lambda s: 5 * s**2 + 10 * (s - 1) ** 2),
        ({"penalty": "r1 + r2", "penalty_weight": 0.5}, lambda s: s**2),
    ],
)
@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_a_penalty_is_its_weight_times_its_mean_and_loss_d_is_without_it(options, by_hand, slope):
    players = make_players(**options)
    d = players.discriminator
    d.load_state_dict({"0.weight": np.float32([[0.6], [0.8]]) * slope, "0.bias": np.float32([0.1])})
    d_calls, real = spy(d), points()
    results = players.step([real], [])
    r, f = np.split(d_calls[0][-1], 2)
    close(numbers(results, "loss_d")[0], softplus(-r).mean() + softplus(f).mean())
    close(numbers(results, "penalty")[0], by_hand(np.float64(slope)))
    assert "penalty" not in make_players().step([real], [])


def test_what_d_steps_on_is_the_loss_and_the_penalty():
    players, real = make_players(penalty="r1+r2", penalty_weight=0.25), points()
    d, g_calls = players.discriminator, spy(players.generator)
    before = arrays(d)
    w, b = before
    players.step([real], [])
    x, y = real.numpy(), g_calls[0][-1]
    up, down = sigmoid(x @ w + b) - 1, sigmoid(y @ w + b)
    gradient = x.T @ up / N + y.T @ down / N + 2 * 0.25 * 2 * w  # of |w|^2, twice
    close(moved(d, before)[0], gradient)
    close(moved(d, before)[1], [up.mean() + down.mean()])


@pytest.mark.parametrize(("penalty", "passes"), [("r1+r2", 1), ("r1", 2), ("r2+r1+wgan-gp", 2)])
def test_r1_and_r2_together_need_no_forward_pass_of_their_own(penalty, passes):
    players = make_players(bent(), penalty=penalty)
    d_calls = spy(players.discriminator)
    players.discriminator_step(points(), points(), [])
    assert len(d_calls) == passes


@pytest.mark.parametrize(("penalty", "which"), [("r1", 0), ("r2", 1), ("dragan", 0)])
def test_each_penalty_is_taken_where_its_paper_says(penalty, which):
    players, real = make_players(penalty=penalty), points()
    d_calls = spy(players.discriminator)
    players.step([real], [])
    both, where = np.split(d_calls[0][0], 2), d_calls[1][0]
    assert np.array_equal(both[0], real.numpy())
    if penalty == "dragan":  # noise of half the data's deviation, around real samples
        assert 0.1 < (where - both[which]).std() / both[which].std() < 1
        assert abs(where.mean() - both[which].mean()) < 0.5 * abs(where.mean() - both[1].mean())
    else:
        assert np.array_equal(where, both[which])


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.usefixtures("small_models")
def test_the_weight_falls_geometrically_to_penalty_end(captured):
    options = {"penalty": "r1", "penalty_weight": 2.0, "penalty_end": 0.125, "steps": 4}
    trainer = Trainer(Config(**LINE, **options))
    trainer.captured = captured
    assert trainer.config.penalty_steps == 4
    for expected in (2, 1, 0.5, 0.25, 0.125, 0.125):  # the last two are of a run extended
        slope = float((arrays(trainer.discriminator)[0] ** 2).sum())
        close(trainer.step()["penalty"] / slope, expected)


@pytest.mark.usefixtures("small_models")
def test_two_penalties_fall_together():
    options = {"penalty": "r1+wgan-gp", "penalty_weight": 10.0, "penalty_end": 1.0, "steps": 9}
    trainer = Trainer(Config(**LINE, **options, penalty_steps=2))
    for scale in (1, 0.1**0.5, 0.1, 0.1):
        slope = math.sqrt((arrays(trainer.discriminator)[0] ** 2).sum())
        expected = 10 * slope**2 + 10 * (slope - 1) ** 2
        close(trainer.step()["penalty"], expected * scale, 1e-5)


def test_with_packing_the_penalty_is_of_packed_samples():
    players = make_players(pack=2, penalty="wgan-gp")
    w = arrays(players.discriminator)[0]
    d_calls, real = spy(players.discriminator), points()
    results = players.step([real], [])
    assert w.shape == (4, 1)
    close(numbers(results, "penalty")[0], 10 * (np.sqrt((w**2).sum()) - 1) ** 2)
    r, f = np.split(d_calls[0][0], 2)
    between = d_calls[1][0]
    assert between.shape == (N // 2, 4)
    share = (between - r) / (f - r)  # one for all that a packed sample has
    close(share, np.broadcast_to(share[:, :1], share.shape), 1e-4)
    assert len({round(float(x), 4) for x in share[:, 0]}) == N // 2


def test_each_critic_step_has_a_batch_and_fakes_of_its_own():
    players = make_players(n_critic=3)
    d_calls, g_calls = spy(players.discriminator), spy(players.generator)
    reals = [points(seed=k) for k in range(3)]
    players.step(reals, [])
    assert [len(x) for x, _ in d_calls] == [2 * N] * 3 + [N]
    assert len(g_calls) == 3
    for call, real, fake in zip(d_calls[:3], reals, g_calls, strict=True):
        assert np.array_equal(call[0], np.concatenate([real.numpy(), fake[-1]]))
    assert np.array_equal(d_calls[3][0], g_calls[2][-1])


# ---------------------------------------------------------------------- generator's own objectives
def test_feature_matching_by_hand():
    players, real = make_players(bent(), generator_loss="feature-matching"), points()
    g_calls, d = spy(players.generator), players.discriminator
    before = arrays(players.generator)
    results = players.step([real], [])
    w, b = arrays(d)[:2]  # after D's step
    z, y = g_calls[0]
    hidden = [x @ w + b for x in (real.numpy(), y)]
    means = [np.where(h > 0, h, 0.2 * h).mean(axis=0) for h in hidden]
    apart = means[1] - means[0]
    close(numbers(results, "loss_g")[0], (apart**2).sum())
    slopes = np.where(hidden[1] > 0, 1, 0.2)
    by_sample = 2 / N * (slopes * apart) @ w.T
    close(moved(players.generator, before)[0], z.T @ by_sample)
    close(moved(players.generator, before)[1], by_sample.sum(axis=0))
    assert players.levels["loss_g"] == 0


@pytest.mark.parametrize("loss", ["relativistic", "relativistic-average"])
def test_relativistic_losses_by_hand(loss):
    players, real = make_players(loss=loss), points()
    g_calls, d = spy(players.generator), players.discriminator
    before = arrays(players.generator)
    first = arrays(d)
    results = players.step([real], [])
    z, y = g_calls[0]
    logits = [[x @ w + b for x in (real.numpy(), y)] for w, b in (first, arrays(d))]
    if loss == "relativistic":
        (r, f), (later_r, later_f) = logits
        close(numbers(results, "loss_d")[0], softplus(f - r).mean())
        close(numbers(results, "loss_g")[0], softplus(later_r - later_f).mean())
        slope = -sigmoid(later_r - later_f) / N
    else:
        (r, f), (later_r, later_f) = logits
        expected = softplus(f.mean() - r).mean() + softplus(f - r.mean()).mean()
        close(numbers(results, "loss_d")[0], expected)
        r, f = later_r, later_f
        expected = softplus(r.mean() - f).mean() + softplus(r - f.mean()).mean()
        close(numbers(results, "loss_g")[0], expected)
        slope = -(sigmoid(r.mean() - f) + sigmoid(r - f.mean()).mean()) / N
    w = arrays(d)[0]
    close(moved(players.generator, before)[0], z.T @ slope @ w.T)


def test_relativistic_with_batch_norm_has_a_pass_for_each_batch():
    d = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm1d(3), nn.Dense(3, 1))
    players = make_players(d, loss="relativistic")
    d_calls, real, g_calls = spy(d), points(), spy(players.generator)
    players.step([real], [])
    assert [len(x) for x, _ in d_calls] == [N] * 4
    fake = g_calls[0][-1]
    order = (real.numpy(), fake, fake, real.numpy())
    for call, expected in zip(d_calls, order, strict=True):
        assert np.array_equal(call[0], expected)
