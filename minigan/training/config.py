"""What a training run is made of: one flat record, written to config.json as it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..engine.device import device_names
from ..engine.random import LATENTS
from ..gan.augment import POLICIES
from ..gan.conditional import CONDITIONS
from ..gan.losses import LOSSES
from ..gan.models import MODELS
from ..gan.penalties import PENALTIES
from ..optim import OPTIMIZERS
from ..optim.schedules import SCHEDULES
from ..utils.names import choose

MINIBATCH = ("none", "discrimination", "stddev")
GENERATOR_LOSSES = ("adversarial", "feature-matching")


@dataclass(frozen=True)
class Config:
    """All options of a run. None means: what suits the data, filled in when they are loaded.

    Raises ValueError, with the option's name, for a value that is not accepted.
    """

    data: str = "glyphs"
    split: str = "train"
    data_dir: str | None = None
    size: int | None = None  # samples to make, for the sets that are made
    holdout: float = 0.1  # share set aside for `minigan evaluate`
    standardize: bool = False  # points: the nets see them divided by their standard deviation
    model: str | None = None
    condition: str = "none"  # how the nets are told the labels
    minibatch: str = "none"  # a layer of D that sees how much the samples of a batch differ
    pack: int = 1  # samples that D judges as one (Lin et al. 2018)
    loss: str = "nonsaturating"
    generator_loss: str = "adversarial"
    smooth: float = 1.0  # target for real samples (one-sided label smoothing)
    penalty: str = "none"  # on D's slope; several are joined by +
    penalty_weight: float | None = None
    penalty_end: float | None = None  # the weight that it falls to, each step by the same factor
    penalty_steps: int | None = None  # the steps in which it does
    orthogonal: float = 0.0  # weight of the penalty that keeps filters apart, in both nets
    historical: float = 0.0  # weight of the distance to the parameters' average, in both nets
    augment: str = "none"  # of what D sees, real and generated; several are joined by commas
    instance_noise: float = 0.0  # its standard deviation at the start; falls to 0 in a line
    noise_steps: int | None = None  # the steps in which it does
    latent: str = "normal"
    latent_size: int | None = None
    steps: int = 12_000
    batch: int = 64
    optimizer: str = "adam"
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    beta1: float = 0.5  # of Adam; the momentum of SGD
    beta2: float = 0.999  # of Adam; the smoothing of RMSprop
    weight_decay: float = 0.0
    schedule: str = "constant"  # of both learning rates
    schedule_steps: int | None = None  # the steps in which it runs its course
    warmup: int = 0  # steps in which the learning rates rise to their height
    clip_norm: float = 0.0  # limit of the L2 norm of each player's gradient; 0: none
    clip_value: float = 0.0  # limit of each of its elements
    clip_weights: float = 0.0  # limit of D's parameters (Arjovsky et al. 2017)
    n_critic: int = 1  # discriminator updates per step
    n_generator: int = 1  # generator updates per step
    ema: float = 0.0  # decay of the generator's average, which is then what makes samples; 0: none
    device: str = "cpu"
    seed: int = 0
    log_every: int = 50
    sample_every: int = 1000
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not isinstance(self.data_dir, str | None):
            raise ValueError(
                f"data = {self.data!r}, data_dir = {self.data_dir!r}: strings are needed"
            )
        for name, accepted in _choices().items():
            value = getattr(self, name)
            if not (name == "model" and value is None):
                choose(name.replace("_", " "), value, accepted)
        for part in _parts(self, "penalty", "+"):
            choose("penalty", part, PENALTIES, "several joined by +")
        for part in _parts(self, "augment", ","):
            choose("augment", part, POLICIES, "several joined by commas")
        self._check_numbers()
        self._check_together()

    def _check_numbers(self) -> None:
        for name in COUNTS:
            value = getattr(self, name)
            if not (name in OPTIONAL and value is None) and (type(value) is not int or value < 1):
                raise ValueError(f"{name} = {value!r} is not a positive integer")
        for name, (accepts, what) in NUMBERS.items():
            value = getattr(self, name)
            if name in OPTIONAL and value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{name} = {value!r} is not a number")
            if not accepts(value):
                raise ValueError(f"{name} = {value!r} is not {what}")
        if type(self.warmup) is not int or self.warmup < 0:
            raise ValueError(f"warmup = {self.warmup!r} is not an integer of at least 0")
        if type(self.standardize) is not bool:
            raise ValueError(f"standardize = {self.standardize!r} is neither True nor False")
        if type(self.seed) is not int or not 0 <= self.seed < 2**64:
            raise ValueError(f"seed = {self.seed!r} is not an integer in [0, 2^64)")

    def _check_together(self) -> None:
        """ValueError where options that are each accepted do not go together."""
        LOSSES[self.loss](smooth=self.smooth)
        if self.batch % self.pack:
            raise ValueError(f"pack = {self.pack} does not divide batch = {self.batch}")
        if self.pack > 1 and self.condition != "none":
            raise ValueError(
                f"pack = {self.pack} and condition = {self.condition!r}: packed samples have no one"
                " label; give one of the two"
            )
        if self.generator_loss == "feature-matching" and self.condition in ("acgan", "projection"):
            raise ValueError(
                f"generator_loss = 'feature-matching' and condition = {self.condition!r}: those"
                " features know no label, so the generator would learn none; condition = 'concat'"
                " goes with it"
            )
        judged = self.batch // self.pack
        if self.minibatch == "stddev" and judged > 4 and judged % 4:
            raise ValueError(
                f"minibatch = 'stddev' compares samples by fours, and batch = {self.batch}, pack ="
                f" {self.pack} make {judged} of them, which 4 does not divide"
            )
        for name in ("penalty_weight", "penalty_end"):
            if getattr(self, name) is not None and self.penalty == "none":
                raise ValueError(f"{name} = {getattr(self, name)} without a penalty")
        weights = {PENALTIES[name].weight for name in self.penalties}
        if self.penalty_end is not None and self.penalty_weight is None and len(weights) > 1:
            raise ValueError(
                f"penalty_end = {self.penalty_end}, but the parts of {self.penalty!r} begin at"
                f" different weights, {sorted(weights)}; a penalty_weight is needed"
            )
        if self.schedule_steps is not None and self.schedule == "constant":
            raise ValueError(f"schedule_steps = {self.schedule_steps} without a schedule")
        if self.penalty_steps is not None and self.penalty_end is None:
            raise ValueError(f"penalty_steps = {self.penalty_steps} without penalty_end")
        if self.noise_steps is not None and not self.instance_noise:
            raise ValueError(f"noise_steps = {self.noise_steps} without instance_noise")
        last = self.schedule_steps or self.steps
        if self.warmup >= last:
            raise ValueError(f"warmup = {self.warmup} leaves nothing of the {last} steps")

    @property
    def penalties(self) -> tuple[str, ...]:
        return _parts(self, "penalty", "+")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def replace(self, **options: Any) -> Config:
        return dataclasses.replace(self, **options)


OPTIONAL = (
    *("latent_size", "size", "noise_steps", "penalty_steps", "schedule_steps"),
    *("penalty_weight", "penalty_end"),
)
COUNTS = (
    *("steps", "batch", "n_critic", "n_generator", "log_every", "sample_every"),
    *("checkpoint_every", "latent_size", "size", "pack"),
    *("noise_steps", "penalty_steps", "schedule_steps"),
)
Check = tuple[Callable[[float], bool], str]
POSITIVE: Check = (lambda x: 0 < x < math.inf, "a positive number")
NOT_NEGATIVE: Check = (lambda x: 0 <= x < math.inf, "a finite number of at least 0")
SHARE: Check = (lambda x: 0 <= x < 1, "in [0, 1)")
NUMBERS: dict[str, Check] = {
    **dict.fromkeys(("lr_g", "lr_d", "penalty_weight", "penalty_end"), POSITIVE),
    **dict.fromkeys(("beta1", "beta2", "ema", "holdout"), SHARE),
    "smooth": (lambda x: 0.5 < x <= 1, "in (0.5, 1]"),
    **dict.fromkeys(("orthogonal", "historical", "instance_noise", "weight_decay"), NOT_NEGATIVE),
    **dict.fromkeys(("clip_norm", "clip_value", "clip_weights"), NOT_NEGATIVE),
}


def _choices() -> dict[str, Any]:
    """What each option that is a name may be; models can be added to while a program runs."""
    return {
        "model": MODELS,
        "condition": CONDITIONS,
        "minibatch": dict.fromkeys(MINIBATCH),
        "loss": LOSSES,
        "generator_loss": dict.fromkeys(GENERATOR_LOSSES),
        "latent": LATENTS,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "device": dict.fromkeys(device_names()),
    }


def _parts(config: Config, name: str, separator: str) -> tuple[str, ...]:
    """The names that an option joins; none of "none"."""
    value = getattr(config, name)
    if not isinstance(value, str):
        raise ValueError(f"{name} = {value!r} is not a string")
    parts = tuple(part.strip() for part in value.split(separator))
    if len(set(parts)) < len(parts):
        raise ValueError(f"{name} = {value!r} names one twice")
    return () if parts == ("none",) else parts
