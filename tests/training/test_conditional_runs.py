"""Conditional and other new runs as folders: `sample --label`, `evaluate`, curves, old configs."""

import json

import numpy as np
import pytest
from PIL import Image
from run_helpers import GLYPHS, RING, assert_same_run, cli, metrics, refused, sha256, train

from minigan.training.resume import load_trainer

AGREEMENT = ["label_agreement", "label_agreement_permuted"]


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels") / "glyphs"
    train(folder, *GLYPHS, "--condition", "acgan", "--steps", 3, "--sample-every", 3)
    return folder


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels") / "ring"
    train(folder, *RING, "--condition", "projection", "--steps", 3)
    return folder


def drawn(folder, path, *words):
    result = cli("sample", folder, "--out", path, *words)
    assert (result.status, result.errors) == (0, []), result
    return np.load(path)


# ------------------------------------------------------------------------------------------ sample
@pytest.mark.parametrize(
    ("words", "cycle"), [((), range(8)), (("--label", "3"), [3]), (("--label", "5, 0"), [5, 0])]
)
def test_labels_in_turn(ring, tmp_path, words, cycle):
    arrays = drawn(ring, tmp_path / "s.npz", "--n", 11, "--seed", 2, *words)
    labels = np.resize(cycle, 11)
    assert np.array_equal(arrays["labels"], labels)
    assert np.array_equal(arrays["samples"], load_trainer(ring).sample(11, 2, labels))


def test_a_run_without_labels_has_none_in_its_archive(tmp_path):
    train(tmp_path / "run", *RING, "--steps", 1)
    assert drawn(tmp_path / "run", tmp_path / "s.npz", "--n", 3).files == ["samples"]
    line = refused("sample", tmp_path / "run", "--label", 1)
    assert "--label 1: " in line
    assert "was trained without labels (--condition, " in line


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("8", "label 8 is not one of 0 .. 7"),
        ("0,-1", "label -1 is not one of 0 .. 7"),
        ("one", "--label one: integers, joined by commas, are needed"),
        ("1,,2", "integers, joined by commas"),
        ("", "integers, joined by commas"),
        ("1.0", "integers, joined by commas"),
        ("1" * 30, "integers, joined by commas"),
    ],
)
def test_labels_that_are_none(ring, tmp_path, label, message):
    assert message in refused("sample", ring, "--label", label, "--out", tmp_path / "s.npz")
    assert not (tmp_path / "s.npz").exists()


@pytest.mark.parametrize(
    ("words", "columns", "rows"),
    [((), 10, 2), (("--label", "7"), 5, 4), (("--label", "7,1,2"), 6, 4)],
)
def test_a_grid_has_a_column_for_each_label(glyphs, tmp_path, words, columns, rows):
    path = tmp_path / "s.png"
    assert cli("sample", glyphs, "--n", 20, "--out", path, *words).status == 0
    # The names of the classes take a strip of 19 pixels.
    assert Image.open(path).size == (2 * (columns * 29 + 1), 2 * (rows * 29 + 1) + 19)


# -------------------------------------------------------------------------------- runs and curves
def test_a_conditional_run_leaves_pictures_of_all_classes_and_its_losses(glyphs):
    picture = Image.open(glyphs / "samples" / "step_000003.png")
    assert picture.size == (2 * (10 * 29 + 1), 2 * (7 * 29 + 1) + 19)
    for row in metrics(glyphs):
        assert {"class_d", "class_g", "class_agreement"} <= row.keys()
        assert row["class_d"] == pytest.approx(np.log(10), abs=0.5)
    wide, high = Image.open(glyphs / "losses.png").size
    assert (wide, high) == (840, 1080)  # panels for what is added and for the quality


def test_a_penalty_has_a_curve_and_no_other_run_a_panel_for_it(tmp_path):
    for name, words in (("plain", ()), ("r1", ("--penalty", "r1"))):
        train(tmp_path / name, *RING, "--steps", 9, *words)
        assert ("penalty" in metrics(tmp_path / name)[0]) == (name == "r1")
        assert Image.open(tmp_path / name / "losses.png").height == (1080 if words else 780)


ALL = [
    *("--condition", "concat", "--penalty", "r1", "--penalty-end", 0.1, "--historical", 0.1),
    *("--schedule", "cosine", "--warmup", 2, "--instance-noise", 0.2, "--ema", 0.9),
    *("--standardize", "--schedule-steps", 9, "--noise-steps", 9, "--penalty-steps", 9),
]


