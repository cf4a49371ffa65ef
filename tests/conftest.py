"""What all tests share: hypothesis profiles, numba's threads, one seed, ops that go away again."""

import os
from collections.abc import Callable, Iterator
from typing import Any

# Parallel kernels are tested with two threads, on a machine of one core too.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

import numba
import numpy as np
import pytest
from emulator_helpers import NO_GPU, has_gpu
from helpers import rooms
from hypothesis import settings

import minigan as mg
from minigan.engine.device import Device, get_device
from minigan.engine.op import Op
from minigan.kernels.runtime.cuda.launcher import Launcher

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=10)
settings.register_profile("nightly", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """One seed, and one thread but where a test asks for more: workers share the cores."""
    mg.manual_seed(0)
    numba.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_op() -> Iterator[Callable[..., Op]]:
    """Op(..), forgotten after the test."""
    before = dict(Op.registry)
    yield Op
    for name in Op.registry.keys() - before.keys():
        del Op.registry[name]


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Kernels get results' memory full of bytes 0xFF (NaN, -1, no bool); its shapes are listed."""
    shapes: list[tuple[int, ...]] = []

    def empty(shape: tuple[int, ...], dtype: object) -> np.ndarray:
        shapes.append(shape)
        y = np.empty(shape, dtype)
        y.reshape(-1).view(np.uint8)[...] = 0xFF
        return y

    for room in rooms():
        if hasattr(room, "empty"):
            monkeypatch.setattr(room, "empty", empty)
    for name in ["cuda-emulator", *["cuda"] * has_gpu()]:
        _poison(get_device(name).launcher, monkeypatch, shapes)  # type: ignore[attr-defined]
    return shapes


def _poison(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, shapes: list[tuple[int, ...]]
) -> None:
    def empty(shape: tuple[int, ...], dtype: object) -> object:
        shapes.append(shape)
        y = np.empty(shape, dtype)  # type: ignore[call-overload]
        y.reshape(-1).view(np.uint8)[...] = 0xFF
        return launcher.from_numpy(y)

    monkeypatch.setattr(launcher, "empty", empty)


@pytest.fixture
def poisoned_device(device: str, monkeypatch: pytest.MonkeyPatch) -> Device:
    """The CUDA device of a test's parameter, whose new memory is full of NaN."""
    target = get_device(device)
    _poison(target.launcher, monkeypatch, [])  # type: ignore[attr-defined]
    return target


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many tests a machine without a GPU left out."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(NO_GPU in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests need a GPU and were skipped: there is none")
