"""Run a lesson as a script, or cell by cell with a change planted in its source."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import minigan as mg

LESSONS = Path(__file__).parent.parent / "lessons"
NAMES = sorted(path.stem for path in LESSONS.glob("[0-9][0-9]_*.py"))
CELL = re.compile(r"^# %%(.*)$", re.M)
# A word, or one other character. The comma before a closing bracket is left out: the formatter
# adds it where it breaks a line.
TOKEN = re.compile(r"\w+|(?!,\s*[\])}])[^\w\s]")


def source(name: str) -> str:
    """Return the text of a lesson."""
    return (LESSONS / f"{name}.py").read_text()


def cells(text: str) -> list[tuple[str, str]]:
    """Return (the text after "# %%", the cell's lines) of each cell, in order."""
    parts = CELL.split(text)
    assert not parts[0].strip(), "nothing stands before the first cell"
    return [(kind.strip(), body) for kind, body in zip(parts[1::2], parts[2::2], strict=True)]


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


def without_comments(text: str) -> str:
    """Return Python source with spaces in place of its comments, so that positions stay."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            (row, start), (_, end) = token.start, token.end
            line = lines[row - 1]
            lines[row - 1] = line[:start] + " " * (end - start) + line[end:]
    return "".join(lines)


def plant(name: str, what: str, old: str, new: str) -> str:
    """Return the lesson's source with `new` in place of `old`, which it must contain once.

    Tokens are compared, also inside strings (CUDA C++): white space, line breaks and comments do
    not matter, so a lesson can be reformatted and explained better without a change of its tests.
    """
    text = source(name)
    tokens = list(TOKEN.finditer(without_comments(text)))
    words, pattern = [token[0] for token in tokens], TOKEN.findall(old)
    size = len(pattern)
    starts = [i for i in range(len(words) - size + 1) if words[i : i + size] == pattern]
    if len(starts) != 1:
        raise AssertionError(
            f"lesson {name}, change for {what!r}: {old!r} is found {len(starts)} times, not once"
        )
    first, last = tokens[starts[0]], tokens[starts[0] + size - 1]
    return text[: first.start()] + new + text[last.end() :]


def assert_fails(name: str, what: str, old: str, new: str, out: Path) -> None:
    """Assert that the lesson's expectation `what` fails with `new` in place of `old`."""
    text = plant(name, what, old, new)
    result = run_cells(text, name, out, until=what)["lesson"].results[what]
    assert not result["passed"], f"lesson {name}: {result} passes with {new!r} in place of {old!r}"
