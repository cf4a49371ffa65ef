"""Run a lesson as a script, or cell by cell with a change planted in its source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import minigan as mg
from minigan.utils import lesson_bugs
from minigan.utils.lesson_bugs import Bug, bugs_of, plant

LESSONS = Path(__file__).parent.parent / "lessons"
NAMES = sorted(path.stem for path in LESSONS.glob("[0-9][0-9]_*.py"))
BUGS = {name: bugs_of(LESSONS / f"{name}.py") for name in NAMES}


def source(name: str) -> str:
    """Return the text of a lesson."""
    return (LESSONS / f"{name}.py").read_text()


@cache
def fast_run(name: str) -> dict[str, Any]:
    """Run `python lessons/NAME.py --fast`; return its numbers, "output", "errors" and "files"."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(LESSONS / f"{name}.py"), "--fast", "--out", out]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        numbers = json.loads(Path(out, f"{name}.json").read_text())
        files = {path.name: path.read_bytes() for path in Path(out).iterdir()}
    return {**numbers, "output": done.stdout, "errors": done.stderr, "files": files}


def run_cells(text: str, name: str, out: Path, until: str | None = None) -> dict[str, Any]:
    """Run the code cells one after the other in fast mode; return their namespace.

    `until` names an expectation: the cell that reaches it is the last to run.
    """
    path = out / f"{name}.py"  # Its own file: numba's cache must not confuse it with the lesson.
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
        patch.setattr(mg.Op, "registry", dict(mg.Op.registry))
        patch.setattr(sys, "argv", sys.argv)
        return lesson_bugs.run_cells(path, ["--fast", "--out", os.fspath(out)], until)


def assert_fails(name: str, bug: Bug, out: Path) -> None:
    """Assert that the lesson's check `bug.fails` fails with the planted change."""
    text = plant(source(name), bug)
    result = run_cells(text, name, out, until=bug.fails)["lesson"].results[bug.fails]
    assert not result["passed"], f"lesson {name}: {result} passes with {bug}"
