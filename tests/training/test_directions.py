"""Directions of latents, traversals and truncation, as functions and by `minigan sample`."""

import math

import numpy as np
import pytest
from export_helpers import make_sampler
from PIL import Image
from run_helpers import cli, files, refused, train

import minigan as mg
from minigan import nn
from minigan.engine import random
from minigan.engine.latents import LATENTS
from minigan.gan.conditional import ConditionalGenerator
from minigan.training.directions import first_weight, move, sefa, truncate

WORDS = ["--batch", 4, "--steps", 2, "--device", "reference", "--sample-every", 1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs on images of three classes, on images with uniform latents, and on points."""
    root = tmp_path_factory.mktemp("directions")
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    np.savez(root / "d.npz", images=rng.random((30, 1, 5, 6), np.float32), labels=labels)
    images = ["--data", root / "d.npz", "--value-range", "0,1", *WORDS]
    train(root / "classes", *images, "--condition", "concat", "--latent-size", 7)
    train(root / "uniform", *images, "--latent", "uniform", "--latent-size", 3)
    train(root / "points", "--data", "ring", "--samples", 100, *WORDS)
    return root


@pytest.fixture
def weight(rng):
    return rng.normal(size=(6, 20)) * np.array([1, 5, 1, 1, 2, 1])[:, None]


# ------------------------------------------------------------------------------------- directions
def test_directions_maximize_the_change_of_the_first_layer(weight, rng):
    found = sefa(weight, 6)
    np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-12)
    gains = np.linalg.norm(found @ weight, axis=1)
    assert (np.diff(gains) < 0).all()
    others = rng.normal(size=(1000, 6))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert np.linalg.norm(others @ weight, axis=1).max() < gains[0]
    rest = others - (others @ found[0])[:, None] * found[0]  # perpendicular to the first
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    assert np.linalg.norm(rest @ weight, axis=1).max() < gains[1] * (1 + 1e-12)
    assert (found[np.arange(6), np.abs(found).argmax(axis=1)] > 0).all()
    assert np.array_equal(sefa(weight, 2), found[:2])


def test_they_are_the_principal_components_of_the_first_layers_output(weight, rng):
    z = rng.normal(size=(200_000, 6))
    values, vectors = np.linalg.eigh(np.cov((z @ weight).T))
    first = vectors[:, values.argmax()]
    image = sefa(weight, 1)[0] @ weight
    assert abs(first @ image) / np.linalg.norm(image) > 0.9999


def test_the_first_weight_is_that_of_the_latent(rng):
    dense = nn.Dense(5, 4)
    w = dense.weight.numpy()
    assert np.array_equal(first_weight(nn.Sequential(nn.Sequential(dense), nn.Tanh()), 5), w)
    conditional = ConditionalGenerator(nn.Sequential(dense, nn.Tanh()), 2)
    assert np.array_equal(first_weight(conditional, 3), w[:3])  # not of the label's embedding
    with pytest.raises(ValueError, match=r"first layer of the generator is Tanh; nn\.Dense is"):
        first_weight(nn.Sequential(nn.Tanh(), dense), 5)


@pytest.mark.parametrize(
    ("model", "condition"),
    [("mlp", "none"), ("dcgan", "projection"), ("resnet", "concat"), ("toy", "none")],
)
def test_every_kind_of_model_has_directions(model, condition):
    sampler = make_sampler(model, condition)
    k = min(3, sampler.latent_size)
    assert sampler.directions(k).shape == (k, sampler.latent_size)
    with pytest.raises(ValueError, match=f"k = {sampler.latent_size + 1}; this generator has 1 to"):
        sampler.directions(sampler.latent_size + 1)


# ------------------------------------------------------------------------------------- traversals
def test_a_move_replaces_a_component_and_keeps_the_rest(rng):
    z, direction = rng.normal(size=(4, 5)), rng.normal(size=5)
    direction /= np.linalg.norm(direction)
    moved = move(z, direction, np.array([-2.0, 0.5]))
    np.testing.assert_allclose(moved @ direction, [[-2.0, 0.5]] * 4, atol=1e-12)
    change = moved - z[:, None]
    np.testing.assert_allclose(change - (change @ direction)[..., None] * direction, 0, atol=1e-12)


def test_traverse_has_the_same_latents_and_labels_for_each_direction(runs):
    run = mg.load_run(runs / "classes")
    strips = run.traverse(np.eye(7)[[2, 4]] * 3, n=3, frames=5, seed=1, labels=[2, 0, 2])
    assert strips.shape == (2, 3, 5, 1, 5, 6)
    with random.use_generator(random.Generator(1)):
        latents = run.sampler.players.latent(3, "samples").numpy()
    for row, axis in enumerate((2, 4)):
        for i, position in enumerate((-2, -1, 0, 1, 2)):
            z = latents.copy()
            z[:, axis] = position
            z = mg.tensor(z, device="reference")
            expected = run.sampler.generate(z, np.array([2, 0, 2]))
            np.testing.assert_allclose(strips[row, :, i], expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(run.traverse(frames=2), run.traverse(run.directions(5), frames=2))


def test_uniform_latents_go_to_the_ends_of_their_range(runs):
    run = mg.load_run(runs / "uniform")
    strip = run.traverse(np.eye(3)[:1], frames=2, seed=3)[0, 0]
    with random.use_generator(random.Generator(3)):
        z = run.sampler.players.latent(1, "samples").numpy()
    z[:, 0] = 1
    np.testing.assert_allclose(
        strip[1], run.sampler.generate(mg.tensor(z, device="reference"))[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("latent", LATENTS)
def test_every_distribution_of_latents_is_traversed_or_refused(latent):
    sampler = make_sampler("toy", latent=latent, latent_size=3)
    if latent != "decaying":
        assert np.isfinite(sampler.traverse(sampler.directions(2), 2)).all()
        return
    for call in (sampler.directions, lambda: sampler.traverse(np.eye(3))):
        with pytest.raises(ValueError, match=r"a direction of decaying latents, .* has no unit"):
            call()


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        (np.eye(7)[0], r"of shape \(7,\); \(k, 7\) is needed"),
        (np.zeros((0, 7)), r"of shape \(0, 7\)"),
        (
            np.array([[1.0] * 7, [0.0] * 7, [np.nan] * 7]),
            "directions 1, 2 have a norm that is 0 or not finite",
        ),
    ],
)
def test_directions_that_are_none(runs, directions, message):
    run = mg.load_run(runs / "classes")
    with pytest.raises(ValueError, match=message):
        run.traverse(directions)
    with pytest.raises(ValueError, match="frames = 1: a traversal has at least its two ends"):
        run.traverse(frames=1)


# ------------------------------------------------------------------------------------- truncation
def test_truncated_latents_are_those_of_the_truncated_normal(rng):
    z = rng.standard_normal((500, 100)).astype("f4")
    with random.use_generator(random.Generator(0)):
        cut = truncate(z, 0.7)
    inside = np.abs(z) <= 0.7
    assert np.array_equal(cut[inside], z[inside])  # what is inside stays
    assert (cut[~inside] != z[~inside]).all()
    assert np.abs(cut).max() <= 0.7
    density = np.exp(-(0.7**2) / 2) / np.sqrt(2 * np.pi)
    variance = 1 - 2 * 0.7 * density / math.erf(0.7 / np.sqrt(2))  # of N(0, 1) in [-0.7, 0.7]
    for values in (cut, cut[~inside]):
        assert values.var() == pytest.approx(variance, abs=0.002)
    assert np.array_equal(truncate(z, 10.0), z)
    for limit in (0.0, -1.0, np.nan, 0.009):
        with pytest.raises(ValueError, match=r"a limit of at least 0\.01 is needed"):
            truncate(z, limit)


def test_truncated_samples_depend_on_the_seed_and_are_less_diverse(runs):
    run = mg.load_run(runs / "classes")
    samples = run.sample(200, 3, labels=1, truncation=0.3)
    assert np.array_equal(samples, run.sample(200, 3, labels=1, truncation=0.3))
    plain = run.sample(200, 3, labels=1)
    assert samples.std(axis=0).mean() < 0.5 * plain.std(axis=0).mean()
    assert np.array_equal(plain, run.sample(200, 3, labels=1, truncation=20.0))
    other = mg.load_run(runs / "uniform")
    with pytest.raises(ValueError, match="latent = 'uniform', and only normal latents are trunc"):
        other.sample(2, truncation=0.5)


# -------------------------------------------------------------------------------- the command line
def test_a_traversal_is_a_picture_with_a_row_for_each_direction(runs):
    result = cli("sample", runs / "classes", "--traverse", "--n", 3, "--label", "2")
    stem = runs / "classes" / "traverse_step_000002_seed_0_n_3_label_2"
    assert result.out == f"{stem}.png\n{stem}.gif\n", result
    run = mg.load_run(runs / "classes")
    strips = run.traverse(run.directions(3), frames=30, labels=2)[:, 0]
    picture, scale = Image.open(f"{stem}.png"), 12
    height = picture.size[1]
    assert picture.size[0] == scale * (10 * 7 + 1)
    for row in range(3):  # the first pixel of each row, below its caption
        top = height - scale * (3 - row) * 6 - (2 - row) * ((height - scale * 19) // 3)
        pixel = picture.getpixel((scale * (1 + 9 * 7), top))
        assert pixel == np.rint((strips[row, -1, 0, 0, 0] + 1) * 127.5), row
    with Image.open(f"{stem}.gif") as gif:
        assert gif.n_frames > 2


def test_arrays_and_points(runs, tmp_path):
    out = tmp_path / "t.npz"
    words = ["--traverse", "--frames", 4, "--seed", 5, "--out", out]
    assert cli("sample", runs / "classes", *words).out == f"{out}\n"
    with np.load(out) as arrays:
        run = mg.load_run(runs / "classes")
        expected = run.traverse(frames=4, seed=5, labels=0)[:, 0]
        assert np.array_equal(arrays["samples"], expected)
        assert arrays["labels"].tolist() == [0] * 5
    assert cli("sample", runs / "points", "--traverse", "--frames", 3).status == 0
    assert (runs / "points" / "traverse_3_step_000002_seed_0_n_2.png").exists()


def test_truncated_samples_are_written(runs, tmp_path):
    out = tmp_path / "s.npz"
    assert cli("sample", runs / "points", "--n", 6, "--truncation", 0.5, "--out", out).status == 0
    run = mg.load_run(runs / "points")
    with np.load(out) as arrays:
        assert np.array_equal(arrays["samples"], run.sample(6, truncation=0.5))
    result = cli("sample", runs / "points", "--truncation", 0.5)
    assert result.out.endswith("sample_truncation_0.5_step_000002_seed_0_n_64.png\n")
    folder = f"{tmp_path}/single/"
    words = ["--n", 2, "--label", 1, "--truncation", 0.1, "--out", folder]
    assert cli("sample", runs / "classes", *words).status == 0
    pixel = Image.open(f"{folder}seed_000001_1.png").getpixel((0, 0))
    sample = mg.load_run(runs / "classes").sample(1, 1, labels=1, truncation=0.1)
    assert pixel == np.rint((sample[0, 0, 0, 0] + 1) * 127.5)


def test_options_that_do_not_fit(runs):
    run = runs / "classes"
    before = files(run)
    cases = {
        "--walk and --traverse are two pictures": ["--walk", "--traverse"],
        "--truncation 0.5 goes without --walk": ["--walk", "--truncation", 0.5],
        "--truncation 0.5 goes without --traverse": ["--traverse", "--truncation", 0.5],
        "--interpolation lerp goes with --walk": ["--traverse", "--interpolation", "lerp"],
        "--frames 3 goes with --walk or --traverse": ["--frames", 3],
        "--label 0,1: a traversal is of one class": ["--traverse", "--label", "0,1"],
        "k = 8; this generator has 1 to 7": ["--traverse", "--n", 8],
        "a traversal is a picture and a GIF": ["--traverse", "--out", f"{runs}/"],
        "truncation = 0.0: a limit of at least 0.01 is needed": ["--truncation", 0],
    }
    for text, words in cases.items():
        assert text in refused("sample", run, *words)
    line = refused("sample", runs / "uniform", "--truncation", 1)
    assert "only normal latents are truncated" in line
    assert files(run) == before
