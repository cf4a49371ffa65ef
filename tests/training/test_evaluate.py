"""`evaluate`: distances to held-out data, beside what two draws of the data come to."""

import json
import math
import re

import numpy as np
import pytest
from run_helpers import RING, cli, train

from minigan import Config, Trainer
from minigan.training.evaluate import Estimate, evaluate

CONFIG = Config(data="ring", samples=1500, batch=32)


def test_an_estimate_is_a_mean_and_its_standard_error():
    estimate = Estimate.of([1.0, 2.0, 3.0, 6.0])
    assert estimate.mean == 3
    assert estimate.error == pytest.approx(math.sqrt(14 / 3) / 2)
    assert str(estimate) == "3.0000 +- 1.0801"
    assert str(Estimate.of([2.0])) == "2.0000"
    assert str(Estimate.of([math.inf, 1.0])) == "inf"
    assert Estimate.of([math.inf, 1.0]).as_dict() == {"mean": None, "error": None}
    assert Estimate.of([2.0]).as_dict() == {"mean": 2.0, "error": None}


def test_the_data_themselves_are_at_the_floor_and_an_untrained_generator_is_not(monkeypatch):
    trainer = Trainer(CONFIG)
    untrained = evaluate(trainer)
    floor = untrained["sliced_wasserstein_floor"]
    assert untrained["sliced_wasserstein"].mean > 4 * floor.mean
    assert untrained["modes"].mean < 4
    assert untrained["high_quality"].mean < 0.05

    def real(n, seed):
        return trainer.data.values[np.random.default_rng(seed).permutation(len(trainer.data))[:n]]

    monkeypatch.setattr(trainer, "sample", lambda n, seed, labels=None: real(min(n, 1350), seed))
    perfect = evaluate(trainer)
    error = math.hypot(perfect["sliced_wasserstein"].error, floor.error)
    assert abs(perfect["sliced_wasserstein"].mean - floor.mean) < 5 * error
    assert perfect["sliced_wasserstein_floor"] == floor
    assert perfect["modes"] == Estimate(8.0, 0.0)
    assert abs(perfect["high_quality"].mean - 0.9889) < 0.01


def test_it_repeats_and_changes_nothing():
    trainer = Trainer(CONFIG)
    trainer.step()
    tensors, info = trainer.state()
    first, again = (evaluate(trainer, 16) for _ in range(2))
    assert {k: x.as_dict() for k, x in first.items()} == {k: x.as_dict() for k, x in again.items()}
    after, info_after = trainer.state()
    assert info == info_after
    assert all(np.array_equal(tensors[name], after[name]) for name in tensors)


def test_only_mixtures_have_modes():
    estimates = evaluate(Trainer(CONFIG.replace(data="swiss-roll", samples=100)), 8)
    assert list(estimates) == ["sliced_wasserstein", "sliced_wasserstein_floor"]


def test_there_must_be_something_to_compare_with():
    with pytest.raises(ValueError, match="held no data out"):
        evaluate(Trainer(CONFIG.replace(holdout=0.0)))
    with pytest.raises(ValueError, match="600 training samples cannot be compared with 900"):
        evaluate(Trainer(CONFIG.replace(holdout=0.6)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    train(folder, *RING, "--steps", 3)
    return folder


def test_the_command_prints_each_number_beside_its_floor(run):
    result = cli("evaluate", run)
    assert (result.status, result.errors) == (0, [])
    lines = result.out.splitlines()
    assert lines[0] == "step 3, 60 samples a draw, mean +- standard error over draws"
    assert len(lines) == 6
    number = r"\d+\.\d{4}( \+- \d+\.\d{4})?|inf"
    for line, start in zip(
        lines[1:],
        ("sliced Wasserstein", "its floor", "modes covered, of 8", "share within", "reverse KL"),
        strict=True,
    ):
        assert line.strip().startswith(start)
        assert re.search(f" ({number})$", line), line


def test_the_command_prints_json_that_any_reader_takes(run):
    result = cli("evaluate", run, "--json", "--projections", 16)
    estimates = json.loads(result.out, parse_constant=pytest.fail)
    names = ["sliced_wasserstein", "sliced_wasserstein_floor", "modes", "high_quality"]
    assert list(estimates) == [*names, "reverse_kl"]
    for value in estimates.values():
        assert set(value) == {"mean", "error"}
    assert (
        estimates["sliced_wasserstein"]["mean"] > estimates["sliced_wasserstein_floor"]["mean"] > 0
    )
    assert cli("evaluate", run, "--json", "--projections", 16).out == result.out


@pytest.mark.parametrize("projections", [0, -4])
def test_projections_are_positive(run, projections):
    result = cli("evaluate", run, "--projections", projections)
    assert result.status == 2
    assert result.errors == [
        f"minigan evaluate: error: sliced_wasserstein: projections = {projections} is not positive"
    ]
