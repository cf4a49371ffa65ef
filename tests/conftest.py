"""Settings and fixtures of all tests: hypothesis profiles, threads, seed, ops, poisoned memory."""

import os
from collections.abc import Callable, Iterator
from typing import Any

# Multithreaded kernels are tested with two threads, on a machine with one core too.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

import numba
import numpy as np
import pytest
from emulator_helpers import NO_GPU, has_gpu
from helpers import cpu_modules, poison
from hypothesis import settings

import minigan as mg
from minigan.engine.device import Device, get_device
from minigan.engine.op import Op
from minigan.kernels.runtime.cuda.launcher import Launcher

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=10)
settings.register_profile("nightly", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", help="run only the tests that have this device, say cuda")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what does not run on the device of the option: a GPU's time is for its tests."""
    name = config.getoption("--device")
    if name is None:
        return
    config.hook.pytest_deselected(items=[item for item in items if name not in _names(item)])
    items[:] = [item for item in items if name in _names(item)]


def _names(item: pytest.Item) -> list[str]:
    """Return the parameters of a test that are text, devices among them."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return [x for x in parameters.values() if isinstance(x, str)]


@pytest.fixture(autouse=True)
def _one_seed_and_thread() -> None:
    """Start each test with seed 0 and one thread: the test workers share the cores."""
    mg.manual_seed(0)
    numba.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_op() -> Iterator[Callable[..., Op]]:
    """Make an op that is removed from the registry after the test."""
    before = dict(Op.registry)
    yield Op
    for name in Op.registry.keys() - before.keys():
        del Op.registry[name]


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Poison the memory of kernels' results; return the list of the shapes that are allocated."""
    shapes: list[tuple[int, ...]] = []

    def empty(shape: tuple[int, ...], dtype: object) -> np.ndarray:
        shapes.append(shape)
        return poison(shape, dtype)

    for module in cpu_modules():
        if hasattr(module, "empty"):
            monkeypatch.setattr(module, "empty", empty)
    for name in ["cuda-emulator", *["cuda"] * has_gpu()]:
        _poison(get_device(name).launcher, monkeypatch, shapes)  # type: ignore[attr-defined]
    return shapes


def _poison(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, shapes: list[tuple[int, ...]]
) -> None:
    def empty(shape: tuple[int, ...], dtype: object) -> object:
        shapes.append(shape)
        return launcher.from_numpy(poison(shape, dtype))

    monkeypatch.setattr(launcher, "empty", empty)


@pytest.fixture
def poisoned_device(device: str, monkeypatch: pytest.MonkeyPatch) -> Device:
    """Return the CUDA device that is the test's parameter `device`, with poisoned new memory."""
    target = get_device(device)
    _poison(target.launcher, monkeypatch, [])  # type: ignore[attr-defined]
    return target


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests were skipped because there is no GPU."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(NO_GPU in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests need a GPU and were skipped: there is none")
