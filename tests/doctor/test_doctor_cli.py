"""`minigan doctor` on real runs: its output, its figure, its exit status, and the remedy."""

import json

import numpy as np
import pytest
from PIL import Image
from run_helpers import cli, files, refused, train

WORDS = ["--data", "ring", "--samples", 300, "--batch", 16, "--device", "reference"]
WORDS += ["--sample-every", 1000]


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """A run whose learning rates are 0 after a tenth of its steps."""
    folder = tmp_path_factory.mktemp("doctor") / "sick"
    schedule = ["--schedule", "linear", "--schedule-steps", 4]
    words = [*WORDS, "--steps", 40, "--log-every", 2, *schedule, "--out", folder]
    assert cli("train", *words).status == 0  # with a note on its schedule
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor") / "sound"
    train(folder, *WORDS, "--steps", 6, "--log-every", 1)
    return folder


def test_a_finding_is_printed_and_drawn_and_is_the_exit_status(sick):
    result = cli("doctor", sick)
    assert (result.status, result.errors) == (1, [])
    lines = result.out.splitlines()
    assert lines[0] == f"{sick}: step 40 of 40, finished: 1 finding"
    assert lines[2:4] == [
        "  The learning rates have run out [learning-rate-exhausted]",
        "    learning_rate 0, bad below 0.02",
    ]
    assert "█" in lines[4]
    assert "(threshold ▁)" in lines[4]
    assert "Try: Let the schedule end with the training" in result.out
    assert "schedule_steps = 40" in result.out
    assert np.asarray(Image.open(sick / "doctor.png")).std() > 5


def test_without_findings_it_says_a_few_gauges_in_words(sound):
    before = files(sound)
    result = cli("doctor", sound)
    assert result.status == 0
    assert result.out.startswith(f"{sound}: step 6 of 6, finished: nothing found")
    assert "6 lines of metrics are few" in result.out
    assert "the discriminator is right for " in result.out
    assert len(result.out.splitlines()) <= 2 + 5
    assert "(bad > 0.67)" not in result.out
    verbose = cli("doctor", "--verbose", sound)
    assert verbose.out.startswith(result.out)
    assert "memorizing-discriminator  memorization unknown (bad > 0.67)" in verbose.out
    assert files(sound) == before  # no figure


def test_a_run_without_gauges_cannot_be_diagnosed(sound, tmp_path):
    (tmp_path / "config.json").write_text((sound / "config.json").read_text())
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss_d": 1.0, "loss_g": 1.0}\n')
    result = cli("doctor", "--no-figure", tmp_path)
    assert result.status == 2
    assert "cannot be diagnosed" in result.out
    assert "nothing found" not in result.out
    assert "an older version trained it, or " in result.out


def test_json_of_several_runs_is_strict(sick, sound):
    result = cli("doctor", "--json", "--no-figure", sick, sound)
    assert result.status == 1
    first, second = json.loads(result.out)
    (finding,) = first["findings"]
    assert finding["changes"] == {"schedule_steps": 40}
    assert finding["value"] == first["gauges"]["learning_rate"]["value"] == 0
    assert (second["findings"], second["state"]) == ([], "finished")


def test_a_remedy_is_a_config_for_train_and_overwrites_nothing(sick, sound, tmp_path):
    result = cli("doctor", sick, "--no-figure", "--remedy", tmp_path / "new")
    assert result.status == 1
    path = tmp_path / "new" / "config.json"
    assert f"minigan train --config {path}" in result.out.splitlines()[-1]
    before = json.loads((sick / "config.json").read_text())
    changed = {k: x for k, x in json.loads(path.read_text()).items() if x != before[k]}
    assert changed == {"schedule_steps": 40}
    assert cli("train", "--config", path, "--dry-run").status == 0
    before = files(tmp_path)
    assert f"{path} exists" in refused_after_output(sick, tmp_path / "new")
    assert "nothing was found" in refused_after_output(sound, tmp_path / "other")
    assert files(tmp_path) == before


def refused_after_output(run, folder):
    """The line on stderr where the diagnosis is printed, but no remedy can be written."""
    result = cli("doctor", run, "--no-figure", "--remedy", folder)
    assert result.status == 2
    (line,) = result.errors
    return line


def test_bad_words_are_one_line(sick, tmp_path):
    assert "has no config.json" in refused("doctor", tmp_path)
    assert "--remedy is for one run, not for 2" in refused("doctor", sick, sick, "--remedy", "x")


def test_the_help_says_what_the_exit_status_means():
    result = cli("doctor", "--help")
    assert result.status == 0
    assert "exit status is 0 if nothing was found" in " ".join(result.out.split())
