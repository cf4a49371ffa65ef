"""`minigan evaluate`: measures of samples, beside the same of real ones."""

import math
import warnings

import numpy as np
import pytest

import minigan as mg
from minigan import Config, Trainer
from minigan.data import Dataset, DataWarning
from minigan.evaluation.estimate import Estimate
from minigan.evaluation.evaluate import evaluate
from minigan.evaluation.functions import parzen
from minigan.evaluation.measures import DRAWS, MEASURES
from minigan.evaluation.samples import Setting
from minigan.evaluation.table import one_run, over_seeds
from minigan.metrics import sliced_wasserstein
from minigan.utils.notices import Notice

CONFIG = Config(data="ring", samples=1500, batch=32)
POINTS = ["sliced_wasserstein", "wasserstein1", "frechet", "kernel_distance"]
MIXTURE = ["modes", "high_quality", "reverse_kl", "kl"]
OVERLAP = ["precision", "recall", "density", "coverage"]
LAST = ["parzen", "memorization_z", "birthday_support"]


def names(evaluation):
    return [x.name.rpartition("_n")[0] for x in evaluation.measures]


def images(n, rng):
    """Bright images of class 1 and dark ones of class 0."""
    labels = np.arange(n) % 2
    shades = (2 * labels - 1)[:, None, None, None]
    values = np.tanh(0.5 * rng.standard_normal((n, 1, 6, 6)) + shades)
    return Dataset("shades", values.astype(np.float32), labels)


def with_samples(trainer, draw):
    """A trainer whose generator returns draw(n, seed)."""
    trainer.sampler.sample = lambda n, seed, labels=None, averaged=True: draw(n, seed)
    return trainer


def test_an_estimate_is_a_mean_its_standard_error_and_its_interval():
    estimate = Estimate.of([1.0, 2.0, 3.0, 6.0])
    assert estimate.mean == 3
    assert estimate.error == pytest.approx(math.sqrt(14 / 3) / 2)
    assert str(estimate) == "3.0000 +- 1.0801"
    # Student's t with three degrees of freedom
    assert estimate.interval()[1] - 3 == pytest.approx(3.182 * estimate.error, rel=1e-3)
    assert str(Estimate.of([2.0])) == "2.0000"
    assert math.isnan(Estimate.of([2.0]).interval()[0])
    assert str(Estimate.of([math.inf, 1.0])) == "inf"


def test_intervals_hold_the_mean_in_95_of_100_cases(rng):
    held = [
        low < 0 < high
        for low, high in (Estimate.of(list(rng.standard_normal(5))).interval() for _ in range(2000))
    ]
    assert abs(np.mean(held) - 0.95) < 0.02


# ------------------------------------------------------------------------------- points and images
@pytest.fixture(scope="module")
def of_points():
    """The evaluations of an untrained generator, and of one that draws from the data."""
    trainer = Trainer(CONFIG)
    untrained = evaluate(trainer, 64)
    data = mg.data.load("ring", samples=20_000, seed=5).values

    def real(n, seed):
        return data[np.random.default_rng(seed).permutation(len(data))[:n]]

    return untrained, evaluate(with_samples(trainer, real), 64)


def test_every_measure_that_fits_points_is_taken(of_points):
    for evaluation in of_points:
        assert names(evaluation) == [*POINTS, *MIXTURE, *OVERLAP, "jensen_shannon", *LAST]
        assert evaluation.left_out == ()
        assert evaluation.feature_net is None
    counts = {x.name.rpartition("_n")[0]: x.name.rpartition("_n")[2] for x in of_points[0].measures}
    assert counts["sliced_wasserstein"] == "150"
    assert counts["modes"] == "2500"
    assert counts["memorization_z"] == "75"


def test_real_samples_are_at_the_floor_of_every_measure_and_others_are_not(of_points):
    untrained, real = of_points
    for measured in real.measures:
        width = 4 * (measured.error or 0.5) + 0.02
        if measured.floor is not None and math.isfinite(measured.value):
            base = measured.name.rpartition("_n")[0]
            scale = max(1, abs(measured.floor)) * (3 if base == "memorization_z" else 1)
            scale *= 1000 if base == "birthday_support" else 1
            assert abs(measured.value - measured.floor) < width * scale, measured
    for name in ("sliced_wasserstein", "frechet", "wasserstein1", "kernel_distance"):
        assert untrained[name].value > 4 * abs(untrained[name].floor), name
    for name in ("jensen_shannon", "kl"):
        assert untrained[name].value > 4 * real[name].value, name
    for name in ("precision", "coverage", "density", "high_quality"):
        assert untrained[name].value < 0.3 * real[name].value, name
    assert untrained["parzen"].value < real["parzen"].value - 1
    assert real["modes"].value == 8
    assert abs(real["high_quality"].value - 0.9889) < 0.01


