"""The experiments vae and progressive: PCA, sharpness, digits of no two parts, small whole runs."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import minigan as mg
from minigan import nn
from minigan.data import Dataset
from minigan.metrics import feature_net, features
from minigan.reproduce import EXPERIMENTS, parzen, reproduce, vae
from minigan.reproduce.runner import FIGURE

RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def digits_are_patterns(monkeypatch, tmp_path_factory):
    """2000 images of ten patterns with noise, which a classifier learns in a few steps."""
    rng = RNG(0)
    prototypes = np.repeat(np.repeat(rng.integers(2, size=(10, 1, 7, 7)), 4, 2), 4, 3)
    labels = np.arange(2000) % 10
    noise = rng.integers(40, size=(2000, 1, 28, 28))
    patterns = Dataset("patterns", (prototypes[labels] * 200 + noise).astype(np.uint8), labels, 10)
    monkeypatch.setattr(parzen, "load", lambda name, split: patterns)
    monkeypatch.setattr(features, "cache_root", tmp_path_factory.getbasetemp)
    monkeypatch.setattr(vae, "feature_net", partial(feature_net, steps=30))
    vae.digits.cache_clear()
    vae.classifier.cache_clear()
    yield
    vae.digits.cache_clear()  # Other tests have other digits.
    vae.classifier.cache_clear()


def small(name):
    """The experiment with trainings of two steps."""
    cases = {}
    for case_name, case in EXPERIMENTS[name].cases.items():
        config = dict(case.config)
        if "training" in config:
            config["training"] = {**config["training"], "steps": 2, "batch": 8}
        elif "steps" in config:
            config |= {"steps": 2, "batch": 8}
        cases[case_name] = replace(case, config=config)
    return replace(EXPERIMENTS[name], cases=cases)


# ------------------------------------------------------------------------------------- the baseline
def test_pca_has_the_exact_density_of_its_model():
    """N(mean, W W^T + variance I) with a full covariance, by its inverse and determinant."""
    rng = RNG(0)
    x = rng.standard_normal((500, 6)) @ rng.standard_normal((6, 6)) + 3
    pca = vae.Pca(x, 2)
    loadings = pca.axes * pca.deviations
    covariance = loadings @ loadings.T + pca.variance * np.eye(6)
    rows = x - pca.mean
    squares = np.einsum("ni,ij,nj->n", rows, np.linalg.inv(covariance), rows)
    log_det = np.linalg.slogdet(covariance)[1]
    expected = -(squares + log_det + 6 * np.log(2 * np.pi)) / 2
    np.testing.assert_allclose(pca.log_likelihood(x), expected, rtol=1e-10)
    # The likelihood is at its maximum: another variance or other axes have less.
    best = pca.log_likelihood(x).mean()
    for change in ({"variance": pca.variance * 1.1}, {"axes": np.eye(6)[:, :2]}):
        other = vae.Pca(x, 2)
        vars(other).update(change)
        assert other.log_likelihood(x).mean() < best
    samples = pca.sample(200_000, rng)
    np.testing.assert_allclose(np.cov(samples.T), loadings @ loadings.T, atol=0.15)


def test_pca_reconstructs_by_the_best_linear_map():
    x = RNG(1).standard_normal((300, 1, 2, 4)) * np.arange(1, 9).reshape(1, 1, 2, 4)
    error = ((vae.Pca(x, 3).reconstruct(x) - x) ** 2).sum(axis=(1, 2, 3)).mean()
    rest = np.linalg.eigvalsh(np.cov(x.reshape(300, -1).T, bias=True))[:-3].sum()
    np.testing.assert_allclose(error, rest, rtol=1e-10)


# --------------------------------------------------------------------------------- what is measured
def test_blur_takes_sharpness_away_and_noise_adds_it():
    _, _, test = vae.digits("mnist", "test")
    blurred = (test + np.roll(test, 1, 2) + np.roll(test, 1, 3)) / 3
    noisy = np.clip(test + RNG(0).normal(0, 0.3, test.shape), 0, 1)
    config = {"data": "mnist", "split": "test"}
    sharpness = [vae.measure_samples(x, config, 0)["sharpness"] for x in (test, blurred, noisy)]
    assert sharpness[0] == 1
    assert sharpness[1] < 0.6
    assert sharpness[2] > 1.1


def test_binary_images_have_the_grey_value_as_their_mean():
    grey = np.full((200_000, 1), 0.3, np.float32)
    binary = vae.binarize(grey, RNG(0))
    assert set(np.unique(binary)) == {0, 1}
    np.testing.assert_allclose(binary.mean(), 0.3, atol=0.005)


def test_no_digit_is_in_two_parts_and_pixels_are_in_0_to_1():
    parts = vae.digits("mnist", "test")
    assert [len(part) for part in parts] == [1600, 200, 200]
    assert len({image.tobytes() for part in parts for image in part}) == 2000
    assert all(part.min() >= 0 and part.max() <= 1 for part in parts)


def test_the_decoder_is_the_gan_s_generator():
    model = vae.build_vae("mlp", (1, 28, 28), 32, "bernoulli")
    generator, discriminator = mg.models.MODELS["mlp"].build((1, 28, 28), 32)

    def shapes(net):
        return [x.shape for x in net.parameters()]

    assert shapes(model.decoder) == shapes(generator)
    assert shapes(model.encoder)[:-2] == shapes(discriminator)[:-2]
    assert shapes(model.encoder)[-2:] == [(256, 64), (64,)]
    assert not any(isinstance(layer, nn.Tanh) for layer in model.decoder)


def test_a_training_raises_the_bound():
    config = {**EXPERIMENTS["vae"].cases["VAE, Bernoulli"].config, "batch": 32}
    train, _, test = vae.digits("mnist", "test")
    bounds = []
    for steps in (1, 60):
        mg.manual_seed(0)
        model = vae.train_vae({**config, "steps": steps}, 0, train)
        with mg.no_grad():
            bounds.append(float(model.elbo(mg.tensor(test)).numpy().mean()))
    assert bounds[1] > bounds[0] + 50, bounds


# --------------------------------------------------------------------------------------- whole runs
@pytest.mark.filterwarnings("ignore::minigan.utils.notices.Notice")  # few samples, slow growth
@pytest.mark.parametrize("name", ["vae", "progressive"])
def test_the_experiment_runs(name, tmp_path):
    document = reproduce(name, small(name), [0], tmp_path, workers=1)
    assert (tmp_path / FIGURE).stat().st_size > 10_000
    floor, *others = (case["mean"] for case in document["cases"].values())
    assert all(floor["frechet"] < mean["frechet"] for mean in others)
    assert 0.9 < floor["sharpness"] < 1.1
    if name == "vae":
        assert len(document["missed_goals"]) >= 4, "two steps are not enough for any goal"
        assert floor.keys() < others[0].keys()
