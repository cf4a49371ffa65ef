"""Accuracy of digit classifiers under attack, and what adversarial training gains and costs.

Classifiers are trained on 8,000 digits, and attacked are 1,000 others. The attacks are those of
`minigan.adversarial`; epsilon is a fraction of the range of a pixel, as in the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import adversarial, nn
from ..data import Dataset
from ..engine.capture import capture
from ..engine.tensor import Tensor, tensor
from ..metrics import classify, train_classifier
from ..utils.figures import BLUE, GREEN, GREY, ORANGE, figure, tile
from .experiment import Case, CaseResult, Experiment, Measure, Outcome
from .parzen import split

# By name, functions of (net, x, labels, epsilon, steps); only PGD takes several steps.
ATTACKS: dict[str, Callable[..., Tensor]] = {
    "noise": lambda net, x, y, epsilon, steps: adversarial.uniform_noise(x, epsilon),
    "FGSM": lambda net, x, y, epsilon, steps: adversarial.fgsm(net, x, y, epsilon),
    "PGD": lambda net, x, y, epsilon, steps: adversarial.pgd(net, x, y, epsilon, steps=steps),
}
DIGITS = 10
BATCH = 250  # digits that are attacked at a time
SHOWN = 7  # digits in a row of the figure
SHOWN_EPSILON = 0.2


def by_batch(function: Callable[..., Tensor], *arrays: np.ndarray) -> np.ndarray:
    """Return the results of a function of tensors for all rows, BATCH at a time, as an array."""
    step = capture(function)
    parts = [
        step(*(tensor(x[i : i + BATCH]) for x in arrays)).numpy()
        for i in range(0, len(arrays[0]), BATCH)
    ]
    return np.concatenate(parts)


def attack(
    name: str, net: nn.Module, x: np.ndarray, labels: np.ndarray, epsilon: float, steps: int
) -> np.ndarray:
    """Return the digits after the attack of that name, one of ATTACKS, on the net."""
    return by_batch(partial(_attack, name, net, epsilon, steps), x, labels)


def _attack(name: str, net: nn.Module, epsilon: float, steps: int, x: Tensor, y: Tensor) -> Tensor:
    return ATTACKS[name](net, x, y, epsilon, steps)


def digits(config: Mapping[str, Any]) -> tuple[Dataset, Dataset]:
    """Return the training digits, and "validation" or "test" ones to attack."""
    train, validation, test = split(config["data"], config["split"])
    return train, {"validation": validation, "test": test}[config["digits"]]


def measure_accuracy(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a classifier; return its accuracy without and with each attack at each epsilon.

    Args:
        config: "data", "split" and "digits", see `digits`; "training", the name in ATTACKS of what
            the classifier is trained on, or None, with "epsilon" and "inner_steps"; "steps" of
            training; "attack_steps" of PGD; "epsilons".
        seed: of weights, batches and attacks; the digits are always the same.
    """
    train, test = digits(config)
    assert train.labels is not None
    assert test.labels is not None
    perturb = None
    if config["training"] is not None:
        options = {"epsilon": config["epsilon"], "steps": config["inner_steps"]}
        perturb = partial(ATTACKS[config["training"]], **options)
    steps = config["steps"]
    net = train_classifier(train.values, train.labels, DIGITS, steps, seed, perturb=perturb)
    x, y = test.values, test.labels
    values = {"clean": float((classify(net, x) == y).mean())}
    shown = {"clean": x[:SHOWN]}
    for epsilon in config["epsilons"]:
        for name in ATTACKS:
            changed = attack(name, net, x, y, epsilon, config["attack_steps"])
            values[f"{name} {epsilon:g}"] = float((classify(net, changed) == y).mean())
            if epsilon == SHOWN_EPSILON:
                shown[name] = changed[:SHOWN]
    answers = {f"{name} answers": classify(net, images) for name, images in shown.items()}
    return Outcome(values, {**shown, **answers})


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: digits of the first case with its answers, and accuracies by epsilon."""
    colours = dict(zip(ATTACKS, (GREY, BLUE, ORANGE), strict=True))
    with figure(path, 12, 3.9) as drawing:
        above, below = drawing.subfigures(2, 1, height_ratios=(0.45, 1.25))
        first = results[0]
        panels = above.subplots(1, 1 + len(ATTACKS))
        for axes, name in zip(panels, ("clean", *ATTACKS), strict=True):
            if name in first.arrays[0]:
                _draw_digits(axes, name, first.arrays[0])
            axes.set_axis_off()
        panels = below.subplots(1, len(results), sharey=True, squeeze=False)[0]
        for axes, result in zip(panels, results, strict=True):
            for name, colour in colours.items():
                epsilons = [0.0, *result.config["epsilons"]]
                keys = ["clean", *(f"{name} {epsilon:g}" for epsilon in epsilons[1:])]
                curves = 100 * np.array([result.values[key] for key in keys])
                axes.plot(epsilons, curves.mean(axis=1), "o-", ms=3, color=colour, label=name)
            if result.config["training"] is not None:
                axes.axvline(result.config["epsilon"], color=GREEN, lw=1, ls=":")
            axes.set(title=result.name, xlabel="epsilon", ylim=(-3, 103))
        panels[0].set_ylabel("accuracy, %")
        panels[0].legend(loc="lower left")


def _draw_digits(axes: Any, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    axes.imshow(tile(arrays[name], columns=SHOWN), cmap="gray", vmin=0, vmax=255)
    answers = arrays[f"{name} answers"]
    for i, (answer, correct) in enumerate(zip(answers, arrays["clean answers"], strict=True)):
        colour = "black" if answer == correct else ORANGE
        axes.text(15 + 29 * i, 36, str(answer), ha="center", va="center", color=colour)
    size = "" if name == "clean" else f", epsilon {SHOWN_EPSILON:g}"
    axes.set(title=f"{name}{size}", ylim=(42, -1))


DATA: dict[str, Any] = {"data": "mnist", "split": "test", "digits": "test"}
_SHARED: dict[str, Any] = {
    **DATA,
    "steps": 600,
    "attack_steps": 20,
    "epsilons": [0.05, 0.1, 0.2, 0.3],
    "epsilon": 0.2,
    "inner_steps": 3,
}
_SHOWN_MEASURES = {
    f"{name} {epsilon:g}": Measure(f"{name} {epsilon:g}", 1, 100)
    for epsilon in (0.1, 0.2, 0.3)
    for name in ATTACKS
}

ADVERSARIAL = Experiment(
    about="accuracy of digit classifiers under FGSM and PGD, and adversarial training",
    source="",
    minutes=10,
    cases={
        name: Case(measure_accuracy, {**_SHARED, "training": training})
        for name, training in {
            "plain": None,
            "trained with noise": "noise",
            "trained with FGSM": "FGSM",
            "trained with PGD": "PGD",
        }.items()
    },
    measures={"clean": Measure("clean, %", 1, 100), **_SHOWN_MEASURES},
    published={},
    draw=draw,
    caption="Above: test digits before and after attacks on the plain classifier of seed 0, and its"
    " answers, orange where they changed. Below: mean accuracy; dotted: the epsilon of training.",
)
