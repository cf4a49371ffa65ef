"""A training's kernels are known before it begins, and compiled in parallel processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import threads

import minigan as mg
from minigan.gan.models import MODELS
from minigan.kernels.runtime.cpu import ahead, compiler
from minigan.kernels.runtime.recording import collect
from minigan.training.config import Config
from minigan.training.first_use import compile_kernels, stand_in
from minigan.training.trainer import Trainer


def names(kernels: ahead.Kernels) -> list[str]:
    return [kernel.py_func.__name__ for kernel, _ in kernels]


def test_what_is_collected_does_not_run() -> None:
    generator = mg.random.Generator(0)
    before = generator.state()
    w = mg.tensor(np.ones((3, 3), np.float32))
    with collect() as kernels, mg.random.use_generator(generator):
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


def kernels_of(draw: Callable[[], Any]) -> ahead.Kernels:
    with collect() as kernels:
        draw()
    return kernels


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that compile_ahead starts, for kernels that all count as missing."""
    started: list[subprocess.Popen[bytes]] = []

    class Spy(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(ahead, "is_cached", lambda *_: False)
    monkeypatch.setattr(ahead.subprocess, "Popen", Spy)
    with threads(2):
        yield started
    for process in started:
        process.wait(20)
    assert all(is_done(0) for is_done in compiler.compiled_elsewhere.values())
    compiler.compiled_elsewhere.clear()


def test_processes_compile_what_is_missing_and_end(processes: list[Any]) -> None:
    kernels = kernels_of(lambda: mg.random.normal((3,)))
    reports: list[tuple[int, int]] = []
    ahead.compile_ahead(kernels, lambda *numbers: reports.append(numbers))
    ahead.finish_compiling()
    assert [process.wait(20) for process in processes] == [0, 0]
    assert reports == [(i + 1, len(kernels)) for i in range(len(kernels))]


def test_processes_that_are_killed_leave_the_work_to_this_one(processes: list[Any]) -> None:
    kernels = kernels_of(lambda: mg.random.normal((3,)))
    ahead.compile_ahead(kernels)
    for process in processes:
        process.kill()
    ahead.finish_compiling()
    assert mg.random.normal((3,)).numpy().any()


def test_a_bar_that_fails_stops_nothing(processes: list[Any]) -> None:
    def report(*_: int) -> None:
        raise RuntimeError("no terminal")

    ahead.compile_ahead(kernels_of(lambda: mg.random.normal((3,))), report)
    ahead.finish_compiling()


@pytest.mark.parametrize("what", ["processes", "threads"])
def test_a_system_without_more(
    what: str, processes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError if what == "processes" else RuntimeError

    if what == "processes":
        monkeypatch.setattr(ahead.subprocess, "Popen", refuse)
    else:
        monkeypatch.setattr(ahead.threading.Thread, "start", refuse)
    ahead.compile_ahead(kernels_of(lambda: mg.random.normal((3,))))
    assert not compiler.compiled_elsewhere


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_waits_for_nobody() -> None:
    compiler.compiled_elsewhere[test_a_forked_child_waits_for_nobody, ()] = threading.Event().wait
    child = os.fork()
    if not child:
        os._exit(len(compiler.compiled_elsewhere))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    compiler.compiled_elsewhere.clear()


def test_a_captured_step_is_not_kept_while_kernels_are_collected() -> None:
    @mg.capture
    def step(x: mg.Tensor) -> mg.Tensor:
        return x * 2 + 1

    one = mg.tensor(np.ones(3, np.float32))
    with collect():
        assert not step(one).numpy().any()
    assert step(one).numpy().tolist() == step(one).numpy().tolist() == [3.0] * 3


def test_code_of_the_users_own_does_not_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may draw random numbers, which would be others in the training."""
    monkeypatch.setattr(ahead, "compile_ahead", lambda *_: pytest.fail("it was run"))
    built = []

    @mg.models.register("counted")
    def build(sample_shape: tuple[int, ...], latent_size: int) -> Any:
        built.append(sample_shape)
        return MODELS["toy"].build(sample_shape, latent_size)

    try:
        Trainer(Config(data="ring", model="counted", samples=500), progress=True)
    finally:
        del MODELS["counted"]
    assert built == [(2,)]


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
