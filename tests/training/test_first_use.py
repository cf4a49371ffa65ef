"""A training's kernels are known before it begins, and compiled in parallel processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import threads

import minigan as mg
from minigan.kernels.runtime.cpu import ahead
from minigan.training.config import Config
from minigan.training.first_use import compile_kernels, stand_in
from minigan.training.trainer import Trainer


def names(kernels: ahead.Kernels) -> list[str]:
    return [kernel.py_func.__name__ for kernel, _ in kernels]


def test_what_is_collected_does_not_run() -> None:
    generator = mg.random.Generator(0)
    before = generator.state()
    w = mg.tensor(np.ones((3, 3), np.float32))
    with ahead.collect() as kernels, mg.random.use_generator(generator):
        x = mg.random.normal((3, 3)) @ w
        assert not x.numpy().any()
        with ThreadPoolExecutor() as pool:  # The launches of another thread run.
            assert pool.submit(lambda: (w @ w).numpy()[0, 0]).result() == 3
    assert generator.state() == before
    products = ["multiply_block", "pack", "multiply_panel", "multiply_blocks"]
    of_threads = ["_work", "_run_parallel_once"]
    assert names(kernels) == ["draw_normal", *of_threads, "add_blocks", *products]
    assert (w @ w).numpy().tolist() == [[3.0] * 3] * 3


def test_a_training_collects_the_kernels_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training itself stays as it is."""
    config = Config(model="mlp", batch=8, samples=64)
    trainer = Trainer(config)
    collected: ahead.Kernels = {}
    monkeypatch.setattr(ahead, "compile_ahead", lambda x, _: collected.update(x))
    compile_kernels(config, trainer.data)
    row = trainer.step(norms=True)
    assert row == Trainer(config).step(norms=True)
    needed = {"draw_uniform", "shuffle", "multiply_panel", "adam_rule", "replay_launches"}
    assert needed < {*names(collected)}


@pytest.mark.parametrize("data", ["glyphs", "ring", "python:mine"])
def test_generated_images_have_a_stand_in(data: str) -> None:
    few = stand_in(Config(data=data, model="mlp"))
    assert (few is None) == (data != "glyphs")
    if few is not None:
        assert few.sample_shape == (1, 28, 28)
        assert few.classes == 10


def test_processes_that_were_killed_leave_the_work_to_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ahead.collect() as kernels:
        mg.random.normal((3,))
    monkeypatch.setattr(ahead, "is_cached", lambda *_: False)
    monkeypatch.setattr(ahead, "_compilers", None)
    with threads(2):
        compilers = ahead._start()
        assert compilers is not None
        for process in compilers._processes:
            process.kill()
        reports: list[tuple[int, int]] = []
        ahead.compile_ahead(kernels, lambda *numbers: reports.append(numbers))
        ahead.finish_compiling()
    assert ahead._compilers is None
    assert [process.wait(5) for process in compilers._processes] == [-9, -9]
    assert set(reports) == {(i + 1, len(kernels)) for i in range(len(kernels))}
    assert mg.random.normal((3,)).numpy().any()


TRAIN = """
import json, sys
from minigan.cli import main
from minigan.kernels.runtime.cpu import compiler
compiled = []
compiler._report_compilation = lambda function: compiled.append(function.__name__)
main(["train", "--steps", "2", "--samples", "256", "--threads", "2", "--out", sys.argv[1]])
print(json.dumps(compiled))
"""


@pytest.mark.slow
def test_the_first_training_compiles_nothing_itself(tmp_path: Path) -> None:
    """From an empty cache; the second one starts no processes. Their bits are equal."""
    runs = []
    for name in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, str(tmp_path / name)],
            env={**os.environ, "MINIGAN_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == []
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        runs.append([{**json.loads(x), "steps_per_second": 0} for x in lines])
        assert ("compiling kernels, once" in done.stderr) <= (name == "first")
    assert runs[0] == runs[1]
