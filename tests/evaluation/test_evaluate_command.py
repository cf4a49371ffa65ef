"""The command `minigan evaluate`: its table, JSON, CSV and file, and bad input."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from run_helpers import RING, cli, files, refused, train

from minigan.evaluation.files import read_evaluation
from minigan.evaluation.table import number


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("evaluate")
    words = ["--batch", 16, "--device", "reference", "--evaluate-every", 2]
    train(place / "a", *RING, *words, "--steps", 3, "--ema", 0.9)
    train(place / "b", *RING, *words, "--steps", 5, "--lr", 0.01)
    train(place / "c", "--data", "swiss-roll", "--samples", 300, *words, "--steps", 2)
    return place


def test_the_table_of_a_run(runs):
    result = cli("evaluate", runs / "a")
    assert (result.status, result.errors) == (0, [])
    first, header, *lines = result.out.splitlines()
    assert first == "step 3, data ring, 60 held-out samples"
    assert header.split() == ["measure", "samples", "generated", "real", "G", "itself"]
    rows = [line for line in lines if line.startswith("  ")]
    assert len(rows) == 16  # all measures of a mixture in the plane
    evaluation = read_evaluation(runs / "a" / "evaluation.json")
    assert evaluation["step"] == 3
    for row, measured in zip(rows, evaluation["measures"], strict=True):
        assert row.strip().startswith(measured["label"])
        assert f" {measured['samples']} " in row
        if measured["value"] is not None:
            assert f" {number(measured['value'])}" in row
    assert "FID" not in result.out


def test_the_file_has_what_other_programs_read(runs):
    assert cli("evaluate", runs / "c").status == 0
    values = json.loads((runs / "c" / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert (values["step"], values["steps"], values["held_out"]) == (2, 2, 30)
    first = values["measures"][0]
    assert first["name"] == "sliced_wasserstein_n30"
    assert first["low"] < first["value"] < first["high"]
    assert first["value"] > first["floor"] > 0
    assert (first["samples"], first["better"]) == (30, "low")
    (runs / "c" / "evaluation.json").write_text('{"step": 3, "measures": [{}]}')
    with pytest.raises(ValueError, match=r"evaluation\.json cannot be read: 'name' is missing"):
        read_evaluation(runs / "c" / "evaluation.json")
    assert read_evaluation(runs / "none.json") is None


def test_several_runs_stand_in_one_table(runs):
    result = cli("evaluate", runs / "a", runs / "b", runs / "c", "--only", "quick")
    assert (result.status, result.errors) == (0, [])
    lines = result.out.splitlines()
    assert lines[0] == f"[1] {runs / 'a'}: step 3, data ring, 60 held-out samples"
    assert lines[3].split() == ["measure", "samples", "[1]", "real", "[2]", "real", "[3]", "real"]
    assert "different data (ring, swiss-roll)" in result.out
    modes = next(line for line in lines if "modes covered" in line)
    assert modes.count("+-") == 2  # none of the third
    assert not (runs / "b" / "evaluation.json").exists()  # with --only nothing is written


def test_json_and_csv_hold_the_same(runs):
    words = ["evaluate", runs / "a", runs / "b", "--only", "sliced_wasserstein,modes"]
    both = json.loads(cli(*words, "--json").out, parse_constant=pytest.fail)
    rows = list(csv.DictReader(io.StringIO(cli(*words, "--csv").out)))
    assert [x["run"] for x in both] == [str(runs / "a"), str(runs / "b")]
    flat = [(x["run"], m["name"], m["value"]) for x in both for m in x["measures"]]
    assert [(x["run"], x["name"], float(x["value"])) for x in rows] == flat
    assert len(flat) == 4
    one = json.loads(cli("evaluate", runs / "a", "--only", "modes", "--json").out)
    assert one["run"] == str(runs / "a")
    assert "--json" in cli("evaluate", runs / "a", "--json", "--csv").err


def test_a_step_is_measured_and_nothing_written(runs):
    before = files(runs / "b")
    result = cli("evaluate", runs / "b", "--step", "best", "--only", "quick", "--json")
    step = json.loads(result.out)["step"]
    assert step in (2, 4)
    assert f"best           step {step}," in cli("info", runs / "b").out
    first = cli("evaluate", runs / "b", "--step", "best", "--only", "modes").out.splitlines()[0]
    assert first == f"step {step} of 5, data ring, 60 held-out samples"
    assert "no snapshot of step 3" in refused("evaluate", runs / "b", "--step", 3)
    assert files(runs / "b") == before


def test_an_interrupted_run_is_measured_at_its_checkpoint_and_said(runs, tmp_path):
    run = shutil.copytree(runs / "b", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"steps": 100}))
    first = cli("evaluate", run, "--only", "sliced_wasserstein").out.splitlines()[0]
    assert first == "step 5 of 100, not finished, data ring, 60 held-out samples"


def test_a_file_that_cannot_be_written_is_said(runs, tmp_path, monkeypatch):
    def refuse(path, evaluation):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("minigan.evaluation.files.write_evaluation", refuse)
    result = cli("evaluate", runs / "c")
    assert result.status == 0
    assert "sliced Wasserstein" in result.out
    assert result.errors == [
        f"minigan evaluate: note: cannot write {runs / 'c' / 'evaluation.json'}: Read-only file"
        " system"
    ]


@pytest.mark.parametrize("projections", [0, -4])
def test_projections_are_positive(runs, projections):
    line = refused("evaluate", runs / "a", "--projections", projections)
    assert f"sliced_wasserstein: projections = {projections} is not positive" in line


def test_bad_input_is_one_line(runs, tmp_path):
    assert "did you mean 'frechet'" in refused("evaluate", runs / "a", "--only", "frechett")
    assert "is named twice" in refused("evaluate", runs / "a", runs / "a")
    assert "is not a run" in refused("evaluate", runs / "a", tmp_path)
    train(tmp_path / "none", *RING, "--steps", 1, "--holdout", 0, "--device", "reference")
    line = refused("evaluate", tmp_path / "none")
    assert f"{tmp_path / 'none'}: the run held no data out (holdout 0)" in line


def test_moved_data_of_some_of_several_runs(runs, tmp_path):
    np.savez(tmp_path / "points.npz", x=np.random.default_rng(0).standard_normal((80, 2)))
    words = ["--batch", 8, "--device", "reference", "--steps", 1]
    train(tmp_path / "own", "--data", tmp_path / "points.npz", *words)
    (tmp_path / "points.npz").rename(tmp_path / "moved.npz")
    folders = [runs / "a", tmp_path / "own"]
    words = ["--data", tmp_path / "moved.npz", "--only", "sliced_wasserstein"]
    assert cli("evaluate", *folders, *words).status == 0
