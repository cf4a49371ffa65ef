"""Lesson 06: the answers to its exercises, and what its prose says."""

import math

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import ops
from minigan.utils.lesson_bugs import cells

NAME = "06_first_gan"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when its runs in the plane are done."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="KL at the end, worst seed (nats)")


def kl(rows):
    return [row["kl"] for row in rows]


def test_the_losses_end_where_d_is_one_half(lesson):
    for run in lesson["runs"]:
        assert kl(run)[0] > 2
        loss_d, loss_g = (
            np.mean([row[name] for row in run[-100:]]) for name in ("loss_d", "loss_g")
        )
        assert loss_d == pytest.approx(2 * math.log(2), abs=0.02)
        assert loss_g == pytest.approx(math.log(2), abs=0.02)


def test_the_formula_of_the_divergence(lesson):
    """It is the mean of log q(x) / p(x) over fakes."""
    W, c = np.array([[0.5, 1.0], [-0.3, 0.8]]), np.array([0.2, 1.0])
    G = mg.nn.Dense(2, 2)
    G.load_state_dict({"weight": np.float32(W), "bias": np.float32(c)})

    def log_density(x, mean, covariance):
        d = x - mean
        distance = (d @ np.linalg.inv(covariance) * d).sum(axis=1)
        return -0.5 * (distance + math.log(np.linalg.det(2 * np.pi * covariance)))

    x = np.random.default_rng(0).normal(size=(1_000_000, 2)) @ W + c
    ratio = log_density(x, c, W.T @ W) - log_density(x, lesson["MEAN"], lesson["S"])
    assert lesson["kl_to_data"](G) == pytest.approx(ratio.mean(), rel=0.01)


def test_the_loss_from_logits_is_that_of_lesson_00():
    real, fake = (mg.tensor(np.linspace(low, 5, 11)[:, None]) for low in (-5, -2))
    by_hand = -(ops.sigmoid(real).log().mean() + (1 - ops.sigmoid(fake)).log().mean())
    loss = mg.losses.NonSaturating()
    assert loss.discriminator(real, fake).item() == pytest.approx(by_hand.item(), abs=1e-12)
    assert loss.generator(fake).item() == pytest.approx(-ops.sigmoid(fake).log().mean().item())


def test_one_step_of_adam_is_about_the_rate_for_any_gradient():
    for gradient in (0.001, 10.0):
        w = mg.tensor([0.0], requires_grad=True)
        optimizer = mg.optim.Adam([w], lr=0.01, betas=(0.0, 0.99))
        for _ in range(10):
            optimizer.step([mg.tensor([gradient])])
        assert w.item() == pytest.approx(-0.1, rel=1e-3)


def test_the_trainer_does_the_same_steps():
    """Three steps as in the lesson and three of mg.Trainer's, from the same random numbers."""
    data = mg.data.load("glyphs", samples=1000)
    config, loss = mg.Config(data=data.name, steps=10), mg.losses.NonSaturating()

    def our_step(t):
        (rows,) = t.batches.next()
        real = rows.reshape(-1, *t.data.sample_shape)
        fake = t.generator(t.random.normal((config.batch, t.config.latent_size)))
        loss_d = loss.discriminator(t.discriminator(real), t.discriminator(fake.detach()))
        t.players.optimizers["d"].step(mg.grad(loss_d, t.discriminator.parameters()))
        loss_g = loss.generator(t.discriminator(fake))
        t.players.optimizers["g"].step(mg.grad(loss_g, t.generator.parameters()))
        return {"loss_d": float(loss_d), "loss_g": float(loss_g)}

    losses = []
    for step in (our_step, mg.Trainer.step):
        trainer = mg.Trainer(config, data)
        rows = [step(trainer) for _ in range(3)]
        losses.append([[row["loss_d"], row["loss_g"]] for row in rows])
    assert abs(np.subtract(*losses)).max() < 1e-5


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_constant_rates_do_not_settle(lesson):
    runs = [lesson["train"](seed, falls=False) for seed in range(5)]
    largest = [max(kl(run)[-100:]) for run in runs]
    assert largest == pytest.approx([0.19, 0.03, 0.03, 0.05, 0.21], abs=0.05)
    assert max(max(kl(run)[-100:]) for run in lesson["runs"]) < 0.0105


def test_exercise_2_momentum_is_worse(lesson):
    ends = [kl(lesson["train"](seed, betas=(0.9, 0.99)))[-1] for seed in range(5)]
    assert ends == pytest.approx([0.18, 0.22, 0.03, 0.08, 0.08], abs=0.03)
    assert all(0.0015 < kl(run)[-1] < 0.0105 for run in lesson["runs"])


def test_exercise_3_without_detach_nothing_changes(lesson):
    (code,) = (body for _, body in cells(source(NAME)) if "def make_step(" in body)
    assert code.count(".detach()") == 1
    names = dict(lesson)
    exec(code.replace(".detach()", ""), names)
    (code,) = (body for _, body in cells(source(NAME)) if "def train(" in body)
    exec(code.split("\nruns = ")[0], names)
    assert kl(names["train"](0)) == kl(lesson["runs"][0])
