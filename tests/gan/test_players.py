"""A turn of each player, by hand: losses, what is added to them, and who steps on what."""

import math

import numpy as np
import pytest
from player_helpers import (
    N,
    arrays,
    bent,
    close,
    moved,
    numbers,
    players,
    points,
    sigmoid,
    small_models,
    softplus,
    spy,
)

from minigan import Config, Trainer, nn

__all__ = ["small_models"]
LINE = {"model": "line", "data": "ring", "size": 60, "batch": 8}


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
    playing = players(**options)
    d = playing.discriminator
    d.load_state_dict({"0.weight": np.float32([[0.6], [0.8]]) * slope, "0.bias": np.float32([0.1])})
    judged, real = spy(d), points()
    found = playing.play([real], [])
    r, f = np.split(judged[0][-1], 2)
    close(numbers(found, "loss_d")[0], softplus(-r).mean() + softplus(f).mean())
    close(numbers(found, "penalty")[0], by_hand(np.float64(slope)))
    assert "penalty" not in players().play([real], [])


def test_what_d_steps_on_is_the_loss_and_the_penalty():
    playing, real = players(penalty="r1+r2", penalty_weight=0.25), points()
    d, made = playing.discriminator, spy(playing.generator)
    before = arrays(d)
    w, b = before
    playing.play([real], [])
    x, y = real.numpy(), made[0][-1]
    up, down = sigmoid(x @ w + b) - 1, sigmoid(y @ w + b)
    gradient = x.T @ up / N + y.T @ down / N + 2 * 0.25 * 2 * w  # of |w|^2, twice
    close(moved(d, before)[0], gradient)
    close(moved(d, before)[1], [up.mean() + down.mean()])


@pytest.mark.parametrize(("penalty", "which"), [("r1", 0), ("r2", 1), ("dragan", 0)])
def test_each_penalty_looks_where_its_paper_says(penalty, which):
    playing, real = players(penalty=penalty), points()
    judged = spy(playing.discriminator)
    playing.play([real], [])
    both, where = np.split(judged[0][0], 2), judged[1][0]
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
    for wanted in (2, 1, 0.5, 0.25, 0.125, 0.125):  # the last two are of a run extended
        slope = float((arrays(trainer.discriminator)[0] ** 2).sum())
        close(trainer.step()["penalty"] / slope, wanted)


@pytest.mark.usefixtures("small_models")
def test_two_penalties_fall_together():
    options = {"penalty": "r1+wgan-gp", "penalty_weight": 10.0, "penalty_end": 1.0, "steps": 9}
    trainer = Trainer(Config(**LINE, **options, penalty_steps=2))
    for scale in (1, 0.1**0.5, 0.1, 0.1):
        slope = math.sqrt((arrays(trainer.discriminator)[0] ** 2).sum())
        wanted = 10 * slope**2 + 10 * (slope - 1) ** 2
        close(trainer.step()["penalty"], wanted * scale, 1e-5)


def test_under_packing_the_penalty_sees_packed_samples():
    playing = players(pack=2, penalty="wgan-gp")
    w = arrays(playing.discriminator)[0]
    judged, real = spy(playing.discriminator), points()
    found = playing.play([real], [])
    assert w.shape == (4, 1)
    close(numbers(found, "penalty")[0], 10 * (np.sqrt((w**2).sum()) - 1) ** 2)
    r, f = np.split(judged[0][0], 2)
    between = judged[1][0]
    assert between.shape == (N // 2, 4)
    share = (between - r) / (f - r)  # one for all that a packed sample has
    close(share, np.broadcast_to(share[:, :1], share.shape), 1e-4)
    assert len({round(float(x), 4) for x in share[:, 0]}) == N // 2


def test_each_critic_turn_has_a_batch_and_fakes_of_its_own():
    playing = players(n_critic=3)
    judged, made = spy(playing.discriminator), spy(playing.generator)
    reals = [points(seed=k) for k in range(3)]
    playing.play(reals, [])
    assert [len(x) for x, _ in judged] == [2 * N] * 3 + [N]
    assert len(made) == 3
    for call, real, fake in zip(judged[:3], reals, made, strict=True):
        assert np.array_equal(call[0], np.concatenate([real.numpy(), fake[-1]]))
    assert np.array_equal(judged[3][0], made[2][-1])


# ---------------------------------------------------------------------- generator's own objectives
def test_feature_matching_by_hand():
    playing, real = players(bent(), generator_loss="feature-matching"), points()
    made, d = spy(playing.generator), playing.discriminator
    before = arrays(playing.generator)
    found = playing.play([real], [])
    w, b = arrays(d)[:2]  # after D's turn
    z, y = made[0]
    hidden = [x @ w + b for x in (real.numpy(), y)]
    means = [np.where(h > 0, h, 0.2 * h).mean(axis=0) for h in hidden]
    apart = means[1] - means[0]
    close(numbers(found, "loss_g")[0], (apart**2).sum())
    slopes = np.where(hidden[1] > 0, 1, 0.2)
    by_sample = 2 / N * (slopes * apart) @ w.T
    close(moved(playing.generator, before)[0], z.T @ by_sample)
    close(moved(playing.generator, before)[1], by_sample.sum(axis=0))
    assert playing.levels["loss_g"] == 0


@pytest.mark.parametrize("loss", ["relativistic", "relativistic-average"])
def test_relativistic_losses_by_hand(loss):
    playing, real = players(loss=loss), points()
    made, d = spy(playing.generator), playing.discriminator
    before = arrays(playing.generator)
    first = arrays(d)
    found = playing.play([real], [])
    z, y = made[0]
    logits = [[x @ w + b for x in (real.numpy(), y)] for w, b in (first, arrays(d))]
    if loss == "relativistic":
        (r, f), (later_r, later_f) = logits
        close(numbers(found, "loss_d")[0], softplus(f - r).mean())
        close(numbers(found, "loss_g")[0], softplus(later_r - later_f).mean())
        slope = -sigmoid(later_r - later_f) / N
    else:
        (r, f), (later_r, later_f) = logits
        wanted = softplus(f.mean() - r).mean() + softplus(f - r.mean()).mean()
        close(numbers(found, "loss_d")[0], wanted)
        r, f = later_r, later_f
        wanted = softplus(r.mean() - f).mean() + softplus(r - f.mean()).mean()
        close(numbers(found, "loss_g")[0], wanted)
        slope = -(sigmoid(r.mean() - f) + sigmoid(r - f.mean()).mean()) / N
    w = arrays(d)[0]
    close(moved(playing.generator, before)[0], z.T @ slope @ w.T)


def test_relativistic_with_batch_norm_judges_each_batch_alone():
    d = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm1d(3), nn.Dense(3, 1))
    playing = players(d, loss="relativistic")
    judged, real, made = spy(d), points(), spy(playing.generator)
    playing.play([real], [])
    assert [len(x) for x, _ in judged] == [N] * 4
    fake = made[0][-1]
    order = (real.numpy(), fake, fake, real.numpy())
    for call, wanted in zip(judged, order, strict=True):
        assert np.array_equal(call[0], wanted)
