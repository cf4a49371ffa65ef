"""Plant a change in a lesson, and run it: for `--bug N` of a lesson, and for the lessons' tests.

The changes stand in `bugs/NAME.toml` beside the lessons, one table each:

    [[bug]]
    fails = "slope of the error"        # the check of the lesson that fails with the change
    old = "2 * h"                       # a part of the lesson that occurs once
    new = "h"                           # what is planted in its place
    answer = "The difference is divided by h, but the two points are 2 h apart."
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import atomic_write

CELL = re.compile(r"^# %%(.*)$", re.M)
# A word, or one other character. The comma before a closing bracket is left out: the formatter
# adds it where it breaks a line.
TOKEN = re.compile(r"\w+|(?!,\s*[\])}])[^\w\s]")
HEADING = f"  {'':4}  {'measured':>12}  {'expected':<18}"


class BugError(ValueError):
    """A lesson has no change of that number, or not the place that is to be changed."""


@dataclass(frozen=True)
class Bug:
    """A change of a lesson: `new` in place of `old`, with which the check `fails` fails."""

    fails: str
    old: str
    new: str
    answer: str


def result_line(passed: bool, measured: str, expected: str, what: str) -> str:
    """Return a line of a lesson's output: PASS or FAIL, the two values, and what they describe."""
    return f"  {'PASS' if passed else 'FAIL'}  {measured:>12}  {expected:<18}  {what}"


def _bugs_file(lesson: Path) -> Path:
    return lesson.parent / "bugs" / f"{lesson.stem}.toml"


def bugs_of(lesson: Path) -> list[Bug]:
    """Return the changes for a lesson, from `bugs/NAME.toml` in its folder; none if it has none."""
    path = _bugs_file(lesson)
    if not path.is_file():
        return []
    return [Bug(**table) for table in tomllib.loads(path.read_text(encoding="utf-8"))["bug"]]


def cells(text: str) -> Iterator[tuple[str, str]]:
    """Yield (the text after "# %%", the cell's lines) of each cell, in order."""
    parts = CELL.split(text)
    yield from zip((kind.strip() for kind in parts[1::2]), parts[2::2], strict=True)


def run_cells(path: Path, arguments: list[str], until: str | None = None) -> dict[str, Any]:
    """Run the code cells of a lesson one after the other; return their namespace.

    Args:
        path: the lesson.
        arguments: its options on the command line.
        until: the name of a check; the cell that reaches it is the last to run.
    """
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    sys.argv, line = [str(path), *arguments], 1
    for kind, body in cells(path.read_text(encoding="utf-8")):
        if not kind.startswith("[markdown]"):
            code = compile("\n" * (line - 1) + body, str(path), "exec")
            exec(code, namespace)
            if until in namespace["lesson"].results:
                break
        line += body.count("\n")
    return namespace


def plant(text: str, bug: Bug) -> str:
    """Return a lesson's text with `bug.new` in place of `bug.old`, which it must contain once.

    Tokens are compared, also inside strings (CUDA C++): white space, line breaks and comments do
    not matter, so a lesson can be reformatted and explained better while its bugs stay as they are.

    Raises:
        BugError: the text contains `bug.old` never, or more than once.
    """
    tokens = list(TOKEN.finditer(_without_comments(text)))
    words, pattern = [token[0] for token in tokens], TOKEN.findall(bug.old)
    size = len(pattern)
    starts = [i for i in range(len(words) - size + 1) if words[i : i + size] == pattern]
    if len(starts) != 1:
        raise BugError(
            f"change for {bug.fails!r}: {bug.old!r} is found {len(starts)} times, not once"
        )
    first, last = tokens[starts[0]], tokens[starts[0] + size - 1]
    return text[: first.start()] + bug.new + text[last.end() :]


def _without_comments(text: str) -> str:
    """Return Python source with spaces in place of its comments, so that positions stay."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            (row, start), (_, end) = token.start, token.end
            line = lines[row - 1]
            lines[row - 1] = line[:start] + " " * (end - start) + line[end:]
    return "".join(lines)


def run(lesson: Path, number: int, reveal: bool, out: Path) -> int:
    """Run a lesson with one change, and print the check that should fail, or explain the change.

    The changed lesson is written to the folder `out`. With `reveal` nothing is run: the change is
    printed with its explanation.

    Returns:
        the exit status: 1 if the check fails, else 0.

    Raises:
        BugError: the lesson has no bug of that number.
    """
    bugs = bugs_of(lesson)
    if not bugs:
        file = _bugs_file(lesson)
        raise BugError(f"--bug {number}: this lesson has no bugs: there is no file {file}")
    if not 1 <= number <= len(bugs):
        raise BugError(f"--bug {number}: this lesson has the bugs 1 to {len(bugs)}")
    bug = bugs[number - 1]
    if reveal:
        print(f"Bug {number}: {bug.fails}")
        for sign, text in (("-", bug.old), ("+", bug.new)):
            print(*(f"  {sign} {line}" for line in text.splitlines()), sep="\n")
        print(bug.answer)
        return 0
    changed = out / f"{lesson.stem}_bug_{number}.py"
    text = plant(lesson.read_text(encoding="utf-8"), bug)
    atomic_write(changed, lambda file: file.write(text.encode()))
    with contextlib.redirect_stdout(io.StringIO()):
        lessons = run_cells(changed, ["--fast", "--out", str(out / "bugs")], until=bug.fails)
    result = lessons["lesson"].results[bug.fails]
    print(HEADING)
    print(result_line(result["passed"], result["measured"], result["expected"], bug.fails))
    outcome = "passes all the same, on this machine." if result["passed"] else "fails. Which one?"
    print(
        f"One place of the lesson was changed (bug {number} of {len(bugs)}), and this check"
        f" {outcome}\nThe changed lesson: {changed}. The answer: --bug {number} --reveal"
    )
    return 0 if result["passed"] else 1
