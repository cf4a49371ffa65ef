"""What `minigan evaluate` says of runs with an average of G: the average, and G itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_helpers import cli, train

import minigan as mg
from minigan import Config, Trainer
from minigan.data import Dataset
from minigan.metrics import sliced_wasserstein
from minigan.training.evaluate import DRAWS, evaluate

RING = ["--data", "ring", "--samples", 400, "--batch", 16, "--steps", 3, "--lr", 0.01]


def shades(classes: int = 2) -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % classes
    values = np.tanh(0.3 * rng.standard_normal((40, 1, 4, 4)) + labels[:, None, None, None] - 0.5)
    return Dataset("shades", values, labels)


def trained(**options: Any) -> Trainer:
    run = Trainer(Config(batch=8, holdout=0.25, lr_g=0.05, **options), data=shades())
    for _ in range(3):
        run.step()
    return run


def test_the_two_distances() -> None:
    run = trained(ema=0.999)
    real = run.held_out.values
    estimates = evaluate(run, projections=16)
    for name, averaged in (
        ("sliced_wasserstein", True),
        ("sliced_wasserstein_without_average", False),
    ):
        draws = [run.sampler.sample(len(real), k, averaged=averaged) for k in range(DRAWS)]
        values = [sliced_wasserstein(x, real, 16, seed=k) for k, x in enumerate(draws)]
        assert estimates[name].mean == pytest.approx(np.mean(values)), name
    with mg.no_grad():
        generator = run.generator.eval()(run.fixed_latent).numpy()
    assert np.array_equal(run.sampler.generate(run.fixed_latent, averaged=False), generator)
    assert not np.array_equal(run.sampler.generate(run.fixed_latent), generator)
    assert list(estimates) == [
        *("sliced_wasserstein", "sliced_wasserstein_without_average", "sliced_wasserstein_floor"),
    ]


def test_a_run_without_an_average_has_one_distance() -> None:
    run = trained()
    assert list(evaluate(run, 16)) == ["sliced_wasserstein", "sliced_wasserstein_floor"]
    latent = run.fixed_latent
    plain = run.sampler.generate(latent)
    assert np.array_equal(run.sampler.generate(latent, averaged=False), plain)


def test_labels_of_both() -> None:
    estimates = evaluate(trained(ema=0.5, condition="concat"), 16)
    names = [name for name in estimates if name.startswith("label_agreement")]
    assert names == [
        *("label_agreement", "label_agreement_without_average", "label_agreement_permuted"),
    ]
    assert all(0 <= estimates[name].mean <= 1 for name in names)


def test_the_command_prints_g_below_its_average(tmp_path: Path) -> None:
    train(tmp_path / "run", *RING, "--ema", 0.9)
    first, *lines = cli("evaluate", tmp_path / "run").out.splitlines()
    assert first.startswith("step 3, 40 samples a draw")
    of_g = "    the same of G itself, without its average"
    starts = [
        *("  sliced Wasserstein, generated", of_g, "  its floor", "  modes covered, of 8", of_g),
        *("  share within 3 sigma", of_g, "  reverse KL", of_g),
    ]
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True)), lines
    values = json.loads(cli("evaluate", tmp_path / "run", "--json").out)
    assert {f"{name}_without_average" for name in ("modes", "high_quality", "reverse_kl")} < {
        *values
    }
    columns = [line[51:].split()[0] for line in lines]
    assert columns[:2] == [
        f"{values[name]['mean']:.4f}"
        for name in ("sliced_wasserstein", "sliced_wasserstein_without_average")
    ]
