"""Count what the logs of pytest and of compute-sanitizer say, complete or cut off."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# `pytest -v`: "[gw0] [ 10%] PASSED a.py::test_b" or, in one process, "a.py::test_b PASSED [ 10%]".
OUTCOMES = "PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
PARALLEL = re.compile(rf"^\[gw\d+\] \[ *\d+%\] ({OUTCOMES}) (\S+::.*?) *$", re.MULTILINE)
SINGLE = re.compile(rf"^(\S+::.*?) ({OUTCOMES})(?: \(.*\))? +\[ *\d+%\]$", re.MULTILINE)
# "8 workers [210 items]" or "collected 34 items / 1 error / 32 deselected / 2 selected".
COLLECTED = re.compile(r"^\d+ workers? \[(\d+) items?\]", re.MULTILINE)
COLLECTED_SINGLE = re.compile(r"collected (\d+) items?(?: / \d+ errors?)?(?: / (\d+) deselected)?")
COLLECTION_ERROR = re.compile(r"^ERROR (\S+\.py)(?: - .*)?$", re.MULTILINE)
# compute-sanitizer's lines begin so; the details of a report are indented, and pytest's lines end
# with "=", too.
SANITIZER_SUMMARY = re.compile(
    r"^={9} (?:ERROR|RACECHECK) SUMMARY: (\d+) (?:error|hazard)", re.MULTILINE
)
SANITIZER_REPORT = re.compile(
    r"^={9} (?!COMPUTE-SANITIZER|[A-Z]+ SUMMARY)(\w.*[^=\n])$", re.MULTILINE
)


def read_text(log: Path) -> str:
    """Return the text of a log; "" if there is none."""
    return log.read_text(errors="replace") if log.exists() else ""


def count_tests(log: Path) -> dict[str, Any]:
    """Return the tests that have run so far.

    "selected" is their number in all (None: not yet known), "failures" names those that failed, in
    the order of time: on a GPU one illegal access makes all later tests of its process fail.
    """
    text = read_text(log)
    found = PARALLEL.findall(text) or [(x, name) for name, x in SINGLE.findall(text)]
    outcomes = [x for x, _ in found]
    failures = [name for x, name in found if x in ("FAILED", "ERROR")]
    failures += [x for x in COLLECTION_ERROR.findall(text) if x not in failures]
    return {
        "selected": _selected(text),
        "passed": sum(x in ("PASSED", "XPASS") for x in outcomes),
        "failed": len(failures),
        "skipped": sum(x in ("SKIPPED", "XFAIL") for x in outcomes),
        "failures": failures,
    }


def _selected(text: str) -> int | None:
    parallel, single = COLLECTED.search(text), COLLECTED_SINGLE.search(text)
    if parallel:
        return int(parallel[1])
    return int(single[1]) - int(single[2] or 0) if single else None


def count_errors(log: Path) -> dict[str, Any]:
    """Return the errors of a tool of compute-sanitizer, and the tests that it has run.

    "errors" is the tool's own count, None where it was cut off before; "reports" are the first
    lines of what it has reported so far.
    """
    text = read_text(log)
    summaries = SANITIZER_SUMMARY.findall(text)
    return {
        "errors": int(summaries[-1]) if summaries else None,
        "reports": SANITIZER_REPORT.findall(text),
        "tests": count_tests(log),
    }


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty, or "" if there is none."""
    lines = [line.strip() for line in read_text(log).splitlines() if line.strip()]
    return lines[-1] if lines else ""
