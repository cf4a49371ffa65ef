"""The experiments on mixtures of Gaussians: their rows, what is measured, and a collapsed G."""

from dataclasses import replace

import numpy as np
import pytest

from minigan.data import load
from minigan.reproduce import EXPERIMENTS, Goal, mixtures, reproduce
from minigan.reproduce.runner import FIGURE
from minigan.reproduce.table import missed_goals
from minigan.training.config import Config

GANS = {"ring": ["data", "r3gan"], "grid": ["data", "r3gan"]}
GANS["grid-modern"] = list(EXPERIMENTS["grid-modern"].cases)
SHORT_GOALS = {"modes": Goal(low=8), "high_quality": Goal(low=0.9), "reverse_kl": Goal(high=0.02)}


def small(name, case_names, **changes):
    """An experiment with few steps, samples and cases."""
    experiment = EXPERIMENTS[name]
    cases = {}
    for case_name in case_names:
        case = experiment.cases[case_name]
        config = {**case.config, "samples": 200}
        if "training" in config:
            training = {**config["training"], "steps": 2, "batch": 8, "penalty_steps": None}
            config["training"] = {**training, **changes}
        cases[case_name] = replace(case, config=config)
    return replace(experiment, cases=cases)


def test_the_rows_differ_in_the_method():
    method_options = {"loss", "penalty", "penalty_weight", "penalty_end", "pack"}
    for name in ("ring", "grid"):
        cases = EXPERIMENTS[name].cases
        trainings = [
            case.config["training"] for case in cases.values() if "training" in case.config
        ]
        assert len(trainings) == 4
        for training in trainings:
            different = {key for key in training if training[key] != trainings[0][key]}
            assert different <= method_options
            Config.from_dict(training)
    assert list(EXPERIMENTS["ring"].cases) == list(EXPERIMENTS["grid"].cases)


def test_grid_modern_has_the_published_networks_batch_and_steps():
    training = list(EXPERIMENTS["grid-modern"].cases.values())[1].config["training"]
    expected = {"model": "toy-wide", "batch": 256, "steps": 20_000, "n_critic": 1}
    assert {key: training[key] for key in expected} == expected
    assert training["latent_size"] in (None, 64)


@pytest.mark.parametrize("name", GANS)
def test_gans_and_data_are_measured(name, tmp_path):
    experiment = small(name, GANS[name])
    document = reproduce(name, experiment, [0, 1], tmp_path / "a", workers=1)
    real, gan = document["cases"].values()
    modes = 8 if name == "ring" else 25
    assert real["values"]["modes"] == [modes] * 2
    assert min(real["values"]["high_quality"]) > 0.97
    assert max(gan["values"]["high_quality"]) < 0.5  # after two steps
    assert document["missed_goals"]
    assert (tmp_path / "a" / FIGURE).stat().st_size > 5000


def test_a_collapsed_generator_meets_no_goal(monkeypatch, tmp_path):
    data = load("grid")

    def one_mode(self, n, seed=0):
        return data.modes[:1] + 0.01 * np.random.default_rng(seed).normal(size=(n, 2))

    monkeypatch.setattr(mixtures.Trainer, "sample", one_mode)
    experiment = small("grid-modern", GANS["grid-modern"][1:])
    document = reproduce("grid-modern", experiment, [0], tmp_path, workers=1)
    missed = " ".join(missed_goals(experiment, document))
    assert "modes: 1, not at least 25" in missed
    assert "kl: 3." in missed  # log 25
    assert "high_quality" not in missed  # each of its samples is near a mode


@pytest.mark.slow  # 8,000 steps: 10 to 30 seconds
def test_one_seed_of_a_short_ring_has_all_modes_evenly(tmp_path):
    experiment = EXPERIMENTS["ring"]
    case = experiment.cases["r3gan"]
    training = {**case.config["training"], "steps": 8000, "schedule_steps": None}
    short = replace(case, config={**case.config, "training": training}, goals=SHORT_GOALS)
    document = reproduce("ring", replace(experiment, cases={"r3gan": short}), [0], tmp_path)
    assert document["missed_goals"] == []
