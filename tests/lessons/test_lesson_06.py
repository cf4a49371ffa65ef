"""Lesson 06: the answers to its exercises."""

import io
import math

import numpy as np
import pytest
from lesson_helpers import fast_run, run_cells, source
from PIL import Image

import minigan as mg

NAME = "06_first_gan"
pytestmark = pytest.mark.slow


def test_its_film_moves():
    film = Image.open(io.BytesIO(fast_run(NAME)["files"][f"{NAME}.gif"]))
    first = np.asarray(film.convert("RGB"))
    film.seek(film.n_frames - 1)
    assert film.n_frames > 1
    assert (np.asarray(film.convert("RGB")) != first).any()


# ---------------------------------------------------------------------------------- exercises
@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the trained discriminator has been evaluated."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="correlation of D's logit with log p/q")


def test_exercise_1_a_constant_rate_does_not_settle(lesson):
    constant, falling = (
        max(row["kl"] for row in rows[-100:])
        for rows in (lesson["train"](0, decay=False), lesson["runs"][0])
    )
    assert constant > 3 * falling


def test_exercise_2_no_logit_is_so_low_here_and_adam_ignores_scale(lesson):
    for base in (mg.losses.Minimax, mg.losses.NonSaturating):
        lowest = []

        class Recorded(base):
            def generator(self, fake_logits, real_logits=None, lowest=lowest):
                lowest.append(fake_logits.numpy().min())
                return super().generator(fake_logits)

        rows = lesson["train"](0, gan_loss=Recorded())
        assert rows[-1]["kl"] < 0.05
        assert np.min(lowest) > -4
    s = mg.tensor([-8.0], dtype="float64", requires_grad=True)
    slopes = [
        mg.grad(gan_loss().generator(s), [s])[0]
        for gan_loss in (mg.losses.Minimax, mg.losses.NonSaturating)
    ]
    small, large = map(float, slopes)
    assert small == pytest.approx(-1 / (1 + math.exp(8)))  # -0.0003: the loss is saturated
    assert large == pytest.approx(-1, abs=1e-3)
    steps = []
    for slope in slopes:  # Adam's first step does not depend on the gradient's size
        w = mg.tensor([0.0], dtype="float64", requires_grad=True)
        mg.optim.Adam([w], lr=0.01).step([slope])
        steps.append(w.item())
    assert steps == pytest.approx([0.01, 0.01], rel=1e-4)


def test_exercise_3_the_best_loss_gives_the_divergence(lesson):
    exact_logit, logit = lesson["exact_logit"], lesson["logit"].astype(np.float64)

    def loss(logit):
        return np.logaddexp(0, -logit[:1000]).mean() + np.logaddexp(0, logit[1000:]).mean()

    def log_twice_share(t):  # log(2 p / (p + q)) where t = log p/q
        return math.log(2) - np.logaddexp(0, -t)

    js = (
        log_twice_share(exact_logit[:1000]).mean() + log_twice_share(-exact_logit[1000:]).mean()
    ) / 2
    assert loss(exact_logit) == pytest.approx(2 * math.log(2) - 2 * js)
    assert 0.01 < js < 0.2
    assert loss(logit) == pytest.approx(loss(exact_logit), abs=0.02)
