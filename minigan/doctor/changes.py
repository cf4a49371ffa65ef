"""The options that a remedy changes: functions of the run's options.

Each is measured by `python -m minigan.doctor.cases` on the failure that it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..gan.penalties import PENALTIES
from ..training.options import split_names
from .record import is_own
from .rule import Options

BATCH_NORM = ("dcgan",)  # models whose discriminator takes no penalty


def slower(factor: float) -> Callable[[Options], dict[str, Any]]:
    """Return a function that divides both learning rates."""

    def changes(options: Options) -> dict[str, Any]:
        return {name: options[name] / factor for name in ("lr_g", "lr_d")}

    return changes


def calmer(options: Options) -> dict[str, Any]:
    """Return changes that end a growth of all values: smaller rates, a limit of the gradient."""
    if options["optimizer"] == "sgd":
        return {"optimizer": "adam", "lr_g": 2e-4, "lr_d": 2e-4, "beta1": 0.5, "clip_norm": 10.0}
    return {**slower(10)(options), "clip_norm": 10.0}


def balanced(options: Options) -> dict[str, Any]:
    """Return changes that let D keep up with G."""
    if options["lr_d"] < options["lr_g"]:
        return {"lr_g": options["lr_d"]}
    if options["pack"] == 1 and options["condition"] == "none" and options["batch"] % 8 == 0:
        return {"pack": 2}
    return {"n_critic": options["n_critic"] + 1}


def without_momentum(options: Options) -> dict[str, Any]:
    """Return changes that damp a rotation: no momentum, and for a critic a penalty on its slope."""
    if options["loss"] == "wasserstein" and options["model"] not in BATCH_NORM:
        penalty = {"clip_weights": 0.0, **gradient_penalty(options)}
        return {"beta1": 0.0, **penalty, "n_critic": max(3, options["n_critic"])}
    return {"beta1": 0.0, **slower(10)(options)}


def gradient_penalty(options: Options) -> dict[str, Any]:
    """Return the options of a critic's gradient penalty.

    Nets for points need the weight 0.1 of Gulrajani et al. 2017 for them: the usual 10 keeps the
    ring's samples as bad as without a penalty.
    """
    weight = 0.1 if str(options["model"]).startswith("toy") else None
    return {"penalty": "wgan-gp", "penalty_weight": weight}


def unsaturated(options: Options) -> dict[str, Any]:
    """Return changes after which G has a gradient where D recognizes its samples."""
    changes: dict[str, Any] = {"n_critic": 1}
    if options["loss"] == "minimax":
        changes["loss"] = "nonsaturating"
    return changes


def regularized(options: Options) -> dict[str, Any]:
    """Return changes that keep D from memorizing samples."""
    if options["model"] in BATCH_NORM:
        return {"augment": "color,translation"}
    return {"penalty": "r1", "penalty_weight": None, "n_critic": 1}


def stronger(options: Options) -> dict[str, Any]:
    if options["lr_d"] < options["lr_g"]:
        return {"lr_d": options["lr_g"]}
    return {} if is_own(options) else {"n_critic": options["n_critic"] + 1}


def usual_penalty(options: Options) -> dict[str, Any]:
    """Return a weight of the penalty that is the usual one, or a hundredth where it is that."""
    usual = min(PENALTIES[name].weight for name in split_names("penalty", options["penalty"], "+"))
    weight = options["penalty_weight"] or usual
    return {"penalty_weight": usual if weight > 2 * usual else weight / 100}


def scheduled(options: Options) -> dict[str, Any]:
    """Return a schedule that is as long as the training; a constant rate if that was it."""
    steps = options["schedule_steps"]
    if options["schedule"] != "constant" and steps is not None and steps < options["steps"]:
        return {"schedule_steps": options["steps"]}
    return {"schedule": "constant", "schedule_steps": None}


def standardized(options: Options) -> dict[str, Any]:
    """Return what brings points to deviation 1; images have the option value_range instead."""
    is_image = not is_own(options) and not str(options["model"]).startswith("toy")
    return {} if is_image or options["standardize"] else {"standardize": True}


def projected(options: Options) -> dict[str, Any]:
    return {} if is_own(options) else {"condition": "projection"}