def test_a_measure_says_which_way_is_better(of_points):
    untrained, real = of_points
    # Samples that lie too far apart cover the real ones, and have no near duplicates.
    for measured in untrained.measures:
        other = real[measured.name].value
        if measured.better == "low":
            assert measured.value > other, measured.name
        elif measured.better == "high" and not measured.name.startswith(("recall", "birthday")):
            assert measured.value < other, measured.name


def test_images_are_compared_by_the_features_of_a_classifier(rng):
    trainer = Trainer(Config(batch=8, holdout=0.25, model="mlp"), images(240, rng))
    fresh = images(400, rng).values
    real = evaluate(with_samples(trainer, lambda n, seed: fresh[(seed * 60) % 340 :][:n]), 16)
    expected = [*POINTS, *OVERLAP, "inception_score", *LAST, "out_of_range"]
    assert names(real) == expected
    assert real.feature_net["accuracy"] == 1
    assert real["inception_score"].value == pytest.approx(2, abs=0.05)
    assert real["out_of_range"].value == real["out_of_range"].floor == 0
    one = evaluate(with_samples(trainer, lambda n, seed: 1.5 * fresh[1::2][:n]), 16)
    assert one["inception_score"].value < 1.2
    assert one["frechet"].value > 10 * real["frechet"].value
    assert one["recall"].value < real["recall"].value
    assert one["out_of_range"].value > 0.1


def test_copies_of_training_samples_are_found(rng):
    trainer = Trainer(Config(batch=8, holdout=0.5, model="mlp"), images(240, rng))
    copies = with_samples(trainer, lambda n, seed: trainer.data.rows(slice(0, n)))
    measured = evaluate(copies, only=["memorization_z"])["memorization_z"]
    assert measured.value > 3 > abs(measured.floor)


def test_a_generator_of_one_sample_is_measured_without_an_error(rng):
    """Its features have rank zero."""
    trainer = Trainer(Config(batch=8, holdout=0.25, model="mlp"), images(240, rng))
    evaluation = evaluate(with_samples(trainer, lambda n, seed: np.zeros((n, 1, 6, 6), "f4")), 16)
    assert evaluation.left_out == ()
    assert evaluation["frechet"].value > evaluation["frechet"].floor
    assert evaluation["birthday_support"].value == 1
    assert evaluation["inception_score"].value == pytest.approx(1)


def test_images_without_labels_are_left_out_with_the_reason(rng):
    data = Dataset("plain", images(80, rng).values)
    evaluation = evaluate(Trainer(Config(batch=8, holdout=0.25, model="mlp"), data), 16)
    assert names(evaluation) == ["sliced_wasserstein", "wasserstein1", *LAST, "out_of_range"]
    left_out = dict(evaluation.left_out)
    assert list(left_out) == ["frechet", "kernel_distance", *OVERLAP, "inception_score"]
    assert "the images have no labels of two or more classes" in left_out["frechet"]
    with pytest.raises(KeyError, match="frechet is left out: features need a classifier"):
        evaluation["frechet"]


def test_too_few_samples_leave_a_measure_out_and_not_all():
    evaluation = evaluate(Trainer(Config(data="swiss-roll", samples=30, batch=8)), 8)
    assert "sliced_wasserstein" in names(evaluation)
    left_out = dict(evaluation.left_out)
    assert (
        "more than k = 3 are needed" in left_out["precision"]
        or "at least 4" in (left_out["precision"])
    )


def test_classes_that_are_not_held_out_are_said(rng):
    labels = np.r_[np.zeros(100, int), np.ones(3, int)]
    data = Dataset("d", rng.standard_normal((103, 2)).astype("f4"), labels)
    trainer = Trainer(Config(batch=8, holdout=0.1, condition="concat", seed=1), data)
    assert set(trainer.held_out.labels) == {0}
    evaluation = evaluate(trainer, only=["sliced_wasserstein"])
    (note,) = evaluation.notes
    assert note.startswith("no held-out sample is of class 1: generated samples")
    for table in (one_run(evaluation), over_seeds([evaluation, evaluation])):
        assert table.count(f"note: {note}") == 1


# --------------------------------------------------------------------------- what it does not touch
def test_it_repeats_and_changes_nothing():
    trainer = Trainer(CONFIG)
    trainer.step()
    tensors, info = trainer.state()
    assert evaluate(trainer, 16) == evaluate(trainer, 16)
    after, info_after = trainer.state()
    assert info == info_after
    assert all(np.array_equal(tensors[name], after[name]) for name in tensors)


def test_there_must_be_something_to_compare_with():
    with pytest.raises(ValueError, match="held no data out"):
        evaluate(Trainer(CONFIG.replace(holdout=0.0)))
    # More held-out than training samples: as many as both have are compared.
    evaluation = evaluate(Trainer(CONFIG.replace(holdout=0.6)), only=["sliced_wasserstein"])
    assert evaluation["sliced_wasserstein"].samples == 600


