"""Lesson 07: the errors that it quotes, the answers to its exercises, and its formulas."""

import math

import numpy as np
import pytest
from lesson_helpers import fast_run, run_cells, source

import minigan as mg
from minigan import nn, ops
from minigan.utils.lesson import error_of

NAME = "07_five_tutorials"
pytestmark = pytest.mark.slow
gan, minimax = mg.losses.NonSaturating(), mg.losses.Minimax()


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when it has trained the programs in the plane, and D of rows."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="D of rows: change with the rows reversed")


def last(lesson, changes):
    """Return the means over the last 100 steps: D's loss, G's loss, D(real), D(fake), KL."""
    return lesson["train"](changes, 0)[0][-100:].mean(axis=0)


# ------------------------------------------------------------------------------------- the text
def test_the_errors_that_the_table_quotes():
    mg.manual_seed(0)
    G, D = nn.Dense(2, 2), nn.Dense(2, 1)
    z, real = mg.random.normal((8, 2)), mg.random.normal((8, 2), stream="data")
    optimizer = mg.optim.Adam(D.parameters())

    def losses():
        fake_logits = D(G(z))
        return gan.discriminator(D(real), fake_logits), gan.generator(fake_logits)

    def two_losses_of_one_graph():
        loss_d, loss_g = losses()
        mg.grad(loss_g, G.parameters())
        mg.grad(loss_d, D.parameters())

    def updated_in_between():
        loss_d, loss_g = losses()
        optimizer.step(mg.grad(loss_d, D.parameters()))
        mg.grad(loss_g, G.parameters())

    def outside_the_tape():
        mg.grad(gan.generator(D(G(z).detach())), G.parameters())

    images = mg.random.normal((4, 28, 28))
    assert "the output does not depend on input 0" in error_of(outside_the_tape)
    assert "is needed" in error_of(lambda: nn.Dense(784, 1)(images))
    assert error_of(two_losses_of_one_graph) == "no error"
    assert "the graph is stale" in error_of(updated_in_between)
    # What gives no error anywhere: 28 verdicts for an image, and a loss of probabilities.
    assert nn.Dense(28, 1)(images).shape == (4, 28, 1)
    assert error_of(lambda: gan.generator(ops.sigmoid(D(G(z))))) == "no error"


def test_the_best_discriminator_of_the_summed_losses():
    p, q = 0.3, 0.8
    d = np.linspace(0.001, 0.999, 9981)
    loss = -p * np.log(d) - q * (np.log(d) + np.log(1 - d))
    assert d[loss.argmin()] == pytest.approx((p + q) / (p + 2 * q), abs=2e-4)
    best = (p + q) / (p + 2 * q)
    assert math.log(best / (1 - best)) == pytest.approx(math.log(1 + p / q))
    # At p = q it is 2/3, and where p = 0 it is 1/2.
    assert d[(-np.log(d) * 2 - np.log(1 - d)).argmin()] == pytest.approx(2 / 3, abs=2e-4)


def test_two_sigmoids_bound_the_loss_and_shrink_the_gradient():
    u = np.linspace(0, 1, 1001)  # the output of D's sigmoid
    real, fake = np.logaddexp(0, -u), np.logaddexp(0, u)
    assert real.min() + fake.min() == pytest.approx(1.0064, abs=1e-4)
    equal = real + fake  # for q = p, where D cannot do better than one u for all points
    assert equal.min() == pytest.approx(2 * math.log(2))
    assert equal.argmin() == 0
    numbers = {x["what"]: x["mean"] for x in fast_run(NAME)["numbers"]}
    for s, share in ((0, 0.1888), (-3, 0.02315), (-6, 0.001235)):
        u = 1 / (1 + math.exp(-s))
        formula = (1 - 1 / (1 + math.exp(-u))) * u * (1 - u) / (1 - u)
        assert formula == pytest.approx(share, rel=1e-3)
        name = f"004: G's gradient at logit {s}, share of the right one"
        assert numbers[name] == pytest.approx(share, rel=1e-3)


def test_which_programs_reach_the_data(lesson):
    kl = {name: values[0, lesson["KL"]] for name, values in lesson["late"].items()}
    for name in ("mended", "simultaneous", "mended, constant rates"):
        assert kl[name] < 0.1, name
    assert kl["001 with retain_graph"] > 10
    assert kl["001, sign of G's loss"] > 10
    assert kl["002, no cross-entropy"] > 1
    assert lesson["late"]["002, no cross-entropy"][0, lesson["LOSS_D"]] < -300
    assert max(lesson["late"]["001, sign of G's loss"][0, :2]) < 0.01  # both losses
    assert lesson["late"]["004, two sigmoids"][0, lesson["LOSS_D"]] == pytest.approx(
        1.386, abs=0.01
    )
    assert lesson["late"]["001 with retain_graph"][0, lesson["D_REAL"]] > 0.99


def test_retain_graph_leaves_a_perfect_start(lesson):
    G, D = lesson["plane_nets"]()
    G.load_state_dict({"weight": lesson["A"].numpy(), "bias": lesson["MEAN"].numpy()})
    rows, _ = lesson["train"]({"order": "summed", "start": (1, 1)}, 0, 100, (G, D))
    assert rows[-1, lesson["KL"]] > 5


