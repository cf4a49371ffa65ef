"""Measure the gauges of a training at a logged step: what may be wrong with it, as numbers.

The nets are applied to a few training, held-out and generated samples in eval mode, with random
generators of their own, so the bits of the training do not depend on it. `minigan doctor` compares
the gauges with thresholds (`minigan/doctor`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.device import use_device
from ..utils.notices import Notice
from . import gauge_functions as functions
from .probe import Probe, probe
from .reference import Reference
from .trail import Trail

if TYPE_CHECKING:
    from .trainer import Trainer

DIGITS = 5  # significant digits of a gauge in a line of metrics


@dataclass(frozen=True)
class Gauge:
    """A number that tells something about a training.

    Attributes:
        unit: its unit.
        about: what it is.
        measure: a function of a Probe that returns it, or None where it cannot be measured.
    """

    unit: str
    about: str
    measure: Callable[[Probe], float | None]


def _gap(p: Probe) -> float | None:
    return float(p.real_logits.mean(dtype=np.float64) - p.fake_logits.mean(dtype=np.float64))


def _deviation(p: Probe) -> float | None:
    return float(p.all_logits.std(dtype=np.float64))


def _saturation(p: Probe) -> float | None:
    return None if p.slopes is None else float((p.slopes < 0.05).mean())


def _diversity(p: Probe) -> float | None:
    real = p.reference.deviation
    fake = (
        functions.deviation(p.fake)
        if p.fake_labels is None
        else functions.deviation_within_classes(p.fake, p.fake_labels)
    )
    return fake / real if real > 0 else None


def _agreement(p: Probe) -> float | None:
    means, real, chance = p.reference.class_means, p.reference.agreement, p.reference.chance
    if p.fake_labels is None or means is None or real - chance < 0.2:
        return None  # Without labels, or where a nearest mean does not find the class of real data.
    return (functions.class_agreement(p.fake, p.fake_labels, means) - chance) / (real - chance)


def _memorization(p: Probe) -> float | None:
    if p.train_logits is None or p.held_out_logits is None:
        return None
    return functions.share_above(p.train_logits, p.held_out_logits)


def _memorization_error(p: Probe) -> float | None:
    if p.train_logits is None or p.held_out_logits is None:
        return None
    return functions.rank_error(len(p.train_logits), len(p.held_out_logits))


def _largest(ranges: list[np.ndarray]) -> float | None:
    return max((float(np.abs(x).max()) for x in ranges), default=None)


# What a line of metrics has of each gauge, by its name.
GAUGES: dict[str, Gauge] = {
    "logit_gap": Gauge("logits", "D's mean output of a real batch minus that of a fake one", _gap),
    "logit_deviation": Gauge("logits", "standard deviation of D's outputs of both", _deviation),
    "logit_low": Gauge("logits", "lowest output of D", lambda p: float(p.all_logits.min())),
    "logit_high": Gauge("logits", "highest output of D", lambda p: float(p.all_logits.max())),
    "saturation": Gauge(
        "share of samples",
        "generated samples for which the slope of G's loss is below 5 % of that at output 0",
        _saturation,
    ),
    "diversity": Gauge(
        "ratio",
        "standard deviation of generated samples, divided by the data's (within classes for a"
        " conditional run); 1 for equal ones, 0 for equal samples",
        _diversity,
    ),
    "nearest": Gauge(
        "ratio",
        "mean distance of a real sample to the nearest of as many generated ones, divided by that"
        " of a generated sample to the nearest real one; large where parts of the data are missed",
        lambda p: functions.nearest_ratio(p.held_out if len(p.held_out) else p.train, p.fake),
    ),
    "memorization": Gauge(
        "share of pairs",
        "pairs of a training and a held-out sample in which D's output of the first is higher;"
        " 0.5 where D treats them alike",
        _memorization,
    ),
    "memorization_error": Gauge(
        "share of pairs",
        "standard error of the memorization of a D that treats both alike; it falls with the number"
        " of held-out samples",
        _memorization_error,
    ),
    "class_agreement": Gauge(
        "share",
        "generated samples nearest to the mean of their class, from 0 for chance to 1 for as many"
        " as of real data",
        _agreement,
    ),
    "fake_low": Gauge("data", "lowest generated number", lambda p: p.range_of(p.fake)[0]),
    "fake_high": Gauge("data", "highest generated number", lambda p: p.range_of(p.fake)[1]),
    "real_low": Gauge("data", "lowest number of real samples", lambda p: p.reference.range[0]),
    "real_high": Gauge("data", "highest number of real samples", lambda p: p.reference.range[1]),
    "dead_d": Gauge(
        "share of units",
        "constant units, for real and generated samples, in the layer of D that has most of them",
        lambda p: functions.dead_share(p.units["d"]),
    ),
    "dead_g": Gauge(
        "share of units",
        "constant units, for all latents, in the layer of G that has most of them",
        lambda p: functions.dead_share(p.units["g"]),
    ),
    "activation_d": Gauge(
        "absolute value", "largest activation of D", lambda p: _largest(p.units["d"])
    ),
    "activation_g": Gauge(
        "absolute value", "largest activation of G", lambda p: _largest(p.units["g"])
    ),
    "weight_d": Gauge(
        "root mean square", "size of D's parameters", lambda p: p.parameter_sizes["d"]
    ),
    "weight_g": Gauge(
        "root mean square", "size of G's parameters", lambda p: p.parameter_sizes["g"]
    ),
    "update_d": Gauge(
        "ratio",
        "change of D's parameters since the last line, relative to their size",
        lambda p: p.relative("d", p.parameter_sizes["d"]),
    ),
    "update_g": Gauge(
        "ratio",
        "change of G's parameters since the last line, relative to their size",
        lambda p: p.relative("g", p.parameter_sizes["g"]),
    ),
    "movement": Gauge(
        "ratio",
        "change of the samples of fixed latents since the last line, relative to the data's"
        " standard deviation",
        lambda p: p.relative("samples", p.reference.total_deviation),
    ),
    "drift": Gauge(
        "ratio",
        "change of the mean of these samples since the last line, relative to the same",
        lambda p: p.drift,
    ),
    "rotation_d": Gauge(
        "cosine",
        "cosine of the angle between D's last two displacements; -1: it oscillates",
        lambda p: p.steps["d"].cosine,
    ),
    "rotation_g": Gauge(
        "cosine",
        "cosine of the angle between G's last two displacements",
        lambda p: p.steps["g"].cosine,
    ),
    "rotation_samples": Gauge(
        "cosine",
        "cosine of the angle between the last two displacements of the samples of fixed latents",
        lambda p: p.steps["samples"].cosine,
    ),
    "lr_d": Gauge("learning rate", "learning rate of D in this step", lambda p: p.rates["d"]),
    "lr_g": Gauge("learning rate", "learning rate of G in this step", lambda p: p.rates["g"]),
}


class Gauges:
    """The gauges of a training, with what they remember from one logged step to the next.

    Args:
        trainer: the training.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        players = trainer.players
        self._parameters = {
            "d": players.discriminator.parameters(),
            "g": players.generator.parameters(),
        }
        sizes = {
            name: sum(math.prod(x.shape) for x in parts) for name, parts in self._parameters.items()
        }
        self._reference: Reference | None = None
        sizes["samples"] = Reference.samples(trainer) * len(Reference.followed(trainer))
        self.trails = {name: Trail(size) for name, size in sizes.items()}
        self._has_failed = False

    def measure(self, output: dict[str, Any], keep: bool = True) -> dict[str, float]:
        """Return the gauges that can be measured, by name, after a training step.

        Args:
            output: the results of the step, of `Players.step`.
            keep: whether this step counts as the last logged one from now on.
        """
        trainer = self.trainer
        before = {name: trail.positions for name, trail in self.trails.items()}
        try:
            # A training that diverges has infinite numbers shortly before it ends.
            with use_device(trainer.device), np.errstate(all="ignore"):
                if self._reference is None:
                    self._reference = Reference.of(trainer)
                measured = probe(trainer, self._reference, self.trails, self._parameters, output)
                values = {name: gauge.measure(measured) for name, gauge in GAUGES.items()}
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            if not self._has_failed:  # A net of the user's own may not work outside of a training.
                text = f"the gauges of this training cannot be measured: {error}"
                warnings.warn(text, Notice, stacklevel=2)
            self._has_failed = True
            values = {}
        if not keep:
            for name, positions in before.items():
                self.trails[name].positions = positions
        return {
            name: float(f"{x:.{DIGITS}g}")
            for name, x in values.items()
            if x is not None and math.isfinite(x)
        }

    def state(self) -> dict[str, np.ndarray]:
        """Return the positions at the last logged steps, by the names of tensors in a state."""
        trails = {f"gauges.{name}": trail.state() for name, trail in self.trails.items()}
        return {name: x for name, x in trails.items() if len(x)}

    def load_state(self, tensors: dict[str, np.ndarray]) -> None:
        """Take the positions out of the tensors of a state; older states have none.

        Raises:
            ValueError: they do not fit.
        """
        for name, trail in self.trails.items():
            positions = tensors.pop(f"gauges.{name}", None)
            if positions is None:
                trail.positions = []
            else:
                trail.load_state(positions)
