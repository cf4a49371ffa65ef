"""Does the discriminator of a GAN detect adversarial digits? It is compared with other detectors.

A detector gives each digit a score; it is judged by the area under its ROC curve. A plain
classifier is attacked as in `adversarial.py`, and once by an attack that also evades the detector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import adversarial, nn, ops
from ..data import Dataset
from ..engine.random import fork_rng
from ..engine.tensor import Tensor, no_grad
from ..metrics import classify, nearest_distances, roc_auc, train_classifier
from ..training.config import Config
from ..training.trainer import Trainer
from ..utils import strict_json
from ..utils.figures import BLUE, GREEN, GREY, ORANGE, PINK, figure
from .adversarial import ATTACKS, DATA, DIGITS, attack, by_batch, digits
from .experiment import Case, CaseResult, Experiment, Measure, Outcome

GREY_PIXEL = 0.9  # A pixel of smaller absolute value is neither black nor white.

# Both give one number per digit, the larger the more it looks adversarial. Of tensors gradients can
# be taken.
TensorScore = Callable[[Tensor], Tensor]
ArrayScore = Callable[[np.ndarray], np.ndarray]


# ---------------------------------------------------------------------------------- detectors
def _gan(config: Mapping[str, Any], seed: int, train: Dataset, net: nn.Module) -> TensorScore:
    """Train a GAN; return minus the logit of its discriminator."""
    options = Config.from_dict(dict(config["training"])).replace(seed=seed)
    trainer = Trainer(options, train)
    for _ in range(options.steps):
        trainer.step()
    discriminator = trainer.discriminator.eval()
    return lambda x: -discriminator(x).reshape(len(x))


def _trained(config: Mapping[str, Any], seed: int, train: Dataset, net: nn.Module) -> TensorScore:
    """Train a classifier of clean against adversarial digits; return the logit of the latter.

    With "noise" in the configuration, digits with noise of the same size count as clean.
    """
    x, y = train.values, train.labels
    assert y is not None
    sizes = {"epsilon": config["epsilon"], "steps": config["attack_steps"]}
    parts = [x, attack("PGD", net, x, y, **sizes)]
    if config["noise"]:
        parts.append(attack("noise", net, x, y, **sizes))
    labels = np.repeat([0, 1, 0][: len(parts)], len(x))
    detector = train_classifier(np.concatenate(parts), labels, 2, config["steps"], seed)

    def score(x: Tensor) -> Tensor:
        logits = detector(x)
        return logits[:, 1] - logits[:, 0]

    return score


def _variation(config: Mapping[str, Any], seed: int, train: Dataset, net: nn.Module) -> TensorScore:
    """Return the total variation: the mean difference of neighbouring pixels, of both axes."""

    def score(x: Tensor) -> Tensor:
        down, right = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
        return ops.abs(down).mean(axis=(1, 2, 3)) + ops.abs(right).mean(axis=(1, 2, 3))

    return score


def _grey(config: Mapping[str, Any], seed: int, train: Dataset, net: nn.Module) -> ArrayScore:
    """Return the share of pixels that are neither black nor white."""
    return lambda x: (abs(x) < GREY_PIXEL).mean(axis=(1, 2, 3))


def _nearest(config: Mapping[str, Any], seed: int, train: Dataset, net: nn.Module) -> ArrayScore:
    """Return the distance to the nearest training digit."""
    return lambda x: nearest_distances(x, train.values)[0][:, 0]


OF_TENSORS = {"gan": _gan, "trained": _trained, "variation": _variation}
OF_ARRAYS = {"grey": _grey, "nearest": _nearest}


# ------------------------------------------------------------------------------------ measures
def measure_detector(config: Mapping[str, Any], seed: int) -> Outcome:
    """Attack a plain classifier; return the area under the ROC curve of a detector.

    Args:
        config: "detector", a name in OF_TENSORS or OF_ARRAYS, with what it needs; "attacked", the
            configuration of `_attacked`; "evading", the epsilon of the attack that evades the
            detector (None: it is not made), and "weight", the factor c in it.
        seed: of the weights, batches and attacks of classifier and detector.
    """
    train, test = digits(config["attacked"])
    assert test.labels is not None
    x, y = test.values, test.labels
    net, changed = _attacked(strict_json.dumps(config["attacked"]), seed)
    of_tensors, name = None, config["detector"]
    steps = {"attack_steps": config["attacked"]["attack_steps"]}
    if name in OF_TENSORS:
        of_tensors = OF_TENSORS[name]({**config, **steps}, seed, train, net)
        score: ArrayScore = partial(_of_arrays, of_tensors)
    else:
        score = OF_ARRAYS[name](config, seed, train, net)
    clean = score(x)
    values: dict[str, float] = {}
    scores = {key: score(images) for key, images in changed.items()}
    for epsilon in config["attacked"]["epsilons"]:
        values |= {f"{n} {epsilon:g}": roc_auc(clean, scores[f"{n} {epsilon:g}"]) for n in ATTACKS}
        pair = scores[f"noise {epsilon:g}"], scores[f"PGD {epsilon:g}"]
        values[f"PGD, noise {epsilon:g}"] = roc_auc(*pair)
    values |= {"evading": float("nan"), "accuracy": float("nan")}
    if config["evading"] is not None:
        images = _evade(config, net, of_tensors, x, y)
        values["evading"] = roc_auc(clean, score(images))
        values["accuracy"] = float((classify(net, images) == y).mean())
    return Outcome(values)


@cache  # The detectors of one seed see the same digits; a process of its own computes them again.
def _attacked(config_text: str, seed: int) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """Train a plain classifier; return it, and the test digits after each attack at each epsilon.

    Args:
        config_text: JSON of "data", "split" and "digits", see `digits`; "steps" of training;
            "attack_steps" of PGD; "epsilons".
    """
    config = dict(strict_json.loads(config_text))
    train, test = digits(config)
    assert train.labels is not None
    assert test.labels is not None
    net = train_classifier(train.values, train.labels, DIGITS, config["steps"], seed)
    with fork_rng(seed):
        changed = {
            f"{name} {epsilon:g}": attack(
                name, net, test.values, test.labels, epsilon, config["attack_steps"]
            )
            for epsilon in config["epsilons"]
            for name in ATTACKS
        }
    return net, changed


def _of_arrays(score: TensorScore, x: np.ndarray) -> np.ndarray:
    with no_grad():
        return by_batch(score, x)


def _evade(
    config: Mapping[str, Any],
    net: nn.Module,
    score: TensorScore | None,
    x: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """Return digits that deceive the classifier while the detector sees no difference.

    The attack ascends the cross-entropy minus c max(0, score - score of the clean digit). Without a
    score of tensors it is the one against the share of grey pixels: PGD on grey pixels alone.
    """
    steps = 2 * config["attacked"]["attack_steps"]

    def step(clean: Tensor, y: Tensor) -> Tensor:
        is_grey = ops.abs(clean) < GREY_PIXEL
        allowed = None if score is None else score(clean)

        def objective(x: Tensor) -> Tensor:
            if score is None or allowed is None:
                grey_changed = ops.where(is_grey, x, clean)
                return adversarial.cross_entropy_per_sample(net(grey_changed), y)
            loss = adversarial.cross_entropy_per_sample(net(x), y)
            return loss - config["weight"] * ops.relu(score(x) - allowed)

        moved = adversarial.ascend(objective, clean, config["evading"], steps=steps)
        return ops.where(is_grey, moved, clean) if score is None else moved

    return by_batch(step, x, labels)


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: the area under the ROC curve of each detector, by attack."""
    colours = {"noise": GREY, "FGSM": BLUE, "PGD": ORANGE, "PGD, noise": GREEN, "evading": PINK}
    labels = {"PGD, noise": "PGD against noise", "evading": "PGD that evades the detector"}
    epsilons = results[0].config["attacked"]["epsilons"]
    with figure(path, 12, 4) as drawing:
        panels = drawing.subplots(1, len(epsilons), sharey=True, squeeze=False)[0]
        for axes, epsilon in zip(panels, epsilons, strict=True):
            for i, (name, colour) in enumerate(colours.items()):
                for row, result in enumerate(results):
                    is_evading = name == "evading"
                    if is_evading and result.config["evading"] != epsilon:
                        continue
                    aucs = result.values[name if is_evading else f"{name} {epsilon:g}"]
                    height = len(results) - row + (2 - i) * 0.13
                    label = labels.get(name, name) if row == 0 else None
                    axes.plot(aucs, [height] * len(aucs), "o", ms=4, color=colour, label=label)
            axes.axvline(0.5, color="black", lw=1, ls=":")
            axes.set(title=f"epsilon {epsilon:g}", xlabel="area under the ROC curve")
            axes.set_xlim(-0.03, 1.03)
            axes.set_yticks(range(len(results), 0, -1), [result.name for result in results])
        panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))


