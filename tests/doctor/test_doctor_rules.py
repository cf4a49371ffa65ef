"""The rules of the doctor, on metrics that are written by hand."""

import json

import numpy as np
import pytest

from minigan import Config
from minigan.doctor import diagnose, readme
from minigan.doctor.remedy import choose
from minigan.doctor.rules import NAMES, RULES
from minigan.doctor.series import SERIES
from minigan.training.run_folder import RunError
from minigan.utils.locks import file_lock

HEALTHY = {
    "loss_d": 1.38,
    "loss_g": 0.7,
    "d_real": 0.75,
    "d_fake": 0.7,
    "grad_norm_d": 1.0,
    "grad_norm_g": 1.0,
    "logit_gap": 0.5,
    "logit_deviation": 0.6,
    "logit_low": -1.5,
    "logit_high": 1.5,
    "saturation": 0.0,
    "diversity": 0.95,
    "nearest": 1.0,
    "memorization": 0.5,
    "class_agreement": 0.9,
    "fake_low": -1.0,
    "fake_high": 1.0,
    "real_low": -1.0,
    "real_high": 1.0,
    "dead_d": 0.1,
    "dead_g": 0.0,
    "activation_d": 3.0,
    "activation_g": 3.0,
    "weight_d": 0.1,
    "weight_g": 0.1,
    "update_d": 0.01,
    "update_g": 0.01,
    "movement": 0.3,
    "drift": 0.1,
    "rotation_d": 0.0,
    "rotation_g": 0.0,
    "rotation_samples": 0.0,
    "lr_d": 2e-4,
    "lr_g": 2e-4,
}
LINES = 30
LATE = np.arange(LINES) >= 15
BAD = 4.0  # distances of samples to held-out data, relative to those of real samples


def write(folder, columns=None, quality=1.2, lines=LINES, **options):
    """A run without a checkpoint: `columns` and quality are numbers, or arrays over the lines."""
    folder.mkdir(exist_ok=True)
    config = Config(**{"steps": 50 * lines, **options})
    (folder / "config.json").write_text(json.dumps(config.as_dict()))
    rows = []
    for i in range(lines):
        row = {"step": 50 * i + 1, **HEALTHY}
        for name, x in (columns or {}).items():
            row[name] = float(np.broadcast_to(x, lines)[i])
        if quality is not None:
            distance = 0.1 * float(np.broadcast_to(quality, lines)[i])
            row |= {"sliced_wasserstein_n500": distance, "sliced_wasserstein_n500_floor": 0.1}
        rows.append(row)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def names(folder):
    return [finding.name for finding in diagnose(folder).findings]


def test_a_healthy_run_has_no_finding(tmp_path):
    diagnosis = diagnose(write(tmp_path / "r"))
    assert diagnosis.findings == ()
    assert (diagnosis.step, diagnosis.state) == (1451, "interrupted")
    assert {"diversity", "drift", "accuracy"} <= diagnosis.gauges.keys()
    assert diagnosis.gauges["accuracy"].value == pytest.approx(0.725)


def test_a_gauge_has_a_threshold_only_where_it_is_bad_alone(tmp_path):
    gauges = diagnose(write(tmp_path / "r", quality=3)).gauges
    assert (gauges["dead"].threshold, gauges["drift"].threshold) == (0.65, None)
    assert (gauges["quality"].value, gauges["quality"].threshold) == (pytest.approx(3), 5)


ACCURATE = {"d_real": 1.0, "d_fake": 1.0}
CHANCE = {"d_real": 0.5, "d_fake": 0.5, "logit_gap": 0.001, "logit_deviation": 0.02}
DRIFT = {"rotation_samples": 0.5}
RELU = {"logit_low": 0.0, "logit_high": np.linspace(0.4, 1.0, LINES)}
# The columns and options of each failure, and a number just on the good side of the threshold.
FAILURES = {
    "mode-collapse": ({"diversity": np.where(LATE, 0.4, 0.9)}, {}, {"diversity": 0.55}),
    "vanishing-gradient": (
        ACCURATE | {"saturation": 0.95},
        {"loss": "minimax"},
        ACCURATE | {"saturation": 0.85},
    ),
    "memorizing-discriminator": ({"memorization": 0.75}, {}, {"memorization": 0.65}),
    "oscillation": (DRIFT | {"drift": 0.9}, {}, DRIFT | {"drift": 0.6}),
    "exploding-values": ({"activation_d": np.geomspace(1, 900, LINES)}, {}, {"weight_g": 9.0}),
    "dead-units": ({"dead_d": 0.8}, {}, {"dead_d": 0.6}),
    "range-mismatch": ({"fake_low": 0.0}, {"model": "toy"}, {"fake_low": -0.3}),
    "sigmoid-twice": (RELU, {}, RELU | {"logit_low": -0.01}),
    "learning-rate-exhausted": (
        {name: np.where(LATE, 0.0, 2e-4) for name in ("lr_d", "lr_g")},
        {"schedule": "linear", "schedule_steps": 700},
        {name: np.where(LATE, 1e-5, 2e-4) for name in ("lr_d", "lr_g")},
    ),
    "weak-discriminator": (CHANCE, {}, CHANCE | {"d_real": 0.8}),
    "ignored-labels": ({"class_agreement": 0.1}, {"condition": "concat"}, {"class_agreement": 0.4}),
    "penalty-too-strong": (
        CHANCE | {"logit_deviation": 0.002},
        {"penalty": "r1", "penalty_weight": 900.0},
        CHANCE | {"logit_deviation": 0.02},
    ),
}


