"""Images from images: what nets make of damaged or other images, beside methods without a GAN.

Each task is measured for a method without a net, for the net with the L1 difference alone, and for
the same net with the adversarial loss too (Isola et al. 2017, table 1, compares the same); without
pairs (Zhu et al. 2017) beside the images as they are and beside a net that was not trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..data import load
from ..metrics import classify, train_classifier
from ..translation.config import TranslationConfig
from ..translation.measures import evaluate_translation
from ..translation.pictures import visible_input
from ..translation.trainer import TranslationTrainer
from ..utils.figures import figure, tile
from .experiment import Case, CaseResult, Experiment, Goal, Measure, Outcome

SHOWN = 14  # examples in the figure
OUTPUT = "output"  # the column of the images that the trained net makes


def measure_column(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a net where the column needs it, and measure held-out images.

    Args:
        config: "training", the options of a `TranslationConfig`; "column", what is measured:
            "output", or a baseline, for which nothing is trained.
        seed: of weights, batches, holes and noise; it chooses the held-out images too.
    """
    options = TranslationConfig.from_dict(dict(config["training"]))
    trainer = TranslationTrainer(options.replace(seed=seed))
    column = config["column"]
    for _ in range(options.steps if column == OUTPUT else 0):
        trainer.step()
    found = evaluate_translation(trainer).values
    names = ("psnr", "sharpness", "agreement")
    values = {name: found[name][column] for name in names if column in found.get(name, {})}
    inputs, truths, _ = trainer.examples(SHOWN)
    made = trainer.translate(inputs)
    if options.data in FONTS:
        sample, _, _ = trainer.examples(1000)
        shown = sample if column == "input" else trainer.translate(sample)
        values["style"] = float((classify(_style_net(), shown) == 1).mean())
        values.pop("psnr", None)
        values["sharpness"] = float("nan")
    if column != OUTPUT:
        return Outcome(values)
    arrays = {"input": visible_input(inputs, options.task, made.shape[1]), "made": made}
    if truths is not None:
        arrays["truth"] = truths
    return Outcome(values, {name: x.astype(np.float32) for name, x in arrays.items()})


FONTS = ("glyphs-sans", "glyphs-serif")


@cache
def _style_net() -> Any:
    """Return a classifier of digits without (0) and with serifs (1), of images of another seed."""
    parts = [load(name, seed=1000) for name in FONTS]
    values = np.concatenate([part.values for part in parts])
    labels = np.repeat(np.arange(2), [len(part) for part in parts])
    return train_classifier(values, labels, 2, steps=1500)


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: a band for each task with inputs, what the trained nets make, and the truths."""
    shown = [result for result in results if result.arrays[0]]
    bands: dict[str, list[CaseResult]] = {}
    for result in shown:
        bands.setdefault(result.name.split(":")[0], []).append(result)
    heights = [len(_rows(group)) for group in bands.values()]
    with figure(path, 9, 0.5 * sum(heights) + 0.35 * len(bands)) as drawing:
        panels = drawing.subplots(
            len(bands), 1, squeeze=False, gridspec_kw={"height_ratios": heights}
        )[:, 0]
        for axes, (task, group) in zip(panels, bands.items(), strict=True):
            rows = _rows(group)
            images = np.concatenate(list(rows.values()))
            sheet = tile(images, SHOWN)
            axes.imshow(sheet, cmap="gray", vmin=0, vmax=255)
            step = sheet.shape[0] / len(rows)
            axes.set_yticks([step * (i + 0.5) for i in range(len(rows))], list(rows))
            axes.set(title=task, xticks=[])
            axes.tick_params(length=0, labelsize=8)
            for spine in axes.spines.values():
                spine.set_visible(False)


def _rows(group: Sequence[CaseResult]) -> dict[str, np.ndarray]:
    """Return the images of a task, by the name of their row: input, each net's, truth."""
    first = group[0].arrays[0]
    rows = {"input": first["input"]}
    rows |= {result.name.split(": ")[1]: result.arrays[0]["made"] for result in group}
    return rows | ({"truth": first["truth"]} if "truth" in first else {})


def _case(goals: Mapping[str, Goal] | None = None, column: str = OUTPUT, **options: Any) -> Case:
    training = TranslationConfig(**{**SHARED, **options}).as_dict()
    return Case(measure_column, {"training": training, "column": column}, goals or {})


SHARED: dict[str, Any] = {"steps": 1000, "width": 16}
MNIST: dict[str, Any] = {"data": "mnist", "split": "test"}


def _paired(
    title: str, baselines: Sequence[str], goals: Mapping[str, Goal], **options: Any
) -> dict[str, Case]:
    """Return the rows of a task: methods without a net, the net with L1 alone, and with a GAN."""
    rows = {f"{title}: {name}": _case(column=name, **options) for name in baselines}
    rows[f"{title}: L1 alone"] = _case(**options, adversarial=0.0)
    rows[f"{title}: L1 and GAN"] = _case(goals, **options)
    return rows


MEASURES = {
    "psnr": Measure("PSNR, dB", 2),
    "sharpness": Measure("sharpness, truth 1", 3),
    "agreement": Measure("class kept, %", 1, 100),
}

RESTORE = Experiment(
    about="holes, small, noisy and outlined images: a net with and without a GAN, and no net",
    source="",
    minutes=20,
    cases={
        **_paired(
            "hole in a digit",
            ["mean fill", "smooth fill"],
            {"agreement": Goal(low=0.8)},
            task="inpaint",
            **MNIST,
        ),
        **_paired(
            "hole in a texture",
            ["mean fill", "smooth fill"],
            {"psnr": Goal(low=15)},
            task="inpaint",
            data="textures",
        ),
        **_paired(
            "digit of 7 x 7",
            ["bicubic"],
            {"agreement": Goal(low=0.92)},
            task="super-resolution",
            **MNIST,
        ),
        **_paired(
            "noisy digit", ["blur and curve"], {"psnr": Goal(low=23)}, task="denoise", **MNIST
        ),
        **_paired("outline", ["input"], {"psnr": Goal(low=20)}, task="outline", **MNIST),
    },
    measures=MEASURES,
    published={},
    draw=draw,
    caption="The first held-out images of seed 0.",
)


UNPAIRED_STEPS: dict[str, Any] = {"steps": 600}


def _unpaired(title: str, goals: Mapping[str, Goal], **options: Any) -> dict[str, Case]:
    options |= UNPAIRED_STEPS
    return {
        f"{title}: as it is": _case(column="input", **options),
        f"{title}: untrained net": _case(column="untrained", **options),
        f"{title}: CycleGAN": _case(goals, **options),
        f"{title}: CycleGAN, identity 5": _case(identity=5.0, **options),
    }


UNPAIRED = Experiment(
    about="images translated without pairs: upright to slanted or inverted digits, and fonts",
    source="",
    minutes=20,
    cases={
        **_unpaired("inverted", {}, task="unpaired", target="inverted", **MNIST),
        **_unpaired("slanted", {}, task="unpaired", target="slanted", **MNIST),
        **_unpaired("with serifs", {}, task="unpaired", data=FONTS[0], target=FONTS[1]),
    },
    measures={**MEASURES, "style": Measure("taken as the other font, %", 1, 100)},
    published={},
    draw=draw,
    caption="The first held-out images of seed 0.",
)
