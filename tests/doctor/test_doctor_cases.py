"""The doctor names each of twelve planted failures, and raises no alarm on ten healthy runs."""

from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from minigan import Config
from minigan.data import Dataset, load
from minigan.doctor import diagnose
from minigan.doctor.cases import matrix, readme, remedies
from minigan.doctor.cases.healthy import HEALTHY
from minigan.doctor.cases.matrix import Matrix, measure_matrix
from minigan.doctor.cases.measures import MEASURES, measure_run
from minigan.doctor.cases.planted import PLANTED
from minigan.doctor.cases.runs import Result, run_case
from minigan.doctor.rules import NAMES

NOTHING = Result((), {}, 1.0, 1.0, "", 0.0)


def found(*names):
    return replace(NOTHING, findings=names)


def perfect():
    """A matrix without a mistake."""
    return Matrix(
        {name: [found(name)] * 2 for name in PLANTED} | {name: [NOTHING] for name in HEALTHY}
    )


def test_the_cases_are_twelve_failures_of_the_doctors_and_ten_healthy_runs():
    assert list(PLANTED)
    assert {*PLANTED, "unbounded-critic", "far-from-data"} == set(NAMES)
    assert (len(PLANTED), len(HEALTHY)) == (12, 10)
    assert len({str(case.options) for case in matrix.ALL.values()}) == 22  # no run is there twice


def test_the_matrix_counts_what_is_missed_and_false():
    right = perfect()
    assert not right.missed
    assert not right.false_alarms
    assert not right.further
    wrong = Matrix(
        {
            **right.results,
            "oscillation": [found("oscillation"), found("mode-collapse")],
            "glyphs, MLP": [found("dead-units")],
        }
    )
    assert wrong.missed == ["oscillation"]
    assert wrong.false_alarms == ["glyphs, MLP: dead-units"]
    assert wrong.further == ["oscillation: mode-collapse"]
    line = next(x for x in matrix.text(wrong).splitlines() if " oscillation " in x)
    cells = dict(zip(PLANTED, line.split()[2:14], strict=True))
    assert {name for name, cell in cells.items() if cell != "."} == {"oscillation", "mode-collapse"}


def test_measures_of_real_samples_and_of_one_mode():
    ring = load("ring", samples=800)
    one = np.broadcast_to(ring.modes[3], ring.values.shape)
    values = {
        name: [measure.compute(samples, ring.labels, ring) for samples in (ring.values, one)]
        for name, measure in MEASURES.items()
    }
    assert values["distance"][0] == 0
    assert values["modes"] == [8, 1]
    assert values["label agreement"] == [1, (ring.labels == 3).mean()]
    large = Dataset("large", ring.values * 1000)
    distance = MEASURES["distance"].compute(one * 1000, ring.labels, large)
    assert distance == pytest.approx(values["distance"][1], rel=1e-5)  # float32 inside
    assert 1 < distance < 2  # the ring has radius 1 and deviation 0.7


def test_the_figure_is_drawn(tmp_path):
    matrix.draw(perfect(), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 10_000


def test_a_remedy_is_better_only_if_each_seed_is():
    low, high = replace(NOTHING, value=0.1), replace(NOTHING, value=0.5)
    distance = remedies.Remedied("oscillation", (high, high), (low, low))
    assert MEASURES["distance"].is_better_high is False
    assert distance.is_better
    assert not replace(distance, after=(low, high)).is_better
    modes = remedies.Remedied("mode-collapse", (low, low), (high, high))
    assert modes.is_better
    assert not replace(modes, before=(high, high), after=(low, low)).is_better


def test_a_failure_is_named_and_remedied_by_the_doctors_own_changes(tmp_path):
    """The quickest case, with its folder."""
    case = PLANTED["learning-rate-exhausted"]
    before = run_case(case, 1, folder=tmp_path)
    names = [finding.name for finding in diagnose(tmp_path / "run").findings]
    assert names == ["learning-rate-exhausted"] == list(before.findings)
    assert measure_run(tmp_path / "run", case.measure) == (before.value, before.floor)
    changes = remedies.changes_for("learning-rate-exhausted", before)
    after = run_case(case, 1, changes)
    assert after.value < 0.6 * before.value
    assert after.floor == before.floor
    assert not after.findings


def test_the_tables_of_the_readme_are_those_of_the_stored_results():
    results, helped = readme.read()
    assert readme.block(results, helped) in readme.README.read_text()
    assert not results.missed
    assert not results.false_alarms
    assert [x.name for x in helped] == list(PLANTED)
    assert all(len(x.before) == len(x.after) == len(remedies.SEEDS) for x in helped)
    assert not [x.name for x in helped if not x.is_better]


@pytest.mark.slow
def test_each_planted_failure_is_named_and_no_healthy_run_is_alarmed(capsys):
    """Two seeds of each failure; the confusion matrix is printed."""
    result = measure_matrix()
    with capsys.disabled():
        print("\n" + matrix.text(result))
    assert not result.missed, result.missed
    assert not result.false_alarms, result.false_alarms
    assert len(result.further) <= 4, result.further


def test_the_floor_of_a_conditional_case_has_the_labels_asked_for():
    """Test data of which labels decide nearly all of a distance: the right G is at the floor."""
    modes = load("ring", samples=8).modes

    def sample(n, labels):
        noise = 0.01 * np.random.default_rng(0).standard_normal((n, 2))
        return (modes[labels] + noise).astype(np.float32)

    config = Config(data="ring", condition="concat")
    sampler = SimpleNamespace(shape=(2,))
    run = SimpleNamespace(config=config, sampler=sampler, sample=sample)
    with mock.patch("minigan.doctor.cases.measures.load_run", return_value=run):
        value, floor = measure_run("run", "distance")
    assert 0.5 < value / floor < 2
