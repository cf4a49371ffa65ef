"""Draw a small panel for each finding: its gauge over the training, and the threshold."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.figures import DISCRIMINATOR, GENERATOR, figure
from .diagnosis import Diagnosis, Finding, Gauge

PICTURE = "doctor.png"
COLUMNS = 2
LOG_RANGE = 50  # positive values that differ by a larger factor have a logarithmic axis


def draw(diagnosis: Diagnosis, path: Path) -> None:
    """Write a PNG with a panel for each finding.

    Raises:
        ValueError: there is no finding.
    """
    findings = diagnosis.findings
    if not findings:
        raise ValueError("draw: there is no finding to draw")
    columns = min(COLUMNS, len(findings))
    rows = math.ceil(len(findings) / columns)
    with figure(path, 5.5 * columns, 3.2 * rows) as drawing:
        axes = drawing.subplots(rows, columns, squeeze=False).reshape(-1)
        for panel, finding in zip(axes, findings, strict=False):
            _panel(panel, finding, diagnosis.gauges.get(finding.gauge))
        for panel in axes[len(findings) :]:
            panel.set_axis_off()


def _panel(axes: Any, finding: Finding, gauge: Gauge | None) -> None:
    axes.set_title(finding.name)
    if gauge is None:  # The training diverged before its first line of metrics.
        axes.set_axis_off()
        axes.text(0, 0.5, "no line of metrics", transform=axes.transAxes)
        return
    axes.plot(gauge.steps, gauge.values, color=GENERATOR, marker=".", ms=4, lw=1.5)
    side = "above" if finding.above else "below"
    label = f"bad {side} {finding.threshold:.3g}"
    axes.axhline(finding.threshold, color=DISCRIMINATOR, lw=1.5, ls="--", label=label)
    numbers = np.array([*gauge.values, finding.threshold])
    if numbers.min() > 0 and numbers.max() > LOG_RANGE * numbers.min():
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel=f"{gauge.name} ({gauge.unit})")
    axes.legend(loc="best")
