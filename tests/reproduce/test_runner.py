"""`minigan reproduce`: the folder of an experiment, killed and going on, tables and goals."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from run_helpers import cli, refused

from minigan.reproduce import EXPERIMENTS, Case, Experiment, Goal, Measure, Outcome, reproduce
from minigan.reproduce.runner import FIGURE, PLAN, RESULTS, TABLE

calls = []


def draw_numbers(config, seed):
    """The seed, shifted; what the figure needs is the seed too."""
    calls.append((config["shift"], seed))
    if seed == config.get("killed_at"):
        raise KeyboardInterrupt
    value = math.inf if seed == config.get("infinite_at") else seed + config["shift"]
    return Outcome({"x": value, "y": 0.5}, {"points": np.full(3, seed)})


def draw(results, path):
    path.write_text(str([[int(a["points"][0]) for a in r.arrays] for r in results]))


def experiment(goal=None, **config):
    cases = {
        "Ours, 1": Case(draw_numbers, {"shift": 0, **config}, {"x": goal or Goal()}),
        "fixed": Case(draw_numbers, {"shift": 10}, seeds=1),
    }
    measures = {"x": Measure("x, %", 1, 100), "y": Measure("y", 2)}
    published = {"theirs": {"y": "0.7 ± 0.1"}}
    return Experiment("tiny", "A paper", 1, cases, measures, published, draw, "Seeds.")


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def run(folder, what=None, seeds=range(4), **options):
    return reproduce("tiny", what or experiment(), list(seeds), folder, workers=1, **options)


# ------------------------------------------------------------------------------------------ results
def test_each_case_is_measured_for_each_seed(tmp_path):
    document = run(tmp_path / "a")
    assert calls == [(0, 0), (0, 1), (0, 2), (0, 3), (10, 0)]
    ours, fixed = document["cases"].values()
    assert ours["values"] == {"x": [0, 1, 2, 3], "y": [0.5] * 4}
    assert ours["mean"]["x"] == 1.5
    np.testing.assert_allclose(ours["error"]["x"], math.sqrt(5 / 3 / 4), rtol=1e-12)
    assert (fixed["values"]["x"], fixed["seeds"]) == ([10], [0])
    assert len(ours["seconds"]) == 4
    assert {"processor", "python", "packages"} <= document["machine"].keys()
    stored = json.loads((tmp_path / "a" / RESULTS).read_text())
    assert stored.pop("cases")["fixed"]["error"]["x"] is None  # one seed has none
    assert stored == {key: x for key, x in document.items() if key != "cases"}
    assert (tmp_path / "a" / FIGURE).read_text() == "[[0, 1, 2, 3], [0]]"


def test_the_table_has_our_rows_and_the_published_ones(tmp_path):
    run(tmp_path / "a")
    rows = (tmp_path / "a" / TABLE).read_text().splitlines()
    assert rows[0] == "|  | x, % | y | s / seed |"
    assert rows[2] == "| Ours, 1 | 150.0 ± 64.5 | 0.50 ± 0.00 | 0.0 |"
    assert rows[3] == "| fixed | 1000.0 | 0.50 | 0.0 |"
    assert rows[4] == "| *theirs* |  | 0.7 ± 0.1 |  |"
    assert rows[6] == "*Published:* A paper."


@pytest.mark.parametrize(
    ("goal", "missed"),
    [
        (Goal(low=1.5), []),
        (Goal(high=1.5), []),
        (Goal(low=1.6), ["Ours, 1, x: 1.5, not at least 1.6"]),
        (Goal(1.6, 1.7), ["Ours, 1, x: 1.5, not at least 1.6 and at most 1.7"]),
    ],
)
def test_a_missed_goal_is_named(goal, missed, tmp_path):
    document = run(tmp_path, experiment(goal))
    assert document["missed_goals"] == missed
    assert (tmp_path / TABLE).read_text().count("Goal missed: ") == len(missed)


def test_a_value_that_is_not_finite_meets_no_goal(tmp_path):
    document = run(tmp_path, experiment(Goal(low=0), infinite_at=2))
    assert document["missed_goals"] == ["Ours, 1, x: not finite, not at least 0"]
    assert (tmp_path / TABLE).read_text().splitlines()[2] == "| Ours, 1 | - | 0.50 ± 0.00 | 0.0 |"


# --------------------------------------------------------------------------------- killed, going on
def test_a_killed_process_loses_no_seed_that_was_done(tmp_path):
    killed, said = experiment(), []
    first = killed.cases["Ours, 1"]
    killed.cases["Ours, 1"] = replace(first, measure=_stop_at_2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, killed)
    assert not (tmp_path / RESULTS).exists()
    calls.clear()
    document = run(tmp_path, say=said.append)
    assert calls == [(0, 2), (0, 3), (10, 0)]
    assert said == [f"{tmp_path}: 2 of 5 parts are done; going on with the others"]
    assert document["cases"]["Ours, 1"]["values"]["x"] == [0, 1, 2, 3]
    assert (tmp_path / FIGURE).read_text() == "[[0, 1, 2, 3], [0]]"


def _stop_at_2(config, seed):
    return draw_numbers({**config, "killed_at": 2}, seed)


def test_nothing_is_overwritten(tmp_path):
    run(tmp_path / "a")
    before = (tmp_path / "a" / RESULTS).read_bytes()
    with pytest.raises(ValueError, match=f"{tmp_path}/a has results already; give another --out"):
        run(tmp_path / "a")
    assert (tmp_path / "a" / RESULTS).read_bytes() == before
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"b is not empty and has no plan.json; give another"):
        run(tmp_path / "b")
    with pytest.raises(ValueError, match=r"mine.txt is a file, not a folder"):
        run(tmp_path / "b" / "mine.txt")
    with pytest.raises(ValueError, match="no seeds"):
        run(tmp_path / "c", seeds=[])
    assert not (tmp_path / "c").exists()


def test_a_process_killed_at_its_start_is_in_nobodys_way(tmp_path):
    (tmp_path / "seeds").mkdir()
    (tmp_path / "plan.json.0123.tmp").touch()
    assert run(tmp_path)["cases"]["fixed"]["values"]["x"] == [10]


@pytest.mark.parametrize(
    ("changes", "word"), [({"shift": 1}, "cases"), (None, "kernels"), (None, "package")]
)
def test_other_options_or_code_do_not_mix(changes, word, tmp_path):
    plan = tmp_path / PLAN
    what = replace(experiment(), draw=_fail)
    with pytest.raises(OSError, match="disk"):
        run(tmp_path, what)
    if changes is None:
        plan.write_text(json.dumps({**json.loads(plan.read_text()), word: "other"}))
    message = f"was begun with other {word} than this run has; give another --out, or remove it"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, experiment(**(changes or {})))


def test_a_damaged_plan_is_named(tmp_path):
    (tmp_path / PLAN).write_text('{"experiment": ')
    with pytest.raises(ValueError, match=r"plan.json cannot be read: .*; give another --out"):
        run(tmp_path)


def _fail(results, path):
    raise OSError("the disk is full")


# -------------------------------------------------------------------------------------- the command
def test_without_a_name_the_experiments_are_listed():
    lines = cli("reproduce").out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(EXPERIMENTS)
    assert all(0 < experiment.minutes <= 20 for experiment in EXPERIMENTS.values())


def test_the_command_prints_the_table_and_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment(Goal(low=0)))
    result = cli("reproduce", "tiny", "--seeds", "2", "--out", tmp_path / "a")
    assert (result.status, result.errors) == (0, [])
    assert "Ours, 1    200.0       0.50" in result.out
    assert str(tmp_path / "a" / RESULTS) in result.out
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment(Goal(low=3)))
    result = cli("reproduce", "tiny", "--seeds", "2", "--out", tmp_path / "b")
    assert result.status == 1
    assert "Goal missed: Ours, 1, x: 2, not at least 3." in result.out
    assert "unknown experiment 'tinny'; did you mean 'tiny'?" in refused("reproduce", "tinny")
    assert "--seeds x: seeds such as" in refused("reproduce", "tiny", "--seeds", "x")