def test_g_itself_is_measured_beside_its_average(rng):
    trainer = Trainer(Config(batch=8, holdout=0.25, lr_g=0.05, ema=0.999), images(40, rng))
    for _ in range(3):
        trainer.step()
    real = trainer.held_out.values
    measured = evaluate(trainer, 16, only=["sliced_wasserstein"])["sliced_wasserstein"]
    for value, averaged in ((measured.value, True), (measured.without_average, False)):
        draws = [trainer.sampler.sample(len(real), k, averaged=averaged) for k in range(DRAWS)]
        distances = [sliced_wasserstein(x, real, 16, seed=k) for k, x in enumerate(draws)]
        assert value == pytest.approx(np.mean(distances))
    assert measured.value != measured.without_average
    plain = evaluate(Trainer(CONFIG), 16, only=["sliced_wasserstein"])
    assert plain["sliced_wasserstein"].without_average is None


def test_the_table_of_measures_is_sound():
    assert len({x.name for x in MEASURES}) == len(MEASURES)
    assert {x.better for x in MEASURES} == {"low", "high", None}
    assert all("fid" not in f"{x.name} {x.label}".lower() for x in MEASURES)


def test_real_draws_are_different_training_samples(rng):
    trainer = Trainer(Config(batch=8, holdout=0.1, model="mlp"), images(240, rng))
    setting = Setting.of(trainer)
    assert setting.count == 24
    draws = [setting.train_draw(k, 24) for k in range(12)]
    drawn = np.concatenate([x.values for x in draws if x is not None]).reshape(-1, 36)
    assert len(drawn) == 8 * 24  # and 21 are left for the validation
    assert len(np.unique(drawn, axis=0)) == len(drawn)
    others = np.concatenate([drawn, setting.validation.reshape(-1, 36)])
    train = {x.tobytes() for x in trainer.data.values.reshape(-1, 36)}
    assert len({x.tobytes() for x in others}) == len(others) == 8 * 24 + 21
    assert {x.tobytes() for x in others} <= train


def test_the_first_samples_of_a_draw_share_its_features(rng):
    trainer = Trainer(Config(batch=8, holdout=0.25, model="mlp"), images(80, rng))
    setting = Setting.of(trainer)
    whole = setting.real
    part = whole.head(7)
    np.testing.assert_array_equal(part.values, whole.values[:7])
    np.testing.assert_array_equal(part.labels, whole.labels[:7])
    np.testing.assert_allclose(part.features, setting.net.features(part.values), rtol=1e-5)
    np.testing.assert_allclose(part.probabilities, setting.net.probabilities(part.values), 1e-5)
    assert whole.head(7) is part


# ------------------------------------------------------------------------------- Parzen windows
def parzen_of_real(values):
    """The Parzen log-likelihood of held-out points around training ones."""
    setting = Setting(Dataset("train", values[:400]), Dataset("held out", values[400:]), False)
    return parzen(setting.train_draw(0, setting.count), setting)


def test_no_window_of_real_samples_is_around_a_validation_sample(rng):
    """With many held-out samples a floor of all training samples would choose a tiny sigma."""
    values = rng.standard_normal((800, 2)).astype(np.float32)
    trainer = Trainer(Config(batch=8, holdout=0.5, model="toy"), Dataset("d", values))
    (measured,) = evaluate(trainer, only=["parzen"]).measures
    assert (measured.name, measured.samples) == ("parzen_n360", 360)
    assert -3.5 < measured.floor < -2.5  # The entropy of a normal distribution is 2.84 nats.


def test_means_of_coordinates_that_differ_do_not_widen_the_windows(rng):
    points = rng.standard_normal((600, 5))
    moved = parzen_of_real(np.array([100, 0, 5, -3, 1000]) + points)
    assert moved == pytest.approx(parzen_of_real(points), abs=0.01)


def test_a_validation_of_one_point_does_not_make_the_windows_narrow(rng):
    values = rng.standard_normal((30, 1))
    setting = Setting(Dataset("train", values[:15]), Dataset("held out", values[15:]), False)
    assert len(setting.validation) == 1
    assert setting.deviation == pytest.approx(setting.train.values.astype(float).std(), rel=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        assert parzen(setting.train_draw(0, 14), setting) > -1e6  # -1e17 for windows of 1e-9


def test_equal_points_have_no_parzen_windows():
    constant = Dataset("constant", np.full((100, 2), 0.1))
    with pytest.warns(DataWarning, match="all 100 samples are equal"):
        trainer = Trainer(Config(batch=8, holdout=0.2), constant)
    evaluation = evaluate(trainer, 8, only=["parzen"])
    assert evaluation.measures == ()
    assert "all training samples are equal" in dict(evaluation.left_out)["parzen"]
