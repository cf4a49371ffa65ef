"""Lesson 10: the answers to its exercises, and the numbers that its text quotes."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from lesson_helpers import LESSONS, run_cells, source

import minigan as mg
from minigan import nn, ops
from minigan.gan.models import MODELS
from minigan.utils.lesson_bugs import Bug, plant

NAME = "10_zoo_of_losses"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the three Gaussians have been trained."""
    models = dict(MODELS)
    yield run_cells(
        source(NAME), NAME, tmp_path_factory.mktemp("lesson"), until="JS, nonsaturating"
    )
    MODELS.clear()
    MODELS.update(models)


@pytest.fixture(scope="module")
def full():
    """Return the numbers of the full run, by name."""
    numbers = json.loads((LESSONS / "results" / f"{NAME}.json").read_text())["numbers"]
    return {number["what"]: number for number in numbers}


# ---------------------------------------------------------------------------------- the text
def test_the_five_cells_have_the_divergences_that_are_known(lesson):
    exact = {name: row[2] for name, row in lesson["ESTIMATES"].items()}
    assert exact["JS"] == pytest.approx(0.234050, abs=1e-6)
    assert exact["JS of pairs"] == pytest.approx(0.376889913, abs=1e-9)
    assert exact["TV"] == pytest.approx(0.6)
    assert exact["W1"] == pytest.approx(1.88)


def test_a_trained_table_is_the_optimal_discriminator(lesson):
    for name, row in lesson["ESTIMATES"].items():
        assert lesson["tables"][name] == pytest.approx(row[3], abs=0.02), name


def test_minimax_descends_twice_the_js(lesson):
    x = np.linspace(-14, 26, 40_001)

    def js(d):
        p, q = (np.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) + 1e-300 for m in (0, d))
        return lesson["js"](p, q) * (x[1] - x[0])

    assert js(8) == pytest.approx(0.693054, abs=1e-6)
    for i in (7, 15, 31):  # d = 1, 2, 4
        d = lesson["DISTANCES"][i]
        slope = (js(d + 1e-4) - js(d - 1e-4)) / 2e-4
        assert lesson["curves"]["minimax"][i] == pytest.approx(2 * slope, rel=1e-5)


def test_the_gradient_near_0_has_a_corner_for_hinge_and_wasserstein_alone(lesson):
    start = {name: curve[0] for name, curve in lesson["curves"].items()}
    for name, value in start.items():
        assert (value > 0.7) == (name in {"hinge", "Wasserstein"}), name


