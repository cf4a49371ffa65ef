"""How lessons are tested: run whole as a script, or cell by cell with a planted change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import minigan as mg

LESSONS = Path(__file__).parent.parent / "lessons"
NAMES = sorted(path.stem for path in LESSONS.glob("[0-9][0-9]_*.py"))
CELL = re.compile(r"^# %%(.*)$", re.M)


def source(name: str) -> str:
    return (LESSONS / f"{name}.py").read_text()


def cells(text: str) -> list[tuple[str, str]]:
    """(what stands after the "# %%", the cell's lines) of each cell, in order."""
    parts = CELL.split(text)
    assert not parts[0].strip(), "nothing stands before the first cell"
    return [(kind.strip(), body) for kind, body in zip(parts[1::2], parts[2::2], strict=True)]


@cache
def fast_run(name: str) -> dict[str, Any]:
    """The lesson's numbers after `python lessons/NAME.py --fast`, with its "output" and "files"."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(LESSONS / f"{name}.py"), "--fast", "--out", out]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        numbers = json.loads(Path(out, f"{name}.json").read_text())
        files = {path.name: path.read_bytes() for path in Path(out).iterdir()}
    return {**numbers, "output": done.stdout, "errors": done.stderr, "files": files}


def run_cells(text: str, name: str, out: Path, until: str | None = None) -> dict[str, Any]:
    """The namespace after the code cells have run, one after the other, in fast mode.

    `until` names an expectation: the cell that comes to it is the last to run.
    """
    path = out / f"{name}.py"  # a file of its own: numba's cache must not take it for the lesson
    path.write_text(text)
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context():
        patch.setattr(mg.Op, "registry", dict(mg.Op.registry))
        patch.syspath_prepend(str(LESSONS))
        patch.setattr(sys, "argv", [path.name, "--fast", "--out", os.fspath(out)])
        line = 1
        for kind, body in cells(text):
            if not kind.startswith("[markdown]"):
                code = compile("\n" * (line - 1) + body, str(path), "exec")
                exec(code, namespace)
                if until in namespace["lesson"].results:
                    break
            line += body.count("\n")
    return namespace


def assert_fails(name: str, what: str, old: str, new: str, out: Path) -> None:
    """With `new` in place of `old` in its source, the lesson's expectation `what` fails."""
    text = source(name)
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
    found = run_cells(text.replace(old, new), name, out, until=what)["lesson"].results[what]
    assert not found["passed"], f"{found} passes with {new!r} in place of {old!r}"
