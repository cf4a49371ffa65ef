"""`minigan bench modes`: the options of its rows, what it measures, and its table."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from minigan import Config, bench
from minigan.bench import modes
from minigan.bench.plan import Plan
from minigan.utils import strict_json

TINY = {"steps": 2, "batch": 8, "schedule_steps": None}


def small_comparison(name, **changes):
    comparison = modes.COMPARISONS[name]
    shared = {**comparison.shared, **TINY}
    return replace(comparison, shared=shared, seeds=2, samples=50, draws=2, **changes)


def test_rows_of_a_contest_differ_in_the_method():
    method_options = {"loss", "penalty", "penalty_weight", "penalty_end", "penalty_steps"}
    method_options |= {"pack", "minibatch"}
    for comparison in modes.COMPARISONS.values():
        for options in comparison.methods.values():
            assert set(options) <= method_options
            Config(**comparison.shared, **options)
    assert list(modes.COMPARISONS["ring"].methods) == list(modes.COMPARISONS["grid"].methods)
    assert modes.COMPARISONS["ring"].seeds == modes.COMPARISONS["grid"].seeds == 10


@pytest.mark.parametrize("name", ["ring", "25 Gaussians"])
def test_each_method_is_measured_for_each_seed(name, tmp_path):
    comparisons = {name: small_comparison(name)}
    output, path = io.StringIO(), tmp_path / "modes.json"
    result = bench.run(["modes"], output=output, json_path=path, plan=Plan(comparisons=comparisons))
    # After two steps a divergence may be infinite, which JSON has not.
    assert strict_json.with_null(result) == json.loads(path.read_text())
    assert [case["method"] for case in result["modes"]] == list(comparisons[name].methods)
    for case in result["modes"]:
        assert case["seconds"] > 0
        assert case["config"]["steps"] == 2
        for key in modes.MEASURES:
            assert len(case[key]) == 2
            assert not np.isnan(case[key]).any()
    table = output.getvalue()
    assert f"modes: {name}, 2 steps of batch 8, 2 seeds" in table
    for row in (*comparisons[name].methods, *comparisons[name].published):
        assert f"\n{row} " in table
