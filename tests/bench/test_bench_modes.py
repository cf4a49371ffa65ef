"""`minigan bench modes`: what its rows share, what it measures, and its table."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from minigan import Config, bench
from minigan.bench import modes
from minigan.bench.plan import Plan

TINY = {"steps": 2, "batch": 8, "schedule_steps": None}


def small(name, **changes):
    contest = modes.CONTESTS[name]
    shared = {**contest.shared, **TINY}
    return replace(contest, shared=shared, seeds=2, samples=50, draws=2, **changes)


def test_rows_of_a_contest_differ_in_the_method_alone():
    method = {"loss", "penalty", "penalty_weight", "penalty_end", "penalty_steps"}
    method |= {"pack", "minibatch"}
    for contest in modes.CONTESTS.values():
        for options in contest.rows.values():
            assert set(options) <= method
            Config(**contest.shared, **options)
    assert list(modes.CONTESTS["ring"].rows) == list(modes.CONTESTS["grid"].rows)
    assert modes.CONTESTS["ring"].seeds == modes.CONTESTS["grid"].seeds == 10


@pytest.mark.parametrize("name", ["ring", "25 Gaussians"])
def test_each_row_is_measured_for_each_seed_and_tabled(name, tmp_path):
    contests = {name: small(name)}
    output, path = io.StringIO(), tmp_path / "modes.json"
    found = bench.run(["modes"], output=output, json_path=path, plan=Plan(contests=contests))
    assert found == json.loads(path.read_text())
    assert [case["method"] for case in found["modes"]] == list(contests[name].rows)
    for case in found["modes"]:
        assert case["seconds"] > 0
        assert case["config"]["steps"] == 2
        for key in modes.MEASURES:
            assert len(case[key]) == 2
            assert not np.isnan(case[key]).any()
    table = output.getvalue()
    assert f"modes: {name}, 2 steps of batch 8, 2 seeds" in table
    for row in (*contests[name].rows, *contests[name].published):
        assert f"\n{row} " in table