OTHERS = {"unbounded-critic", "far-from-data"}  # found where no gauge shows a cause


def test_there_are_twelve_failures_with_gauges_and_two_others():
    assert set(NAMES) == {*FAILURES, *OTHERS}
    assert len(NAMES) == 14
    assert (NAMES[0], NAMES[-1]) == ("unbounded-critic", "far-from-data")


@pytest.mark.parametrize("columns", [{}, {"weight_d": np.geomspace(1, 900, LINES)}])
def test_a_critic_without_a_bound_comes_first(tmp_path, columns):
    critic = {"loss": "wasserstein", "quality": BAD, "data": "glyphs"}
    (finding,) = diagnose(write(tmp_path / "r", columns, **critic)).findings
    assert finding.name == "unbounded-critic"
    assert finding.changes == {"penalty": "wgan-gp", "n_critic": 5}
    points = {**critic, "data": "ring", "model": "toy"}
    (finding,) = diagnose(write(tmp_path / "p", columns, **points)).findings
    assert finding.changes["penalty_weight"] == 0.1
    for options in ({"penalty": "wgan-gp"}, {"clip_weights": 0.1}):
        bounded = write(tmp_path / next(iter(options)), columns, **critic, **options)
        assert "unbounded-critic" not in names(bounded)
    spectral = {**critic, "model": "sngan"}
    assert "unbounded-critic" not in names(write(tmp_path / "s", columns, **spectral))


def test_a_critic_without_a_bound_that_diverged_is_named(tmp_path):
    folder = write(tmp_path / "r", lines=1, loss="wasserstein")
    (folder / "diverged.json").write_text(json.dumps({"step": 1, "message": "nan"}))
    (finding,) = diagnose(folder).findings
    assert (finding.name, finding.value, finding.above) == ("unbounded-critic", 0, False)


def test_samples_that_stay_bad_are_never_called_fine(tmp_path):
    constant = diagnose(write(tmp_path / "r", quality=20)).findings
    assert [x.name for x in constant] == ["far-from-data"]
    assert constant[0].changes == {"lr_g": pytest.approx(2e-5), "lr_d": pytest.approx(2e-5)}
    assert names(write(tmp_path / "good", quality=4)) == []
    early = write(tmp_path / "early", quality=20, steps=4000)
    assert names(early) == []
    falling = write(tmp_path / "falling", quality=np.geomspace(40, 8, LINES))
    (finding,) = diagnose(falling).findings
    assert finding.changes == {"steps": 3000}
    collapse = write(tmp_path / "other", {"diversity": np.where(LATE, 0.4, 0.9)}, quality=20)
    assert names(collapse) == ["mode-collapse"]


def test_memorization_within_its_standard_error_is_noise(tmp_path):
    columns = {"memorization": 0.7, "memorization_error": 0.06}
    assert names(write(tmp_path / "few", columns | {"memorization_error": 0.075})) == []
    assert names(write(tmp_path / "many", columns)) == ["memorizing-discriminator"]


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_is_named_alone_with_a_remedy(tmp_path, name):
    columns, options, good = FAILURES[name]
    folder = write(tmp_path / "r", columns, quality=BAD, **options)
    (finding,) = diagnose(folder).findings
    assert finding.name == name
    assert (finding.value > finding.threshold) == finding.above
    assert finding.gauge in SERIES
    if name != "sigmoid-twice":
        assert finding.changes
        Config(**{**json.loads((folder / "config.json").read_text()), **finding.changes})
    assert names(write(tmp_path / "r", good, quality=BAD, **options)) == []