_ATTACKED: dict[str, Any] = {**DATA, "steps": 600, "attack_steps": 20, "epsilons": [0.1, 0.2]}
_GAN: dict[str, Any] = {"data": "mnist", "split": "test", "holdout": 0.0}
# D of the tutorials' GAN, and a small convolutional one, both without batch norm.
_MLP = Config(**_GAN, model="mlp", steps=2000).as_dict()
_CONVOLUTIONAL = Config(
    **_GAN,
    model="narrow",
    loss="relativistic",
    penalty="r1+r2",
    penalty_weight=0.5,
    steps=600,
    batch=32,
    lr_g=1e-3,
    lr_d=1e-3,
    beta1=0.0,
    beta2=0.99,
).as_dict()
_TRAINED: dict[str, Any] = {"detector": "trained", "epsilon": 0.1, "steps": 600}


def _case(evading: float | None = 0.2, weight: float = 1.0, **options: Any) -> Case:
    shared = {"attacked": _ATTACKED, "evading": evading, "weight": weight}
    return Case(measure_detector, {**shared, **options})


def _measures() -> dict[str, Measure]:
    columns = {}
    for epsilon in _ATTACKED["epsilons"]:
        for name in (*ATTACKS, "PGD, noise"):
            title = name.replace(", ", " against ")
            columns[f"{name} {epsilon:g}"] = Measure(f"{title} {epsilon:g}", 2)
    columns["evading"] = Measure("evading PGD 0.2", 2)
    return columns | {"accuracy": Measure("the classifier's accuracy under it, %", 1, 100)}


DETECTORS = Experiment(
    about="does a GAN's discriminator detect adversarial digits?",
    source="",
    minutes=15,
    cases={
        "grey pixels": _case(detector="grey"),
        "total variation": _case(detector="variation", weight=100.0),
        "nearest training digit": _case(detector="nearest", evading=None),
        "D of an MLP GAN": _case(detector="gan", weight=10.0, training=_MLP),
        "D of a convolutional GAN": _case(detector="gan", weight=10.0, training=_CONVOLUTIONAL),
        "trained on PGD 0.1": _case(**_TRAINED, noise=False),
        "trained on PGD 0.1 and noise": _case(**_TRAINED, noise=True),
    },
    measures=_measures(),
    published={},
    draw=draw,
    caption="A dot per seed. Dotted: a detector that guesses. Left of it, adversarial digits look"
    " more like clean ones than clean ones do.",
)
