"""Write a diagnosis as lines of text, with curves of block characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .diagnosis import Comparison, Diagnosis, Finding, Gauge

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-~=+*#"
WIDTH = 32  # characters of a curve


def sparkline(values: Sequence[float] | np.ndarray, threshold: float, blocks: str) -> str:
    """Return a curve of at most WIDTH characters, and the character of the threshold's height.

    Each character is the mean of its part of the values; all of them and the threshold fit in.
    """
    x = np.asarray(values, np.float64)
    parts = [part.mean() for part in np.array_split(x, min(WIDTH, len(x)))]
    low, high = min(*parts, threshold), max(*parts, threshold)
    heights = [
        0 if high == low else round((y - low) / (high - low) * (len(blocks) - 1))
        for y in (*parts, threshold)
    ]
    *curve, level = (blocks[i] for i in heights)
    return f"{''.join(curve)} (threshold {level})"


def number(x: float) -> str:
    """Return a number with three significant digits."""
    return "infinite" if math.isinf(x) else f"{x:.3g}"


# What a run without findings has of each gauge, in words: the gauge, its factor, the sentence.
SUMMARY = (
    ("quality", 1, "samples are {} times as far from held-out data as real ones (1 is best)"),
    ("diversity", 100, "their diversity is {} % of the data's (0 %: all alike)"),
    ("accuracy", 100, "the discriminator is right for {} % of samples (50 %: undecided)"),
    (
        "memorization",
        100,
        "it prefers the training to the held-out sample in {} % of pairs (50 %: no difference)",
    ),
    ("class_agreement", 100, "{} % of samples have the mean of their class nearest (0 %: chance)"),
)


def describe(
    diagnosis: Diagnosis, steps: int, blocks: str = BLOCKS, verbose: bool = False
) -> list[str]:
    """Return the lines of a diagnosis.

    Args:
        diagnosis: it.
        steps: the number of steps of the run.
        blocks: eight characters of rising height.
        verbose: whether all gauges are listed; without findings, a few are said in words anyway.
    """
    count = len(diagnosis.findings)
    nothing = "nothing found" if diagnosis.has_gauges else "cannot be diagnosed"
    found = f"{count} finding{'s' * (count != 1)}" if count else nothing
    lines = [f"{diagnosis.folder}: step {diagnosis.step} of {steps}, {diagnosis.state}: {found}"]
    lines += [f"  note: {note}" for note in diagnosis.notes]
    for finding in diagnosis.findings:
        lines += ["", *_finding(finding, diagnosis.gauges.get(finding.gauge), blocks)]
    if not count and diagnosis.has_gauges:
        lines += [f"  {line}" for line in summary(diagnosis)]
    if verbose:
        lines += ["  gauges that were looked at (all of a line must be bad):", *table(diagnosis)]
    return lines


def summary(diagnosis: Diagnosis) -> list[str]:
    """Return the known ones of a few gauges in words, at most five lines."""
    values = {name: gauge.value for name, gauge in diagnosis.gauges.items()}
    return [
        sentence.format(number(factor * value))
        for name, factor, sentence in SUMMARY
        if (value := values.get(name)) is not None
    ]


def _finding(finding: Finding, gauge: Gauge | None, blocks: str) -> list[str]:
    side = "above" if finding.above else "below"
    limit = f"bad {side} {number(finding.threshold)}"
    lines = [
        f"  {finding.title} [{finding.name}]",
        f"    {finding.gauge} {number(finding.value)}, {limit}",
        f"    {finding.explanation}",
        f"    Try: {finding.remedy}",
    ]
    if finding.changes:
        changes = ", ".join(
            f"{name} = {'its default' if value is None else value}"
            for name, value in finding.changes.items()
        )
        lines.append(f"    Options of this remedy: {changes}")
    if gauge is not None:
        lines.insert(2, f"    {sparkline(gauge.values, finding.threshold, blocks)}")
    return lines


def table(diagnosis: Diagnosis) -> list[str]:
    """Return a line for each rule: its finding, and its gauges with their values and limits."""
    width = max(len(name) for name, _ in diagnosis.checks)
    return [
        f"    {name:<{width}}  {', '.join(map(_compare, comparisons))}"
        for name, comparisons in diagnosis.checks
    ]


def _compare(x: Comparison) -> str:
    value = "unknown" if x.value is None else number(x.value)
    return f"{x.gauge} {value} (bad {'>' if x.above else '<'} {number(x.threshold)})"
