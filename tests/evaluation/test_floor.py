"""The floor of conditional runs: real samples with the labels of the generated ones."""

import json

import numpy as np
import pytest

from minigan import Config, Trainer
from minigan.data import Dataset
from minigan.doctor.record import read_record
from minigan.doctor.series import SERIES
from minigan.evaluation.evaluate import evaluate
from minigan.evaluation.labels import rows_with_labels
from minigan.evaluation.measures import DRAWS
from minigan.evaluation.quick import QuickMeasures
from minigan.evaluation.samples import Setting
from minigan.evaluation.table import one_run
from minigan.metrics import wasserstein1


def far_classes(sizes, rng):
    """Class k of the plane is at (100 k, 0), so labels decide nearly all of a distance."""
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = rng.standard_normal((len(labels), 2)) + 100 * labels[:, None] * np.eye(2)[0]
    return Dataset("d", values.astype(np.float32), labels)


def of_the_data(trainer):
    """A trainer whose generator draws from the data's distribution of the labels asked for."""

    def draw(n, seed, labels=None, averaged=True):
        labels = trainer.sampler.turns(n) if labels is None else labels
        noise = np.random.default_rng(seed).standard_normal((n, 2))
        return (noise + 100 * labels[:, None] * np.eye(2)[0]).astype(np.float32)

    trainer.sampler.sample = draw
    return trainer


def test_the_floor_of_a_conditional_run_has_the_labels_of_its_samples(rng):
    """The right generator is at the floor, which labels of their own would raise 100-fold."""
    trainer = Trainer(Config(batch=8, condition="concat"), far_classes([500, 300, 200], rng))
    evaluation = evaluate(of_the_data(trainer), 64)
    assert evaluation.notes == ()
    for name in ("sliced_wasserstein", "wasserstein1"):
        assert 0.5 < evaluation[name].value / evaluation[name].floor < 2, name
    distances = (evaluation[x] for x in ("frechet", "jensen_shannon", "parzen"))
    assert all(abs(x.value - x.floor) < 0.3 for x in distances)
    setting = Setting.of(trainer)
    held_out = setting.real.labels
    draws = [setting.train_draw(k, 100) for k in range(9)]
    assert draws[8] is None  # as 90 are left for the validation
    assert all(np.array_equal(x.labels, held_out) for x in draws[:8])
    assert all(len(np.unique(x.values, axis=0)) == 100 for x in draws[:8])
    assert not np.array_equal(draws[0].values, draws[1].values)
    some = evaluate(trainer, 64, only=["wasserstein1"])["wasserstein1"]
    distances = [wasserstein1(x.values, setting.real.values) for x in draws[:DRAWS]]
    assert some.floor == pytest.approx(np.mean(distances))


def test_labels_in_turn_are_those_of_their_floor(rng):
    """Of more samples than are held out the classes come in turn, and of real ones too."""
    setting = Setting.of(Trainer(Config(batch=8, condition="acgan"), far_classes([500, 500], rng)))
    assert setting.count == 100
    np.testing.assert_array_equal(setting.train_draw(0, 700).labels, np.arange(700) % 2)


def test_a_class_with_too_few_training_samples_for_the_floor_is_said(rng):
    data = far_classes([100, 100], rng)
    trainer = Trainer(Config(batch=8, condition="concat"), data)
    rows = [np.flatnonzero(data.labels == k) for k in range(2)]
    trainer.data = data.subset(np.r_[rows[0][:70], rows[1][:10]])
    trainer.held_out = data.subset(np.r_[rows[0][70:90], rows[1][10:30]])
    evaluation = evaluate(of_the_data(trainer), 16, only=["sliced_wasserstein", "modes"])
    (note,) = evaluation.notes
    assert "too few samples of class 1, so the labels of 10 of 40" in note
    assert note in one_run(evaluation)


def test_rows_with_labels_are_different_ones_with_these_labels(rng):
    labels, wanted = rng.integers(0, 3, 60), np.array([2, 0, 0, 1, 2, 0])
    draws = [rows_with_labels(labels, wanted, k) for k in range(30)]
    for rows in draws:
        np.testing.assert_array_equal(labels[rows], wanted)
        assert len(set(rows)) == len(wanted)
    assert len({x for rows in draws[:4] for x in rows}) == 24  # none again before all are taken
    assert {x for rows in draws for x in rows} == set(range(60))
    rows = rows_with_labels(np.array([0, 1, 1, 0, 0, 1]), np.array([1, 1]), 0, 2)
    assert sorted(rows) == [1, 2]  # beyond the usable ones, as there are too few
    few = rows_with_labels(np.array([0, 1, 0, 0]), np.array([1, 1, 1, 0]))
    assert sorted(few) == [0, 1, 2, 3]
    assert few[0] == 1


def test_the_floor_has_the_labels_of_the_samples_and_the_doctor_sees_it(rng, tmp_path):
    """A generator that is right but for its noise is worse than real data, and not better."""
    labels = rng.integers(0, 4, 800)
    values = rng.standard_normal((800, 2)) + 100 * labels[:, None]
    data = Dataset("d", values.astype(np.float32), labels)
    trainer = Trainer(Config(condition="concat", device="reference"), data)

    def draw(n, labels=None):
        return (3 * rng.standard_normal((n, 2)) + 100 * labels[:, None]).astype(np.float32)

    trainer.sample = draw
    row = QuickMeasures(trainer).measure()
    distance, floor = (row[f"sliced_wasserstein_n80{x}"] for x in ("", "_floor"))
    assert distance > 2 * floor > 0
    (tmp_path / "config.json").write_text(json.dumps({"steps": 1}))
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "loss_d": 1, "loss_g": 1, **row}) + "\n"
    )
    record = read_record(tmp_path)
    assert SERIES["quality"].values(record)[0] == pytest.approx(distance / floor)
    trainer.data = data.subset(np.r_[:600])
    few = np.flatnonzero(trainer.data.labels == 3)[3:]
    trainer.data = trainer.data.subset(np.setdiff1d(np.arange(600), few))
    with pytest.warns(UserWarning, match="too few samples of class 3, so"):
        QuickMeasures(trainer).measure()
