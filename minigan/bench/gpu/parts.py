"""The parts of the command, the most important first, with their commands and results."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import minigan

from ...utils import strict_json
from . import logs
from .measure import MEASUREMENTS
from .settings import SETTINGS

# The tools of compute-sanitizer, and the share of the time of each.
TOOLS = {"memcheck": 25, "racecheck": 25, "initcheck": 15, "synccheck": 15}
SANITIZER_FOLDERS = ("bin", "compute-sanitizer")  # of a CUDA toolkit
TEST_PACKAGES = ("pytest", "xdist", "hypothesis")
MAX_TEST_PROCESSES = 8
FIGURES = ("kernels", "sizes")  # the parts whose file a figure is drawn of


@dataclass(frozen=True)
class Part:
    """One part of the command, a process of its own.

    Args:
        name: of its files, NAME.log and, if it measures, NAME.json.
        about: what it does, for the progress and the summary.
        share: of the minutes; in nine minutes about as many seconds.
        command: `(device, folder of results, checkout)` returns the program and its arguments.
        missing: `(device)` returns what it needs and is not there, or None.
        read: `(folder of results)` returns what it has found so far, in JSON types.
        problem: returns what is wrong with that result, or None.
    """

    name: str
    about: str
    share: float
    command: Callable[[str, Path, Path], list[str]]
    missing: Callable[[str], str | None]
    read: Callable[[Path], Any]
    problem: Callable[[Any], str | None]


def checkout() -> Path | None:
    """Return the checkout that has the tests: this folder, or the one minigan is imported from."""
    for folder in (Path.cwd(), Path(minigan.__file__).absolute().parents[1]):
        if (folder / "tests" / "conftest.py").is_file() and (folder / "kernels").is_dir():
            return folder
    return None


# ------------------------------------------------------------------------------------ measurements
def _measurement(name: str, about: str, share: float) -> Part:
    def command(device: str, folder: Path, root: Path) -> list[str]:
        words = ["-m", "minigan.bench.gpu.measure", name, device, str(folder / f"{name}.json")]
        return [sys.executable, "-P", *words]

    return Part(
        name, about, share, command, lambda _: None, lambda x: _counts(x, name), lambda _: None
    )


def read_json(path: Path) -> Any:
    """Return what a file holds, or None: a part that was cut off early has not written it."""
    return strict_json.loads(path.read_bytes()) if path.exists() else None


def _counts(folder: Path, name: str) -> dict[str, Any] | None:
    """Return how many cases were measured, and what failed or was measured no further, and why."""
    result = read_json(folder / f"{name}.json")
    if result is None or "series" not in result:
        return None
    return {
        "cases": sum(len(cases) for cases in result["series"].values()),
        "failed": result["failed"],
        "skipped": {name: reasons for name, reasons in result["skipped"].items() if reasons},
    }


# ------------------------------------------------------------------------------------------- tests
def _missing_tests(_: str) -> str | None:
    absent = [name for name in TEST_PACKAGES if find_spec(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (in the checkout: pip install '.[test]')"
    return None if checkout() else "there is no checkout with tests: run it in one"


def _pytest(processes: int, device: str, paths: tuple[str, ...]) -> list[str]:
    words = ["-v", "-ra", "--tb=short", "-n", str(processes), "--device", device, *paths]
    return [sys.executable, "-P", "-m", "pytest", *words]


def _test_command(device: str, folder: Path, root: Path) -> list[str]:
    processes = max(1, min(MAX_TEST_PROCESSES, (os.cpu_count() or 1) // 2))
    # A file's tests may go to several processes, unlike by default: some files have hundreds.
    distribution = ["--maxprocesses", str(processes), "--dist", "load"]
    return [*_pytest(processes, device, SETTINGS[device].tests), *distribution]


def _test_problem(counts: dict[str, Any]) -> str | None:
    failed = counts["failed"]
    return f"{failed} tests failed, first {counts['failures'][0]}" if failed else None


# --------------------------------------------------------------------------------------- sanitizer
def find_sanitizer() -> str | None:
    """Return the program compute-sanitizer: on the path, or in the CUDA toolkit."""
    toolkits = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [Path(x) / folder for x in toolkits if x for folder in SANITIZER_FOLDERS]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)])
    return shutil.which("compute-sanitizer", path=path)


def _sanitizer(tool: str, share: float) -> Part:
    def command(device: str, folder: Path, root: Path) -> list[str]:
        words = [find_sanitizer() or "compute-sanitizer", "--tool", tool]
        return [*words, *_pytest(0, device, SETTINGS[device].sanitized)]

    def missing(device: str) -> str | None:
        if find_sanitizer() is None:
            return "compute-sanitizer, a part of NVIDIA's CUDA toolkit, is not installed"
        return _missing_tests(device)

    def read(folder: Path) -> dict[str, Any]:
        return logs.count_errors(folder / f"{tool}.log")

    return Part(
        tool, f"compute-sanitizer's {tool}", share, command, missing, read, _sanitizer_problem
    )


def _sanitizer_problem(found: dict[str, Any]) -> str | None:
    count = found["errors"] if found["errors"] is not None else len(found["reports"])
    if count:
        first = f", first: {found['reports'][0]}" if found["reports"] else ""
        return f"{count} errors{first}"
    return _test_problem(found["tests"])


PARTS = {
    part.name: part
    for part in (
        _measurement("machine", "the machine and its versions", 15),
        Part(
            "tests",
            "tests of the CUDA kernels",
            130,
            _test_command,
            _missing_tests,
            lambda folder: logs.count_tests(folder / "tests.log"),
            _test_problem,
        ),
        _measurement("kernels", "kernels beside cuBLAS, cuDNN, PyTorch and a copy", 85),
        _measurement("steps", "training steps beside PyTorch", 55),
        _measurement("compiled", "training steps beside compiled PyTorch and JAX", 75),
        _measurement("sizes", "GPU against CPU over sizes", 100),
        *(_sanitizer(tool, share) for tool, share in TOOLS.items()),
    )
}
assert set(MEASUREMENTS) < set(PARTS)