def test_the_images_say_what_the_text_says():
    numbers = {x["what"]: x["mean"] for x in fast_run(NAME)["numbers"]}
    images, rows = (
        {name: numbers[f"distance of {what}, {name}"] for name in ("D of rows", "digits, mended")}
        for what in ("images", "rows")
    )
    assert images["D of rows"] > 3 * images["digits, mended"]
    assert rows["D of rows"] < 1.5 * rows["digits, mended"]
    assert numbers["D's loss, D of rows"] == pytest.approx(1.386, abs=0.03)
    assert numbers["KL, mended, constant rates, after 002's test loop"] > 1


# ------------------------------------------------------------------------- autograd's example
def test_with_the_sign_of_the_logit_changed_its_objective_is_the_lessons():
    s_real, s_fake = mg.random.normal((5,)), mg.random.normal((5,))  # its D is high on fakes
    objective = ops.softplus(-s_fake).mean() - ops.softplus(-s_real).mean()  # log sigma: D descends
    real, fake = -s_real, -s_fake
    assert float(objective) == pytest.approx(
        float(ops.softplus(fake).mean() - ops.softplus(real).mean())
    )
    d = np.linspace(0.001, 0.999, 999)
    s = np.log(d / (1 - d))
    p, q = 0.8, 0.3
    loss = q * np.logaddexp(0, s) - p * np.logaddexp(0, s)
    np.testing.assert_allclose(loss, (p - q) * np.log(1 - d))
    assert loss.argmin() == 998  # the edge of the interval: no minimum where p > q


def test_its_d_calls_fakes_real_and_only_the_saturating_loss_has_a_gradient(lesson):
    changes = {"loss_d": lambda r, f: ops.softplus(f).mean() - ops.softplus(r).mean()}
    rows, _ = lesson["train"](lesson["IMAGES"] | changes, 0, 200)
    assert rows[-100:, lesson["LOSS_D"]].mean() < -100
    assert rows[-100:, lesson["D_FAKE"]].mean() > 0.99
    s = mg.tensor([20.0], requires_grad=True)
    ours, autograds = (mg.grad(loss.generator(s), [s])[0].numpy() for loss in (gan, minimax))
    assert abs(ours) < 1e-8
    assert autograds == pytest.approx(-1)


# ------------------------------------------------------------------------------------ exercises
def test_exercise_1_the_order_of_000_is_simultaneous(lesson, monkeypatch):
    def generator_first(p, G, D, opt_g, opt_d, real):
        fake = G(p["latent"](p["size"]))
        loss_g = p["loss_g"](D(fake))
        opt_g.step(mg.grad(loss_g, G.parameters()))
        r, f = D(real), D(fake.detach())
        loss_d = p["loss_d"](r, f)
        opt_d.step(mg.grad(loss_d, D.parameters()))
        return loss_d, loss_g, ops.sigmoid(r).mean(), ops.sigmoid(f).mean()

    monkeypatch.setitem(lesson, "update", generator_first)
    rows, _ = lesson["train"]({}, 0)
    simultaneous, _ = lesson["runs"]["simultaneous"][0]
    np.testing.assert_array_equal(rows, simultaneous)
    assert (rows != lesson["runs"]["mended"][0][0]).any()


@pytest.mark.parametrize("sums_d", [True, False])
def test_exercise_2_the_half_that_was_fatal(lesson, monkeypatch, sums_d):
    def half(p, G, D, opt_g, opt_d, real):
        r, f = D(real), D(G(p["latent"](p["size"])))
        loss_d, loss_g = p["loss_d"](r, f), p["loss_g"](f)
        total = loss_d + loss_g
        for_d, for_g = (total, loss_g) if sums_d else (loss_d, total)
        gradients = mg.grad(for_d, D.parameters()), mg.grad(for_g, G.parameters())
        opt_d.step(gradients[0])
        opt_g.step(gradients[1])
        return loss_d, loss_g, ops.sigmoid(r).mean(), ops.sigmoid(f).mean()

    monkeypatch.setitem(lesson, "update", half)
    _, _, real, fake, kl = last(lesson, {})
    if sums_d:
        assert (real, fake) == pytest.approx((2 / 3, 2 / 3), abs=0.01)
        assert kl < 0.05
    else:
        assert kl == pytest.approx(0.87, abs=0.1)


def test_exercise_3_fakes_counted_twice(lesson):
    def loss_d(r, f):
        return ops.softplus(-r).mean() + 2 * ops.softplus(f).mean()

    loss, _, real, fake, kl = last(lesson, {"loss_d": loss_d})
    assert math.log(3) + 2 * math.log(1.5) == pytest.approx(1.910, abs=1e-3)
    assert loss == pytest.approx(1.910, abs=0.02)
    assert (real, fake) == pytest.approx((1 / 3, 1 / 3), abs=0.01)
    assert kl == pytest.approx(0.007, abs=0.005)