@pytest.mark.parametrize(
    ("columns", "options", "name"),
    [
        ({"nearest": 2.5}, {}, "mode-collapse"),
        ({"diversity": np.where(LATE, 0.2, 0.9)}, {"condition": "acgan"}, "mode-collapse"),
        ({"rotation_d": -0.7, "rotation_g": -0.6}, {}, "oscillation"),
        ({"grad_norm_g": np.where(LATE, 1e-5, 1)}, {}, "vanishing-gradient"),
        ({"real_low": np.r_[-100, -np.ones(29)]}, {}, "range-mismatch"),
    ],
)
def test_a_failure_has_other_signs_too(tmp_path, columns, options, name):
    assert names(write(tmp_path / "r", columns, quality=BAD, **options)) == [name]


@pytest.mark.parametrize("name", ["weak-discriminator", "penalty-too-strong"])
def test_a_flat_discriminator_is_right_where_samples_are_good(tmp_path, name):
    columns, options, _ = FAILURES[name]
    assert names(write(tmp_path / "r", columns, quality=1.1, **options)) == []


def test_rules_for_logits_do_not_apply_to_least_squares_and_critics(tmp_path):
    critic = {"loss": "wasserstein", "clip_weights": 0.1}
    for options in ({"loss": "leastsquares"}, critic):
        assert names(write(tmp_path / "r", RELU, **options)) == []
    assert names(write(tmp_path / "r", CHANCE, quality=BAD, **critic)) == []


def test_a_spread_that_rises_is_a_short_training(tmp_path):
    rising = {"diversity": np.linspace(0.1, 0.45, LINES)}
    assert names(write(tmp_path / "r", rising, quality=BAD)) == []
    assert names(write(tmp_path / "r", {"diversity": 0.2}, lines=19)) == []  # 900 steps
    assert names(write(tmp_path / "r", {"diversity": 0.2}, lines=22)) == ["mode-collapse"]


def test_noise_that_moves_the_mean_is_no_oscillation(tmp_path):
    noise = {"drift": 1.0, "rotation_samples": -0.5}
    assert names(write(tmp_path / "r", noise, quality=BAD)) == []


@pytest.mark.parametrize(
    "columns", [DRIFT | {"drift": 0.9}, {"rotation_d": -0.7, "rotation_g": -0.6}]
)
def test_oscillation_needs_bad_samples_steps_and_lines(tmp_path, columns):
    folder = write(tmp_path / "r", columns, quality=BAD)
    assert names(folder) == ["oscillation"]
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[::3]))  # as of a larger log_every
    assert names(folder) == []
    assert names(write(tmp_path / "r", columns, quality=1.2)) == []
    assert names(write(tmp_path / "r", columns, quality=BAD, lines=19)) == []  # 900 steps


def test_data_beside_0_are_not_to_be_scaled(tmp_path):
    data = {"real_low": 997.0, "real_high": 1003.0}
    reached = {x: np.where(LATE, data[f"real_{x[5:]}"], 0.0) for x in ("fake_low", "fake_high")}
    for columns in (data, data | reached):
        (finding,) = diagnose(write(tmp_path / "r", columns, quality=BAD, model="toy")).findings
        assert (finding.name, finding.changes) == ("range-mismatch", {})
        assert "Subtract the mean" in finding.remedy
    for low in (-100.0, 0.0):  # on both sides of 0, or from 0 on
        folder = write(
            *(tmp_path / "r", {"real_low": low, "real_high": 100.0}), quality=BAD, model="toy"
        )
        (finding,) = diagnose(folder).findings
        assert (finding.name, finding.changes) == ("range-mismatch", {"standardize": True})


def test_narrow_modes_are_no_collapse_where_samples_are_good(tmp_path):
    assert names(write(tmp_path / "r", {"nearest": 2.5}, quality=1.2)) == []


def test_causes_hide_their_consequences_and_others_are_both_named(tmp_path):
    collapse = {"diversity": 0.1, "dead_d": 0.9}
    assert names(write(tmp_path / "r", collapse)) == ["dead-units"]
    both = {"memorization": 0.8, "diversity": np.where(LATE, 0.4, 0.9)}
    assert names(write(tmp_path / "r", both)) == ["memorizing-discriminator", "mode-collapse"]
    order = [rule.name for rule in RULES]
    for i, rule in enumerate(RULES):
        assert set(rule.hides) <= set(order[i:])


