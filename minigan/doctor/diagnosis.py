"""Compare the gauges of a training with the thresholds of the rules."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..training.gauges import GAUGES
from ..utils import strict_json
from .record import DIVERGENCE, INTERRUPTED, TRAINING, Record, read_record
from .rule import MIN_LINES, Rule, Test
from .rules import RULES
from .series import SERIES

FEW_LINES = 3 * MIN_LINES  # with fewer, the last third has too few for a rule


@dataclass(frozen=True, eq=False)
class Gauge:
    """A gauge of a training, for a figure.

    Attributes:
        name, unit, description: as in `SERIES`.
        threshold: of the first rule that needs it alone; None where a rule needs others too.
        above: whether values above the threshold are bad.
        value: the number that a rule compares; None where there are too few lines.
        summary: what that number is, such as "median of the last third of the lines".
        steps, values: (lines,) arrays of the lines that have a number.
    """

    name: str
    unit: str
    description: str
    threshold: float | None
    above: bool
    value: float | None
    summary: str
    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Finding:
    """Something that is wrong with a training.

    Attributes:
        name: a word such as "mode-collapse".
        title: a few words.
        gauge: the name of the gauge that shows it.
        value, threshold, above: of the gauge; bad values are above the threshold, or below it.
        summary: what the value is, such as "median of the last third of the lines".
        explanation, remedy: text.
        changes: the options to change, with values that the run does not have already; {} where the
            remedy is not one of options.
    """

    name: str
    title: str
    gauge: str
    value: float
    threshold: float
    above: bool
    summary: str
    explanation: str
    remedy: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """A gauge's value beside its threshold; None for the value with too few lines."""

    gauge: str
    value: float | None
    threshold: float
    above: bool


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the doctor says about a run.

    Attributes:
        folder: the run's folder.
        step: of its last line.
        state: how its training ended: finished, interrupted, training or diverged.
        findings: what is wrong, the cause before its consequences; () if nothing was found.
        gauges: those that rules look at, by name, of which the run has numbers.
        checks: what each rule that applies compared: the name of its finding, and comparisons, of
            which all must be bad.
        notes: lines on what cannot be said.
        has_gauges: whether the run has what most rules need; without it, () says nothing.
    """

    folder: Path
    step: int
    state: str
    findings: tuple[Finding, ...]
    gauges: Mapping[str, Gauge]
    checks: tuple[tuple[str, tuple[Comparison, ...]], ...]
    notes: tuple[str, ...]
    has_gauges: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return it in JSON types, without the curves."""
        findings = [strict_json.with_null(dict(vars(finding))) for finding in self.findings]
        gauges = {
            name: {"value": x.value, "threshold": x.threshold, "above": x.above, "unit": x.unit}
            for name, x in self.gauges.items()
        }
        return {
            "folder": os.fspath(self.folder),
            "step": self.step,
            "state": self.state,
            "has_gauges": self.has_gauges,
            "findings": findings,
            "gauges": strict_json.with_null(gauges),
            "notes": list(self.notes),
        }


def diagnose(folder: str | os.PathLike[str]) -> Diagnosis:
    """Return what is wrong with a run, from its folder alone.

        for finding in minigan.doctor.diagnose("runs/001-glyphs-mlp").findings:
            print(finding.title, finding.remedy)

    Raises:
        RunError: the folder holds no run, or its metrics cannot be read.
    """
    record = read_record(Path(folder))
    found: dict[str, Rule] = {}
    for rule in RULES:
        hidden = {name for other in found.values() for name in (other.name, *other.hides)}
        is_open = rule.name not in hidden and not (rule.is_last_resort and found)
        if is_open and rule.finds(record):
            found[rule.name] = rule
    findings = [_finding(rule, record) for rule in found.values()]
    gauges = _gauges(record)
    return Diagnosis(
        folder=record.folder,
        step=record.step,
        state=record.state,
        findings=tuple(findings),
        gauges=gauges,
        checks=tuple((rule.name, _compare(rule, record)) for rule in RULES if rule.applies(record)),
        notes=_notes(record, gauges),
        has_gauges=_has_gauges(record),
    )


def _compare(rule: Rule, record: Record) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(test.gauge, test.value(record), test.threshold, test.above)
        for test in (rule.test, *rule.needs)
    )


def _finding(rule: Rule, record: Record) -> Finding:
    value = rule.test.value(record)
    has_diverged = rule.or_diverged and record.state == DIVERGENCE
    message = f"{rule.explanation} The training ended: {record.message}." if has_diverged else ""
    return Finding(
        rule.name,
        rule.title,
        rule.test.gauge,
        math.inf if value is None or (has_diverged and rule.test.above) else value,
        rule.test.threshold,
        rule.test.above,
        "as the training diverged" if has_diverged else rule.test.summary,
        message or rule.explanation,
        rule.remedy,
        {k: x for k, x in rule.changes(record.options).items() if record.options.get(k) != x},
    )


def _gauges(record: Record) -> dict[str, Gauge]:
    """Return the gauges that rules look at, those of which the record has numbers."""
    applied = [rule for rule in RULES if rule.applies(record)]
    alone: dict[str, Test] = {}
    for rule in applied:
        if not rule.needs:
            alone.setdefault(rule.test.gauge, rule.test)
    tests = {test.gauge: test for rule in applied[::-1] for test in (*rule.needs, rule.test)}
    tests |= alone
    gauges = {}
    for name, test in tests.items():
        values = SERIES[name].values(record)
        known = np.isfinite(values)
        if known.any():
            gauges[name] = Gauge(
                *(name, SERIES[name].unit, SERIES[name].about),
                threshold=test.threshold if name in alone else None,
                above=test.above,
                value=test.value(record),
                summary=test.summary,
                steps=record.steps[known],
                values=values[known],
            )
    return gauges


def _has_gauges(record: Record) -> bool:
    return not record.names.isdisjoint(GAUGES)


def _no_gauges(record: Record) -> str:
    """Return why a run has no gauges, as much as its folder says of it."""
    if not record.rows:
        return "it has no line of metrics yet, and so no gauges (a smaller log_every)"
    return (
        "its metrics have no gauges: an older version trained it, or its nets could not be measured"
        " (a note says so in a training). A few rules need losses and options alone"
    )


def _notes(record: Record, gauges: Mapping[str, Gauge]) -> tuple[str, ...]:
    """Return lines on the state of the training, and on what cannot be said."""
    notes = []
    steps = record.options["steps"]
    if record.state == TRAINING:
        notes.append(f"it is being trained, at step {record.step} of {steps}: findings may change")
    elif record.state == INTERRUPTED:
        notes.append(f"it was interrupted at step {record.step} of {steps}")
    if not _has_gauges(record):
        notes.append(_no_gauges(record))
    elif len(record.rows) < FEW_LINES:
        notes.append(
            f"{len(record.rows)} lines of metrics are few: some gauges have no value yet (more"
            " steps, or a smaller log_every)"
        )
    elif "quality" not in gauges:
        names = dict.fromkeys(rule.name for rule in RULES if "quality" in rule.known_gauges)
        notes.append(
            "its samples were not measured against held-out data (--holdout, --evaluate-every):"
            f" some signs of {', '.join(names)} cannot be said"
        )
    return tuple(notes)
