"""The configuration of a training of images from images, as config.json of its run holds it."""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass, field
from functools import partial
from typing import Any

from ..training.config import Config, check_options
from ..training.options import NOT_NEGATIVE, POSITIVE, Check, at_most, from_values, option, options
from .networks import NORMS
from .tasks import TASKS, TRANSFORMS

GROUP = "images from images, with --task"
# The options whose default depends on the task.
FILLED = ("l1", "features", "cycle", "identity", "norm", "lr_g", "lr_d")

DESCRIPTIONS = "; ".join(f"{name}: {task.about}" for name, task in TASKS.items())
task_option = partial(option, group=GROUP)


def _shared(name: str, default: Any = MISSING) -> Any:
    """Return the field of an option that is declared in Config, perhaps with another default."""
    declared = {item.name: item for item in dataclasses.fields(Config)}[name]
    return field(
        default=declared.default if default is MISSING else default, metadata=declared.metadata
    )


@dataclass(frozen=True)
class TranslationConfig:
    """The options of a training of images from images; those of Config have its meaning.

        config = TranslationConfig(task="inpaint", data="mnist", steps=1000)
        run = mg.train_translation(config)

    Raises:
        ValueError: a value is not accepted, or options contradict each other; the message names
            them.
    """

    task: str = task_option(
        "inpaint",
        f"what the generator does with an image ({DESCRIPTIONS})",
        choices=TASKS,
        default_text="none: images from noise",
    )
    target: str | None = task_option(
        None,
        "for pairs: the folder of the images to make, with the file names of --data; for unpaired:"
        f" the other images, or {' or '.join(TRANSFORMS)}, half of the data changed in that way",
        metavar="DATA",
        default_text="for pairs: the right half of each image",
    )
    swap: bool = task_option(False, "exchange inputs and targets: translate --target into --data")
    hole: float = task_option(
        0.5,
        "for inpaint: side of the square hole, as a fraction of the shorter side",
        check=Check("in (0, 1]", lambda x: 0 < x <= 1),
    )
    factor: int = task_option(
        4, "for super-resolution: by how much both sides are enlarged", check=at_most(64)
    )
    noise: float = task_option(
        0.5,
        "for denoise: standard deviation of the noise, where black is -1 and white 1",
        check=POSITIVE,
    )
    adversarial: float = task_option(
        1.0, "weight of the adversarial loss of G; 0: the other losses alone", check=NOT_NEGATIVE
    )
    l1: float | None = task_option(
        None,
        "weight of the mean absolute difference to the truth (100 in pix2pix)",
        check=NOT_NEGATIVE,
        default_text="10; unpaired: none",
    )
    features: float | None = task_option(
        None,
        "weight of the difference of D's features to those of the truth (pix2pixHD)",
        check=NOT_NEGATIVE,
        default_text="0; unpaired: none",
    )
    cycle: float | None = task_option(
        None,
        "for unpaired: weight of the cycle-consistency loss (there and back)",
        check=NOT_NEGATIVE,
        default_text="10",
    )
    identity: float | None = task_option(
        None,
        "for unpaired: weight of the change of an image that is of the other kind already (5 in"
        " CycleGAN's translation of paintings)",
        check=NOT_NEGATIVE,
        default_text="0",
    )
    width: int = task_option(32, "channels of both nets at the full size", check=at_most(1024))
    depth: int = task_option(2, "how often the nets halve the sides of an image", check=at_most(8))
    blocks: int = task_option(2, "residual blocks in the middle of G", check=at_most(64))
    norm: str | None = task_option(
        None,
        "norm of G's layers; with batch norm a large image is treated like its parts",
        choices=NORMS,
        default_text="batch; unpaired: instance",
    )
    data: str = _shared("data")
    split: str = _shared("split")
    data_dir: str | None = _shared("data_dir")
    samples: int | None = _shared("samples")
    holdout: float = _shared("holdout")
    sample_shape: str | None = _shared("sample_shape")
    value_range: str | None = _shared("value_range")
    classes: int | None = _shared("classes")
    remap_labels: bool = _shared("remap_labels")
    max_gb: float = _shared("max_gb")
    size: str | None = _shared("size")
    fit: str = _shared("fit")
    mirror: bool = _shared("mirror")
    grey: bool = _shared("grey")
    background: str = _shared("background")
    skip_broken: bool = _shared("skip_broken")
    loss: str = _shared("loss", "leastsquares")
    steps: int = _shared("steps", 2000)
    batch: int = _shared("batch", 16)
    optimizer: str = _shared("optimizer")
    lr_g: float | None = _shared("lr_g", None)
    lr_d: float | None = _shared("lr_d", None)
    beta1: float = _shared("beta1")
    beta2: float = _shared("beta2")
    weight_decay: float = _shared("weight_decay")
    schedule: str = _shared("schedule", "linear")
    schedule_steps: int | None = _shared("schedule_steps")
    warmup: int = _shared("warmup")
    clip_norm: float = _shared("clip_norm")
    ema: float = _shared("ema")
    device: str = _shared("device")
    matmul_precision: str = _shared("matmul_precision")
    seed: int = _shared("seed")
    log_every: int = _shared("log_every")
    sample_every: int = _shared("sample_every", 250)
    evaluate_every: int | None = _shared("evaluate_every")
    checkpoint_every: int = _shared("checkpoint_every")
    keep: int = _shared("keep")

    def __post_init__(self) -> None:
        check_options(self)
        self._check_task()
        if self.schedule_steps is not None and self.schedule == "constant":
            raise ValueError(f"schedule_steps = {self.schedule_steps} without a schedule")
        last = self.schedule_steps or self.steps
        if self.warmup >= last:
            raise ValueError(f"warmup = {self.warmup} leaves nothing of the {last} steps")

    def _check_task(self) -> None:
        """Raise ValueError where an option is set that the task does not have."""
        own = TASKS[self.task].options
        for name in {name for task in TASKS.values() for name in task.options} - set(own):
            value = getattr(self, name)
            if value != options(TranslationConfig)[name].default:
                tasks = [task for task, x in TASKS.items() if name in x.options]
                raise ValueError(
                    f"{name} = {value!r} is for task = {' or '.join(map(repr, tasks))}, not for"
                    f" {self.task!r}"
                )
        for name in ("l1", "features"):
            value = getattr(self, name)
            if self.is_unpaired and value:
                raise ValueError(
                    f"{name} = {value} needs the truth of each image, which task = 'unpaired' does"
                    " not have; cycle and identity are its losses"
                )
        if self.is_unpaired and self.target is None:
            raise ValueError(
                "task = 'unpaired' needs target: other images, or"
                f" {' or '.join(TRANSFORMS)} (--target)"
            )
        names = ("cycle", "identity") if self.is_unpaired else ("l1", "features")
        given = [getattr(self, name) for name in names]
        defaults = [self._defaults()[name] for name in names]
        weights = [d if x is None else x for x, d in zip(given, defaults, strict=True)]
        if not any([self.adversarial, *weights]):
            raise ValueError("all weights of G's losses are 0: it would learn nothing")

    def _defaults(self) -> dict[str, Any]:
        """Return the values of FILLED for the task.

        With the rates of pairs some seeds of unpaired trainings fail (`reproduce/README.md`).
        """
        if self.is_unpaired:
            values: tuple[Any, ...] = (None, None, 10.0, 0.0, "instance", 4e-4, 4e-4)
        else:
            values = (10.0, 0.0, None, None, "batch", 1e-3, 1e-3)
        return dict(zip(FILLED, values, strict=True))

    @property
    def is_unpaired(self) -> bool:
        """Whether the truth of an image is not known."""
        return self.task == "unpaired"

    @property
    def label(self) -> str:
        """What the name of a run's folder ends with."""
        return self.task

    def filled(self) -> TranslationConfig:
        """Return the config with its open options set to defaults for the task."""
        changes = {name: x for name, x in self._defaults().items() if getattr(self, name) is None}
        changes["evaluate_every"] = self.evaluate_every or self.sample_every
        if self.schedule != "constant":
            changes["schedule_steps"] = self.schedule_steps or self.steps
        return self.replace(**changes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TranslationConfig:
        """Return the config that `as_dict` returned.

        Raises:
            TypeError, ValueError: there is another option, or a value is not accepted.
        """
        return from_values(cls, values)

    def as_dict(self) -> dict[str, Any]:
        """Return the options by name, in the order of the fields."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> TranslationConfig:
        """Return a copy with some options changed."""
        return dataclasses.replace(self, **changes)