# ------------------------------------------------------------------------- how a training ended
def test_a_training_that_diverged_is_exploding_even_without_lines(tmp_path):
    folder = write(tmp_path / "r", lines=1)
    message = {"step": 7, "message": "loss_d became nan at step 7"}
    (folder / "diverged.json").write_text(json.dumps(message))
    diagnosis = diagnose(folder)
    (finding,) = diagnosis.findings
    assert (diagnosis.state, diagnosis.step, finding.name) == ("diverged", 7, "exploding-values")
    assert finding.value == np.inf
    assert "loss_d became nan at step 7" in finding.explanation
    assert finding.changes["lr_g"] == pytest.approx(2e-5)


@pytest.mark.parametrize(
    ("name", "options", "changes"),
    [
        ("ignored-labels", {"condition": "projection"}, {}),
        ("memorizing-discriminator", {"penalty": "r1"}, {}),
        ("memorizing-discriminator", {"penalty": "r1", "n_critic": 3}, {"n_critic": 1}),
        ("vanishing-gradient", {"loss": "leastsquares"}, {}),
    ],
)
def test_a_remedy_changes_what_the_run_does_not_have_already(name, options, changes, tmp_path):
    diagnosis = diagnose(write(tmp_path / "r", FAILURES[name][0], **options))
    (finding,) = diagnosis.findings
    assert (finding.name, finding.changes) == (name, changes)
    if changes:
        assert choose(diagnosis) == finding
    else:
        with pytest.raises(ValueError, match="no remedy changes an option of this run: "):
            choose(diagnosis)


def test_a_run_that_is_still_training_is_said(tmp_path):
    folder = write(tmp_path / "r")
    with file_lock(folder / ".lock"):
        diagnosis = diagnose(folder)
    assert diagnosis.state == "training"
    assert diagnosis.notes[0].startswith("it is being trained, at step 1451 of 1500")
    assert diagnose(folder).notes == ("it was interrupted at step 1451 of 1500",)


def test_a_run_of_an_older_version_has_a_line_on_what_is_missing(tmp_path):
    folder = write(tmp_path / "r")
    kept = ("step", "loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "grad_norm_g")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    lines = [json.dumps({name: row[name] for name in kept}) + "\n" for row in rows]
    (folder / "metrics.jsonl").write_text("".join(lines))
    diagnosis = diagnose(folder)
    assert diagnosis.findings == ()
    assert not diagnosis.has_gauges
    (note,) = [x for x in diagnosis.notes if "older version" in x]
    assert "or its nets could not be measured" in note
    assert diagnosis.gauges.keys() == {"accuracy", "gradient"}


def test_a_run_without_held_out_data_has_a_line_on_what_is_missing(tmp_path):
    diagnosis = diagnose(write(tmp_path / "r", CHANCE, quality=None))
    assert diagnosis.findings == ()
    assert "some signs of range-mismatch, penalty-too-strong, " in diagnosis.notes[-1]


def test_few_lines_are_said_and_find_nothing(tmp_path):
    diagnosis = diagnose(write(tmp_path / "r", {"diversity": 0.0}, lines=4))
    assert diagnosis.findings == ()
    assert diagnosis.notes[-1].startswith("4 lines of metrics are few")


def test_a_line_that_was_cut_is_left_out_and_nets_of_the_users_own_are_not_built(tmp_path):
    folder = write(tmp_path / "r", DRIFT | {"drift": 2.0}, quality=BAD)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9999, "lo')
    config = json.loads((folder / "config.json").read_text())
    config |= {"model": "/nowhere/net.py:build", "loss": "mine", "data": "python:array"}
    (folder / "config.json").write_text(json.dumps(config))
    diagnosis = diagnose(folder)
    assert [finding.name for finding in diagnosis.findings] == ["oscillation"]
    assert diagnosis.step == 1451


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "is not a run: it has no config.json"),
        ("config.json", "[]", "cannot be read: it is not an object"),
        ("config.json", '{"steps": "many"}', "config.json cannot be read: steps"),
        ("config.json", '{"model": 3}', "model = 3 is not a name"),
        ("metrics.jsonl", None, "no line of metrics and no checkpoint"),
        ("metrics.jsonl", "{}\n{}\n", "metrics.jsonl cannot be read: 'step' is missing"),
        ("diverged.json", "{}", "diverged.json cannot be read"),
    ],
)
def test_bad_folders_are_one_line(tmp_path, name, content, message):
    folder = write(tmp_path / "r")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(RunError, match=message) as error:
        diagnose(folder)
    assert "\n" not in str(error.value)


def test_the_tables_of_the_readme_are_those_of_the_rules():
    text = readme.README.read_text()
    assert text == readme.with_tables(text), "run: python -m minigan.doctor.readme"