def test_the_three_gaussians_start_at_0_64_and_a_fit_ends_near_15_by_8n(lesson):
    js, on_grid, target = lesson["js"], lesson["on_grid"], lesson["TARGET"]
    assert target.sum() == pytest.approx(1, abs=1e-4)
    start = lesson["ThreeGaussians"]().dense.weight.numpy()
    assert js(target, on_grid(start)) == pytest.approx(0.64, abs=0.005)
    fits, n = [], 10_000
    for seed in range(5):
        z = 0.7 * np.random.default_rng(seed).normal(size=(3, n // 3, 2))
        roots = np.stack([np.linalg.cholesky(np.cov(x.T)).T for x in z], axis=1)
        fit = np.concatenate([lesson["THREE"].modes + z.mean(axis=1), *roots])
        fits.append(js(target, on_grid(fit)))
    assert 0.5 < np.mean(fits) / (15 / (8 * n)) < 1.2


def test_with_clipped_weights_the_gaussians_shrink_to_lines(lesson):
    row = {**lesson["CALM"], **lesson["LOSSES"]["WGAN, clipped"]}
    rows = lesson["train"](lesson["THREE"], 0, **row).generator.dense.weight.numpy()
    smallest = [np.linalg.svd(rows[3 + i :: 3])[1].min() for i in range(3)]
    assert np.mean(smallest) < 0.3  # 0.7 in the data


def test_the_full_run_says_what_the_text_says(full):
    def shown(what, digits=1):
        return round(full[what]["mean"], digits), round(full[what]["se"], digits)

    js = {name: full[f"JS: {name}"]["mean"] for name in ("nonsaturating", "hinge", "WGAN-GP")}
    assert [round(value, 4) for value in js.values()] == [0.0009, 0.0031, 0.0046]
    assert round(full["JS: WGAN-GP, 5 D steps"]["mean"], 4) == 0.0010
    others = [n["mean"] for what, n in full.items() if what.startswith("JS: ") and "cl" not in what]
    assert max(others) < 0.005
    modes = {what[12:]: shown(what) for what in full if what.startswith("modes of 8: ")}
    assert modes["nonsaturating"] == (1.2, 0.4)
    assert modes["WGAN, clipped"] == (0.4, 0.2)
    assert modes["leastsquares"] == (5.0, 1.5)
    assert modes["WGAN-GP"] == (1.4, 0.9)
    assert modes["WGAN-GP, 5 D steps"] == (7.6, 0.4)
    assert modes["minibatch discrimination"] == (7.8, 0.2)
    assert modes["labels"] == (7.6, 0.2)
    assert modes["minibatch stddev"] == (5.8, 1.3)
    assert modes["instance noise"] == (4.0, 1.6)
    assert modes["packing"] == (3.2, 1.3)
    assert modes["weight decay"] == (3.0, 1.4)
    assert modes["label smoothing"] == (2.0, 0.6)
    for name in ("beta1 = 0", "TTUR", "WGAN, clipped, beta1 = 0"):
        assert modes[name] == (8, 0)
    assert shown("high quality: beta1 = 0", 2)[0] == 0.79
    assert shown("high quality: TTUR", 2)[0] == 0.42


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_only_w1_knows_how_far_apart_the_cells_are(lesson, tmp_path):
    change = Bug("", "clip_weights([w], 1.0)", "clip_weights([w], 2.0)", "")
    until = "five estimates, the largest error"
    numbers = run_cells(plant(source(NAME), change), NAME, tmp_path, until)["lesson"].numbers
    for name, row in lesson["ESTIMATES"].items():
        exact = 3.76 if name == "W1" else row[2]
        assert numbers[f"a discriminator's estimate: {name}"]["mean"] == pytest.approx(
            exact, abs=1e-3
        )


def test_minimax_and_non_saturating_add_up_to_d(lesson):
    total = np.add(lesson["curves"]["minimax"], lesson["curves"]["non-saturating"])
    assert total == pytest.approx(lesson["DISTANCES"], rel=1e-9)


def test_exercise_2_noise_layers_find_no_modes(lesson, monkeypatch):
    def noisy(*shapes):
        G, D = lesson["small"].build(*shapes)
        noise = nn.GaussianNoise
        return nn.Sequential(*G[:2], noise(0.3), *G[2:4], noise(0.3), G[4]), D

    monkeypatch.setitem(MODELS, "noisy", SimpleNamespace(latent_size=2, build=noisy))
    monkeypatch.setattr(lesson["lesson"], "fast", False)
    data, modes = lesson["EIGHT"], []
    for seed in range(5):
        row = {"model": "noisy", "beta1": 0.9, "batch": 128, "steps": 1000, "lr": 4e-3}
        samples = lesson["train"](data, seed, **row).sample(2500)
        found = mg.metrics.mixture_quality(samples, data.modes, data.sigma)
        modes.append(found.modes)
        assert found.high_quality < 0.02
    assert max(modes) <= 2


def test_exercise_3_mmd_needs_no_discriminator(lesson):
    def kernel(a, b):
        squares = (a * a).sum(axis=1, keepdims=True) + (b * b).sum(axis=1) - a @ b.T * 2
        return sum(ops.exp(squares * (-0.5 / width**2)) for width in (0.5, 1.0, 2.0))

    points, ends = mg.tensor(lesson["THREE"].values), []
    for seed in range(3):
        mg.manual_seed(seed)
        G = lesson["ThreeGaussians"]()
        optimizer = mg.optim.Adam(G.parameters(), betas=(0.0, 0.99))

        @mg.capture
        def step(G=G, optimizer=optimizer):
            i = (mg.random.uniform((128, 1), stream="data") * len(points)).to("int64")
            x, y = ops.gather(points, i), G(mg.random.normal((128, 3)))
            # Without the term in x alone, which is a constant.
            loss = kernel(y, y).sum() / (128 * 127) - kernel(x, y).mean() * 2
            optimizer.step(mg.grad(loss, G.parameters()))

        for i in range(2000):
            optimizer.lr = 8e-3 * (1 - i / 2000)
            step()
        rows = G.dense.weight.numpy()
        ends.append(lesson["js"](lesson["TARGET"], lesson["on_grid"](rows)))
    assert np.mean(ends) == pytest.approx(0.0002, abs=0.0001)