@pytest.mark.parametrize("words", [ALL, ["--pack", 2, "--minibatch", "stddev", "--n-critic", 2]])
def test_a_run_cut_in_mid_schedule_goes_on_to_the_same_bits(tmp_path, words):
    train(tmp_path / "a", *RING, *words, "--steps", 9)
    train(tmp_path / "b", *RING, *words, "--steps", 4)
    result = cli("train", "--resume", tmp_path / "b", "--steps", 9)
    assert (result.status, result.errors) == (0, [])
    rows = [[r for r in metrics(tmp_path / x) if r["step"] != 4] for x in "ab"]
    assert rows[0] == rows[1]
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_an_extended_run_keeps_the_steps_of_its_schedule(tmp_path):
    words = ["--schedule", "exponential", "--instance-noise", 0.1, "--steps", 4]
    train(tmp_path / "run", *RING, *words)
    before = load_trainer(tmp_path / "run")
    assert cli("train", "--resume", tmp_path / "run", "--steps", 6).status == 0
    after = load_trainer(tmp_path / "run")
    config = after.config
    assert (config.steps, config.schedule_steps, config.noise_steps) == (6, 4, 4)
    assert before.players.optimizers["d"].lr > after.players.optimizers["d"].lr
    assert after.players.optimizers["d"].lr == pytest.approx(0.01 * config.lr_d)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "late-linear"])
def test_more_steps_than_a_schedule_that_ends_at_0_are_refused(tmp_path, schedule):
    train(tmp_path / "run", *RING, "--schedule", schedule, "--steps", 4)
    line = refused("train", "--resume", tmp_path / "run", "--steps", 6)
    assert f"a {schedule} schedule of 4 steps: from there on its learning rates are 0" in line
    assert cli("train", "--resume", tmp_path / "run", "--steps", 4).status == 0


def test_a_folder_from_before_these_options_goes_on(tmp_path):
    train(tmp_path / "a", *RING, "--steps", 6)
    train(tmp_path / "b", *RING, "--steps", 3)
    path = tmp_path / "b" / "config.json"
    old = json.loads(path.read_text())
    names = ["standardize", "condition", "minibatch", "pack", "generator_loss", "penalty"]
    names += ["penalty_weight", "penalty_end", "orthogonal", "historical", "augment", "warmup"]
    names += ["instance_noise", "noise_steps", "weight_decay", "schedule", "schedule_steps"]
    for name in [*names, "clip_norm", "clip_value", "clip_weights"]:
        del old[name]
    path.write_text(json.dumps(old))
    assert cli("sample", tmp_path / "b", "--n", 2, "--out", tmp_path / "s.npz").status == 0
    assert cli("train", "--resume", tmp_path / "b", "--steps", 6).status == 0
    assert sha256(tmp_path / "a" / "config.json") == sha256(path)
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_options_of_a_run_are_not_changed_on_resume(ring):
    line = refused("train", "--resume", ring, "--condition", "acgan")
    assert "condition = 'projection' (not 'acgan')" in line


# ---------------------------------------------------------------------------------------- evaluate
def test_evaluate_says_whether_labels_are_obeyed(ring):
    result = cli("evaluate", ring, "--projections", 8, "--only", ",".join(AGREEMENT))
    assert (result.status, result.errors) == (0, [])
    for label in ("samples classified as their label", "the same with labels permuted: chance"):
        assert label in result.out
    output = cli("evaluate", ring, "--projections", 8, "--only", ",".join(AGREEMENT), "--json").out
    values = {x["name"].rpartition("_n")[0]: x for x in json.loads(output)["measures"]}
    assert values["label_agreement"]["floor"] == 1  # the ring's modes lie far apart
    for name in AGREEMENT:  # three steps have taught nothing
        assert 0 <= values[name]["value"] < 0.5


def test_a_penalised_runs_evaluation_has_no_labels(tmp_path):
    train(tmp_path / "run", *RING, "--penalty", "r1", "--steps", 1)
    only = "quick,label_agreement"
    output = json.loads(cli("evaluate", tmp_path / "run", "--only", only, "--json").out)
    assert "label_agreement" not in str(output["measures"])
    reason = "it is for conditional runs of data of two or more classes"
    assert output["left_out"] == [{"name": "label_agreement", "reason": reason}]
