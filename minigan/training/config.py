"""The configuration of a training run, as config.json holds it.

Each option is declared here only: its field holds default, help, range, choices and group, from
which the checks, the command line and the table in README.md are made (see `options.py`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..data import GENERATED
from ..data.dataset import SPLITS
from ..data.download import SOURCES
from ..data.limits import MAX_GB
from ..data.settings import FITS, check_fit, parse_background, parse_range, parse_shape, parse_size
from ..engine.device import device_names
from ..engine.latents import LATENTS
from ..gan.augment import POLICIES
from ..gan.conditional import CLASSIFYING, CONDITIONS
from ..gan.losses import LOSSES
from ..gan.models import MODELS
from ..gan.penalties import PENALTIES
from ..kernels.matmul.precision import PRECISIONS
from ..optim import OPTIMIZERS
from ..optim.schedules import SCHEDULES
from .options import (
    FRACTION,
    NOT_NEGATIVE,
    NOT_NEGATIVE_INTEGER,
    POSITIVE,
    POSITIVE_INTEGER,
    SEED,
    Check,
    at_most,
    from_values,
    most_common_first,
    option,
    options,
    split_names,
)

MAX_CLASSES = 2**20  # A conditioned net has a table of them.
MINIBATCH_LAYERS = ("none", "discrimination", "stddev")
GENERATOR_LOSSES = ("adversarial", "feature-matching")
IMAGE_MODEL, POINT_MODEL = "mlp", "toy"  # the defaults of `model`

data_option = partial(option, group="data")
net_option = partial(option, group="nets")
loss_option = partial(option, group="loss")
training_option = partial(option, group="training")
file_option = partial(option, group="files")


@dataclass(frozen=True)
class Config:
    """The options of a run. The Trainer replaces None by a default that depends on the data.

        config = Config(data="ring", steps=2000, lr_d=4e-4)
        Trainer(config)

    Every field is an option of `minigan train`, where `lr_d` is written `--lr-d`. README.md beside
    this module lists them.

    Raises:
        ValueError: a value is not accepted, or options contradict each other; the message names
            them.
    """

    data: str = data_option(
        "glyphs",
        f"{', '.join(GENERATED)} (made here), {', '.join(SOURCES)} (downloaded once), a folder of"
        " images, an .npz file, or your own FILE.py:NAME",
    )
    split: str = data_option("train", "part of the data", choices=SPLITS)
    data_dir: str | None = data_option(
        None,
        "the only folder in which to look for the files of MNIST or Fashion-MNIST",
        metavar="DIR",
        default_text="MINIGAN_DATA, then the cache, then the network",
    )
    samples: int | None = data_option(
        None,
        "number of samples to generate or to draw from the data",
        check=POSITIVE_INTEGER,
        metavar="SAMPLES",
        default_text=lambda: (
            most_common_first({n: usual for n, (_, usual, _) in GENERATED.items()})
            + "; of other data all"
        ),
    )
    holdout: float = data_option(
        0.1, "fraction of the data held out for `minigan evaluate`", check=FRACTION
    )
    standardize: bool = data_option(False, "divide points by their standard deviation")
    sample_shape: str | None = data_option(
        None,
        "shape of a sample of an .npz: C,H,W of images, such as 1,28,28, or the length of points",
        metavar="SHAPE",
        default_text="that of the array",
    )
    value_range: str | None = data_option(
        None,
        "values of the images that become -1 and 1, such as 0,1 (write a negative low value as"
        " --value-range=-1,1)",
        metavar="LOW,HIGH",
        default_text="0,255 for bytes, -1,1 for floats",
    )
    classes: int | None = data_option(
        None,
        "number of classes of an .npz",
        check=at_most(MAX_CLASSES),
        default_text="its largest label plus one",
    )
    remap_labels: bool = data_option(
        False, "number the labels of an .npz from 0, in ascending order"
    )
    max_gb: float = data_option(
        MAX_GB,
        "limit of the samples in memory, in 1e9 bytes; a larger folder is read from a file in the"
        " cache",
        check=POSITIVE,
    )
    size: str | None = data_option(
        None,
        "size in pixels to which all images are resized: one number for square images, such as 64,"
        " or WIDTHxHEIGHT, such as 96x64",
        metavar="PIXELS",
        default_text="that of the images, which must all have the same",
    )
    fit: str = data_option(
        FITS[0],
        "how images are resized: crop scales them to cover that size and cuts off the rest, pad"
        " scales them to fit into it and fills the rest with the background, stretch changes their"
        " proportions",
        choices=FITS,
    )
    mirror: bool = data_option(
        False, "mirror each real image of a batch left to right with probability 1/2"
    )
    grey: bool = data_option(False, "make all images grey")
    background: str = data_option(
        "black",
        "colour behind transparent images, and around those that are padded, such as white,"
        " '#ff8000' or 'rgb(255,128,0)'",
        metavar="COLOUR",
    )
    skip_broken: bool = data_option(
        False, "go on without those image files of a folder that cannot be read"
    )
    model: str | None = net_option(
        None,
        "architecture of both nets, for points if it is called toy, else for images",
        choices=MODELS,
        code=True,
        default_text=f"{IMAGE_MODEL} for images, {POINT_MODEL} for points",
    )
    condition: str = net_option(
        "none",
        "how both nets are conditioned on labels, or for infogan on a code that needs no labels",
        choices=CONDITIONS,
    )
    categories: int = net_option(
        10,
        "values of the categorical code of condition = infogan",
        check=at_most(MAX_CLASSES),
    )
    codes: int = net_option(
        0,
        "continuous codes with condition = infogan, which are the first numbers of the latent",
        check=NOT_NEGATIVE_INTEGER,
    )
    minibatch: str = net_option(
        "none",
        "layer of D that compares the samples of a batch",
        choices=MINIBATCH_LAYERS,
    )
    pack: int = net_option(
        1,
        "samples that D classifies together, as one input (PacGAN, Lin et al. 2018)",
        check=POSITIVE_INTEGER,
        metavar="SAMPLES",
    )
    grow_steps: int | None = net_option(
        None,
        "steps before each change of the model progressive: a new resolution is faded in over so"
        " many, and trained for so many; 0: the full size from the start",
        check=NOT_NEGATIVE_INTEGER,
        metavar="STEPS",
        default_text="steps / (2 d + 2), where the size doubles d times",
    )
    loss: str = loss_option("nonsaturating", "adversarial loss", choices=LOSSES, code=True)
    generator_loss: str = loss_option(
        "adversarial",
        "what G minimizes, that loss or the distance between the means of D's last features",
        choices=GENERATOR_LOSSES,
    )
    smooth: float = loss_option(
        1.0,
        "target for real samples (one-sided label smoothing)",
        check=Check("in (0.5, 1]", lambda x: 0.5 < x <= 1),
    )
    penalty: str = loss_option(
        "none",
        "penalty on the norm of D's gradient with respect to its input",
        choices=lambda: ("none", *PENALTIES),
        separator="+",
    )
    penalty_weight: float | None = loss_option(
        None,
        "weight of each penalty; for r1 and r2 it is gamma / 2",
        check=POSITIVE,
        default_text=lambda: most_common_first({n: p.weight for n, p in PENALTIES.items()}),
    )
    penalty_end: float | None = loss_option(
        None,
        "weight to which the penalty's weight decays exponentially",
        check=POSITIVE,
        default_text="no decay",
    )
    penalty_steps: int | None = loss_option(
        None,
        "steps over which the penalty's weight decays",
        check=POSITIVE_INTEGER,
        metavar="STEPS",
        default_text="all",
    )
    orthogonal: float = loss_option(
        0.0,
        "weight of orthogonal regularization of both nets' filters, say 1e-4",
        check=NOT_NEGATIVE,
    )
    historical: float = loss_option(
        0.0,
        "weight of the squared distance of both nets' parameters to their average so far",
        check=NOT_NEGATIVE,
    )
    augment: str = loss_option(
        "none",
        "DiffAugment of D's inputs, real and generated",
        choices=lambda: ("none", *POLICIES),
        separator=",",
    )
    instance_noise: float = loss_option(
        0.0,
        "standard deviation of the noise on D's inputs at the start; it falls linearly to 0",
        check=NOT_NEGATIVE,
    )
    noise_steps: int | None = loss_option(
        None,
        "steps over which the instance noise falls to 0",
        check=POSITIVE_INTEGER,
        metavar="STEPS",
        default_text="all",
    )
    latent: str = net_option(
        "normal",
        "distribution of the latents; decaying: normal, number i with standard deviation 1 / i",
        choices=LATENTS,
    )
    latent_size: int | None = net_option(
        None,
        "numbers per latent",
        check=at_most(65_536),
        default_text=lambda: most_common_first({n: m.latent_size for n, m in MODELS.items()}),
    )
    steps: int = training_option(12_000, "training steps", check=POSITIVE_INTEGER, metavar="STEPS")
    batch: int = training_option(
        64, "samples per batch", check=at_most(1_048_576), metavar="SAMPLES"
    )
    optimizer: str = training_option("adam", "optimizer of both nets", choices=OPTIMIZERS)
    lr_g: float = training_option(2e-4, "learning rate of the generator", check=POSITIVE)
    lr_d: float = training_option(
        2e-4,
        "learning rate of the discriminator (a larger one: TTUR)",
        check=POSITIVE,
    )
    beta1: float = training_option(0.5, "first beta of Adam, momentum of SGD", check=FRACTION)
    beta2: float = training_option(0.999, "second beta of Adam, alpha of RMSprop", check=FRACTION)
    weight_decay: float = training_option(0.0, "weight decay of both nets", check=NOT_NEGATIVE)
    schedule: str = training_option(
        "constant", "schedule of both learning rates", choices=SCHEDULES
    )
    schedule_steps: int | None = training_option(
        None,
        "steps after which the schedule ends",
        check=POSITIVE_INTEGER,
        metavar="STEPS",
        default_text="all",
    )
    warmup: int = training_option(
        0,
        "steps over which both learning rates rise linearly at the start",
        check=NOT_NEGATIVE_INTEGER,
        metavar="STEPS",
    )
    clip_norm: float = training_option(
        0.0,
        "limit of the L2 norm of each net's gradient; 0: no limit",
        check=NOT_NEGATIVE,
    )
    clip_value: float = training_option(
        0.0,
        "limit of each element of the gradients; 0: no limit",
        check=NOT_NEGATIVE,
    )
    clip_weights: float = training_option(
        0.0,
        "limit of each parameter of D, for a Wasserstein critic; 0: no limit",
        check=NOT_NEGATIVE,
    )
    n_critic: int = training_option(1, "discriminator updates per step", check=at_most(1000))
    n_generator: int = training_option(1, "generator updates per step", check=at_most(1000))
    ema: float = training_option(
        0.0,
        "decay of the moving average of G's parameters, which then generates samples; it rises to"
        " this value in the first steps; 0: none",
        check=FRACTION,
    )
    init_from: str | None = training_option(
        None,
        "run with whose weights, of both nets and the average of G, a new run starts; its"
        " optimizers start anew",
        metavar="RUN",
        default_text="random weights",
    )
    device: str = training_option("cpu", "device that runs the kernels", choices=device_names)
    matmul_precision: str = training_option(
        "float32",
        "precision of the matrix products of a training step on cuda and cuda-emulator",
        choices=PRECISIONS,
    )
    seed: int = training_option(0, "seed of data, weights and noise", check=SEED)
    log_every: int = file_option(
        50, "steps between lines of metrics", check=POSITIVE_INTEGER, metavar="STEPS"
    )
    sample_every: int = file_option(
        1000,
        "steps between pictures of samples",
        check=POSITIVE_INTEGER,
        metavar="STEPS",
    )
    evaluate_every: int | None = file_option(
        None,
        "steps between quick measures of the samples, which metrics.jsonl holds; the best of them"
        " is kept in best.safetensors",
        check=POSITIVE_INTEGER,
        metavar="STEPS",
        default_text="sample_every",
    )
    checkpoint_every: int = file_option(
        1000, "steps between checkpoints", check=POSITIVE_INTEGER, metavar="STEPS"
    )
    keep: int = file_option(
        4,
        "number of snapshots of the generator that are kept, at steps with pictures of samples, for"
        " `minigan sample --step`; 0: none are taken",
        check=NOT_NEGATIVE_INTEGER,
        metavar="SNAPSHOTS",
    )

    def __post_init__(self) -> None:
        check_options(self)
        self._check_nets_and_losses()
        self._check_schedules()

    def _check_nets_and_losses(self) -> None:
        """Raise ValueError where options of the nets and losses contradict each other."""
        if self.loss in LOSSES:  # code of the user's own may not be loaded
            LOSSES[self.loss](smooth=self.smooth)
        if self.batch % self.pack:
            raise ValueError(f"pack = {self.pack} does not divide batch = {self.batch}")
        if self.pack > 1 and self.condition != "none":
            raise ValueError(
                f"pack = {self.pack} and condition = {self.condition!r}: packed samples have no one"
                " label; give one of the two"
            )
        for name in ("categories", "codes"):
            value = getattr(self, name)
            if self.condition != "infogan" and value != getattr(Config, name):
                raise ValueError(f"{name} = {value} goes with condition = 'infogan'")
        unlabelled = (*CLASSIFYING, "projection")
        if self.generator_loss == "feature-matching" and self.condition in unlabelled:
            raise ValueError(
                f"generator_loss = 'feature-matching' and condition = {self.condition!r}: those"
                " features know no label, so the generator would learn none; condition = 'concat'"
                " goes with it"
            )
        inputs = self.batch // self.pack
        compares = "model = 'progressive'" if self.model == "progressive" else ""
        compares = "minibatch = 'stddev'" if self.minibatch == "stddev" else compares
        if compares and inputs > 4 and inputs % 4:
            raise ValueError(
                f"{compares} compares samples by fours, and batch = {self.batch}, pack ="
                f" {self.pack} make {inputs} of them, which 4 does not divide"
            )

    def _check_schedules(self) -> None:
        """Raise ValueError where options of schedules contradict each other."""
        for name in ("penalty_weight", "penalty_end"):
            if getattr(self, name) is not None and self.penalty == "none":
                raise ValueError(f"{name} = {getattr(self, name)} without a penalty")
        weights = {PENALTIES[name].weight for name in self.penalties}
        if self.penalty_end is not None and self.penalty_weight is None and len(weights) > 1:
            raise ValueError(
                f"penalty_end = {self.penalty_end}, but the parts of {self.penalty!r} begin at"
                f" different weights, {sorted(weights)}; a penalty_weight is needed"
            )
        if self.grow_steps is not None and self.model != "progressive":
            raise ValueError(f"grow_steps = {self.grow_steps} without model = 'progressive'")
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
    def label(self) -> str:
        """What the name of a run's folder ends with."""
        return str(self.model)

    @property
    def penalties(self) -> tuple[str, ...]:
        """The names of the penalties on D's gradient; () without one."""
        return split_names("penalty", self.penalty, "+")

    @property
    def needs_labels(self) -> bool:
        """Whether the nets are conditioned on the labels of the data."""
        return self.condition not in ("none", "infogan")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Return the config that `as_dict` of this version, or of an older one, returned.

        Raises:
            TypeError, ValueError: there is another option, or a value is not accepted.
        """
        # In older versions `size` was the number of samples; now it is text, or None beside it.
        if "samples" not in values and not isinstance(values.get("size", ""), str):
            values = {"samples" if name == "size" else name: x for name, x in values.items()}
        return from_values(cls, values)

    def as_dict(self) -> dict[str, Any]:
        """Return the options by name, in the order of the fields."""
        return dataclasses.asdict(self)

    def replace(self, **options: Any) -> Config:
        """Return a copy with some options changed."""
        return dataclasses.replace(self, **options)


def check_options(config: Any) -> None:
    """Raise ValueError unless each option of a config, of any class, has a value it accepts.

    A `size` of integers, as `mg.data.load` takes it, becomes text.
    """
    if isinstance(config.size, int | tuple):
        sides = config.size if isinstance(config.size, tuple) else (config.size,)
        object.__setattr__(config, "size", "x".join(map(str, sides)))
    config_class: Any = type(config)
    for name, declared in options(config_class).items():
        declared.check_value(getattr(config, name))
    parse_shape(config.sample_shape)
    parse_range(config.value_range)
    parse_size(config.size)
    check_fit(config.fit, config.size)
    parse_background(config.background)


@dataclass(frozen=True)
class Shorthand:
    """An option of the command line that sets several fields of Config to one value."""

    name: str
    fields: tuple[str, ...]
    help: str


SHORTHANDS = (Shorthand("lr", ("lr_g", "lr_d"), "learning rate of both nets"),)
