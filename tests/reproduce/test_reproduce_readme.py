"""The README of the experiments: its tables are those of the kept results."""

import re
from pathlib import Path

import pytest

from minigan.reproduce import EXPERIMENTS
from minigan.reproduce import readme as writer
from minigan.reproduce.readme import README, keep, with_results
from minigan.reproduce.table import missed_goals
from minigan.utils import strict_json

RESULTS = sorted((README.parent / "results").glob("*.json"))


def test_the_tables_are_written_from_the_results():
    assert with_results(README.read_text(), README.parent) == README.read_text()


def test_every_link_leads_to_a_file():
    """In a checkout: an installed package has no pictures."""
    folder = Path(__file__).parents[2] / "minigan" / "reproduce"
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (folder / target).exists(), target


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_kept_results_are_those_of_the_present_options(path):
    document, experiment = strict_json.loads(path.read_bytes()), EXPERIMENTS[path.stem]
    assert document["seeds"] == list(range(10))[: len(document["seeds"])]
    expected = {name: dict(case.config) for name, case in experiment.cases.items()}
    measured = {name: case["config"] for name, case in document["cases"].items()}
    assert measured == strict_json.loads(strict_json.dumps(expected))
    assert writer.minutes([document]) < 20
    assert document["missed_goals"] == missed_goals(experiment, document)


def test_a_text_says_over_which_seeds_numbers_are():
    assert writer._seeds(EXPERIMENTS["dirac"], [0]) == "One computation; nothing is random"
    assert writer._seeds(EXPERIMENTS["ring"], [3]) == "Seed 3 alone"
    assert writer._seeds(EXPERIMENTS["ring"], [0, 1]) == "Mean ± standard error over seeds 0 to 1"


def test_results_of_another_experiment_are_refused(tmp_path):
    (tmp_path / "results.json").write_text('{"experiment": "grid"}')
    with pytest.raises(ValueError, match=r"results of another experiment than ring"):
        keep("ring", tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"one line '<!-- results of ring"):
        with_results("", tmp_path)
