"""What `minigan evaluate` and its neighbours say of what they do not measure, and of old states."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from run_helpers import RING, cli, refused, train

import minigan as mg
from minigan import Config, Trainer
from minigan.data import Dataset
from minigan.evaluation import evaluate as module
from minigan.evaluation.evaluate import choose_measures, evaluate
from minigan.evaluation.functions import combine_supports
from minigan.evaluation.measures import MEASURES
from minigan.report.sections.measures import measures_section


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("said") / "run"
    train(folder, *RING, "--batch", 16, "--device", "reference", "--steps", 2, "--ema", 0.9)
    return folder


def labelled(n, rng):
    values = rng.standard_normal((n, 2)).astype("f4")
    return Dataset("d", values, np.arange(n) % 2)


# ------------------------------------------------------------------------------- near duplicates
def test_the_support_is_that_of_the_near_duplicates_of_all_draws():
    # 435 pairs a draw, and 1, 2 and 0 near duplicates.
    estimate = combine_supports([435.0, 217.5, math.inf], 30)
    assert estimate.mean == pytest.approx(3 * 435 / 3)
    rates = np.array([1, 2, 0]) / 435
    error = rates.std(ddof=1) / math.sqrt(3)
    assert estimate.error == pytest.approx(error * 435**2)
    assert combine_supports([7.0], 30).mean == pytest.approx(7)


def test_no_near_duplicates_are_a_bound_and_no_estimate():
    with pytest.raises(ValueError, match="no near duplicates in 5 draws of 30 samples") as error:
        combine_supports([math.inf] * 5, 30)
    assert "more than 726 different" in str(error.value)
    # Of 726 equally frequent samples, 5 * 435 pairs hold no equal one in 5 % of cases.
    none = (1 - 1 / 726) ** (5 * 435)
    assert none == pytest.approx(0.05, abs=1e-3)


def test_samples_without_duplicates_are_left_out_with_the_bound(rng):
    trainer = Trainer(Config(data="ring", samples=600, batch=16))
    trainer.sampler.sample = lambda n, seed, labels=None, averaged=True: (
        np.arange(2 * n).reshape(n, 2).astype("f4") * 100
    )
    found = evaluate(trainer, only=["birthday_support"])
    assert found.measures == ()
    assert "more than 2,954 different samples" in dict(found.left_out)["birthday_support"]


# ------------------------------------------------------------------ which measures are taken
def test_the_bar_counts_the_measures_of_the_table(monkeypatch):
    counted = []

    def bar(iterable, **options):
        counted.append(len(iterable))
        return real_bar(iterable, **options)

    real_bar = module.progress_bar
    monkeypatch.setattr(module, "progress_bar", bar)
    found = evaluate(Trainer(Config(data="swiss-roll", samples=200, batch=8)), 8)
    assert counted == [len(found.measures)]
    assert len(found.measures) < len(MEASURES)


def test_a_measure_that_is_asked_for_by_name_is_taken_or_left_out(ring):
    trainer = Trainer(Config(data="swiss-roll", samples=200, batch=8))
    asked = ["modes", "out_of_range", "label_agreement", "sliced_wasserstein"]
    found = evaluate(trainer, 8, only=asked)
    assert [x.name for x in found.measures] == ["sliced_wasserstein_n20"]
    assert dict(found.left_out) == {
        "modes": "it is for mixtures of Gaussians of known parameters",
        "label_agreement": "it is for conditional runs of data of two or more classes",
        "out_of_range": "it is for images",
    }
    assert evaluate(trainer, 8, only=["quick"]).left_out == ()
    text = cli("evaluate", ring, "--only", "out_of_range").out
    assert "left out: out_of_range: it is for images" in text
    assert all("other data" not in x.misses() for x in MEASURES if not x.applies(_NOTHING))


_NOTHING = SimpleNamespace(
    is_image=False,
    is_conditional=False,
    has_classes=False,
    train=SimpleNamespace(modes=None, sigma=None, sample_shape=(3,)),
)


def test_quick_measures_train_no_classifier(rng, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a classifier is trained")

    monkeypatch.setattr("minigan.evaluation.samples.feature_net", refuse)
    trainer = Trainer(Config(batch=8, condition="concat"), labelled(80, rng))
    found = evaluate(trainer, 8, only=["quick"])
    assert [x.name for x in found.measures] == ["sliced_wasserstein_n8"]
    assert found.feature_net is None
    assert "label_agreement" in [x.name for x in choose_measures(["label_agreement"])]


def test_columns_and_z_are_explained_where_they_stand(ring):
    text = cli("evaluate", ring, "--only", "sliced_wasserstein,memorization_z").out
    assert "\nG itself: samples of G's own weights" in text
    assert "\nmemorization z: the share of samples that lie nearest to a training sample" in text
    text = cli("evaluate", ring, "--only", "frechet").out
    assert "G itself" not in text
    assert "memorization" not in text


# ------------------------------------------------------------------------------------- old states
def test_a_training_that_diverged_is_said(ring, tmp_path):
    run = shutil.copytree(ring, tmp_path / "run")
    (run / "diverged.json").write_text(json.dumps({"step": 4, "message": "loss_d became nan"}))
    words = ["evaluate", run, "--only", "modes"]
    result = cli(*words)
    assert result.out.startswith("step 2 of 2, diverged at step 4, data ring")
    note = f"the checkpoint of {run}, of step 2; its training diverged at step 4"
    assert note in result.errors[0]
    assert json.loads(cli(*words, "--json").out)["diverged"] == 4
    assert mg.load_run(run).evaluate(only=["modes"]).diverged == 4
    assert mg.load_run(ring).evaluate(only=["modes"]).diverged is None
    assert note in cli("sample", run, "--n", 4).errors[0]


def test_a_checkpoint_that_is_older_than_the_training_is_said(ring, tmp_path):
    run = shutil.copytree(ring, tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss_d": 1.0, "loss_g": 1.0}\n')
    for words in (["evaluate", run, "--only", "modes"], ["sample", run, "--n", 4]):
        (line,) = cli(*words).errors
        assert f"the checkpoint of {run}, of step 2; its training is at step 7" in line
        assert "--checkpoint-every" in line
    (run / "metrics.jsonl").write_text("damaged\n")
    assert "age of the checkpoint" in cli("sample", run, "--n", 3).errors[0]


# ------------------------------------------------------------------------------------- the report
def test_the_report_says_what_is_not_stored():
    content = SimpleNamespace(evaluation=None)
    text = str(measures_section([SimpleNamespace(name="a", content=content, reasons={})]))
    assert "There are no stored measures" in text
    assert "none with <code>--only</code>" in text


# ------------------------------------------------------------------------------- a folder of runs
@pytest.mark.parametrize("command", ["evaluate", "doctor", "report", "sample"])
def test_a_folder_that_holds_runs_names_them(command, tmp_path):
    for seed in (0, 1, 2):
        (tmp_path / f"seed_{seed}").mkdir()
        (tmp_path / f"seed_{seed}" / "config.json").write_text("{}")
    line = refused(command, tmp_path)
    assert f"{tmp_path} is not a run: it has no config.json; it holds 3 runs: name" in line
    assert f"{tmp_path / 'seed_0'}, or {tmp_path}/* where several are accepted" in line
    line = refused(command, tmp_path / "none")
    assert line.endswith("is not a run: it has no config.json")
