"""Does progressive growing help at 28 x 28? The same nets, grown and at the full size throughout.

The images are compared for the same number of images, and for the same seconds: low resolutions are
cheaper, so the nets that do not grow have fewer steps then (Karras et al. 2018, section 6.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..gan.presets import PRESETS
from ..training.config import Config
from ..utils.figures import figure
from .experiment import Case, CaseResult, Experiment, Measure
from .vae import measure_data, measure_gan, tiles

STEPS = 1200
STEPS_IN_THE_SAME_TIME = 870  # at the full size, by the seconds of both on seed 100


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: digits of the first seed, a column for each case."""
    with figure(path, 2.6 * len(results), 3.2) as drawing:
        panels = drawing.subplots(1, len(results), squeeze=False)[0]
        for axes, result in zip(panels, results, strict=True):
            axes.imshow(tiles(result.arrays[0]["images"]), cmap="gray", vmin=0, vmax=255)
            distance = np.mean(result.values["frechet"])
            axes.set_title(f"{result.name}\nFrechet {distance:.2f}")
            axes.set_axis_off()


_DATA: dict[str, Any] = {"data": "mnist", "split": "test"}
_SHARED: dict[str, Any] = {
    **PRESETS["progressive"].options,
    **_DATA,
    "holdout": 0.0,
    "batch": 32,
    "ema": 0.99,
}


def _case(steps: int, grow_steps: int) -> Case:
    options = {**_SHARED, "steps": steps, "grow_steps": grow_steps}
    return Case(measure_gan, {"training": Config(**options).as_dict()})


PROGRESSIVE = Experiment(
    about="nets that grow from 7 x 7 to 28 x 28 pixels, and the same nets without growth",
    source="",
    minutes=12,
    cases={
        "data": Case(measure_data, _DATA, seeds=1),
        "grown": _case(STEPS, STEPS // 6),
        "full size, same images": _case(STEPS, 0),
        "full size, same seconds": _case(STEPS_IN_THE_SAME_TIME, 0),
    },
    measures={
        "sliced": Measure("sliced Wasserstein", 4),
        "frechet": Measure("Frechet", 2),
        "precision": Measure("precision, %", 1, 100),
        "recall": Measure("recall, %", 1, 100),
        "sharpness": Measure("sharpness, %", 0, 100),
    },
    published={},
    draw=draw,
    caption="Digits of seed 0: test digits, and samples.",
)
