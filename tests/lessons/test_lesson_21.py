"""Lesson 21: the answers to its exercises, and what its text says about the library."""

from functools import partial

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan.metrics import roc_auc, train_classifier

NAME = "21_adversarial_examples"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the discriminators were evaded."""
    out = tmp_path_factory.mktemp("lesson")
    until = "AUC of D, attack that evades it, largest"
    return run_cells(source(NAME), NAME, out, until=until)


def test_its_pgd_is_the_librarys(lesson):
    x, y = mg.tensor(lesson["clean"][:50]), mg.tensor(lesson["truth"][:50])
    own = lesson["pgd"](lesson["plain"], x, y, 0.1).numpy()
    library = mg.adversarial.pgd(lesson["plain"], x, y, 0.1, random_start=False).numpy()
    # The lesson's loss is a mean, so gradients differ by rounding: a tiny one may change its sign.
    assert np.mean(abs(own - library) > 1e-6) < 1e-3
    assert abs(own - x.numpy()).max() <= 0.2 + 1e-6


def test_chosen_signs_raise_the_loss_many_times_more_than_random_ones(lesson):
    """By sum |g| against the root of sum g^2: at most 28 times; similar slopes are far away."""
    x, y = mg.tensor(lesson["clean"]), mg.tensor(lesson["truth"])
    x.requires_grad = True
    losses = mg.adversarial.cross_entropy_per_sample(lesson["plain"](x), y)
    g = mg.grad(losses.sum(), [x])[0].numpy().reshape(len(x), -1).astype(float)
    ratio = abs(g).sum(axis=1) / np.sqrt((g**2).sum(axis=1))
    assert 12 < ratio.mean() < 28


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_training_with_noise_does_not_help(lesson):
    perturb = partial(lesson["noise"], epsilon=0.2)
    steps, n = lesson["STEPS"], lesson["N"]
    images, labels = lesson["images"][n:], lesson["labels"][n:]
    net = train_classifier(images, labels, 10, steps, perturb=perturb)
    left = lesson["accuracy"](net, lesson["attacked"](lesson["pgd"], net, 0.2))
    assert left < 0.4
    assert left < lesson["accuracy"](lesson["robust"], lesson["of_robust"]["PGD", 0.2]) - 0.3


def test_exercise_2_attacks_transfer_to_another_net(lesson):
    n = lesson["N"]
    other = train_classifier(
        lesson["images"][n:], lesson["labels"][n:], 10, lesson["STEPS"], seed=1
    )
    transferred = lesson["accuracy"](other, lesson["changed"]["plain"]["PGD", 0.2])
    own = lesson["accuracy"](lesson["plain"], lesson["changed"]["plain"]["PGD", 0.2])
    assert own + 0.05 < transferred < lesson["accuracy"](other, lesson["clean"]) - 0.2


def test_exercise_3_grey_pixels_are_evaded_by_changing_grey_pixels_alone(lesson):
    clean, truth, plain = lesson["clean"], lesson["truth"], lesson["plain"]
    is_grey = mg.tensor(abs(clean) < 0.9)

    def only_grey(moved):
        return plain(mg.where(is_grey, moved, mg.tensor(clean)))

    moved = mg.adversarial.pgd(only_grey, mg.tensor(clean), mg.tensor(truth), 0.2).numpy()
    moved = np.where(abs(clean) < 0.9, moved, clean)
    assert roc_auc(lesson["grey"](clean), lesson["grey"](moved)) <= 0.5
    assert lesson["accuracy"](plain, moved) > 0.6
