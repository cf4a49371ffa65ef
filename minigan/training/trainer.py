"""Train a GAN: update the discriminator and the generator in turn (Goodfellow et al. 2014).

The Trainer holds the whole state of a training, and writes no file; `run.py` does.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..data import NAMES, Dataset, load
from ..data.own import OWN
from ..data.settings import OPTIONS
from ..engine import random
from ..engine.assign import load_tensors
from ..engine.capture import capture
from ..engine.device import get_device, use_device
from ..engine.precision import matmul_precision
from ..engine.tensor import Tensor, no_grad
from ..gan.losses import GANLoss
from ..gan.models import MODELS
from ..gan.networks import build_networks
from ..gan.players import Players
from ..gan.progressive import default_grow_steps, warn_of_slow_growth
from ..optim import ExponentialMovingAverage
from ..utils.code_files import FROM_PYTHON, is_code
from ..utils.notices import Notice
from .batches import Batches
from .config import IMAGE_MODEL, POINT_MODEL, Config
from .first_use import compile_kernels, stand_in
from .gauges import Gauges
from .initial import InitialWeights
from .own_code import check_loaded
from .sampler import Sampler
from .state import AnyConfig, DataChangedError, check_count, check_order, describe_changes

if TYPE_CHECKING:
    from ..evaluation.quick import QuickMeasures
    from .pictures import Pictures

SHOWN_POINTS = 1024  # generated points in a picture, and real points beside them
SCALARS = ("loss_d", "loss_g", "penalty", "class_d", "class_g", "code_d", "code_g")


class DivergedError(RuntimeError):
    """A loss, gradient, weight or sample became NaN or infinite; the message names the step."""


class Trainer:
    """The training of a GAN: data, the two nets with their optimizers and loss, random streams.

        trainer = Trainer(Config(data="ring"))
        for _ in range(2000):
            row = trainer.step()
        samples = trainer.sample(1000)

    `config` becomes the config with its open options set (model, latent_size, and the lengths of
    schedules), and the path of its data absolute; data that are handed over are called
    "python:NAME" there, as no path leads to them. Each Trainer has a random generator of its own,
    `random`, seeded with the config's seed; the default generator is neither used nor changed.

    Args:
        config: the options.
        data: the data set; None: the one that the config names.
        progress: whether to show a progress bar while data are generated or downloaded, and, on the
            CPU, to begin to compile all kernels in parallel processes, with a bar of their own.
        initialize: whether to load the weights of the run `config.init_from`; False where a state
            is loaded next.

    Raises:
        ValueError: options that do not fit the data, or the weights of `config.init_from`.
    """

    def __init__(
        self,
        config: Config,
        data: Dataset | None = None,
        progress: bool = False,
        initialize: bool = True,
    ) -> None:
        check_loaded(config)
        initial = None
        if config.init_from is not None and initialize:
            path = os.path.abspath(os.path.expanduser(config.init_from))
            initial, config = InitialWeights.load(Path(path)), config.replace(init_from=path)
        compiles_ahead = progress and config.device == "cpu"
        first_data = stand_in(config) if compiles_ahead and data is None else None
        if first_data is not None:
            compile_kernels(config, first_data)
        if data is None:
            data = load(
                config.data,
                split=config.split,
                data_dir=config.data_dir,
                samples=config.samples,
                seed=config.seed,
                progress=progress,
                **{name: getattr(config, name) for name in OPTIONS},
            )
            config = absolute_paths(config)
        else:
            data.warn_of_range()
            config = config.replace(data=FROM_PYTHON + data.name)
        data.warn_of_equal_samples()
        # A checkpoint has this digest, and is accepted only for the same data.
        self.data_digest = data.digest()
        self.data, self.held_out = data.holdout(config.holdout, config.seed)
        self.config = config = fill_defaults(config, data)
        if len(self.data) < config.batch:
            raise ValueError(
                f"batch = {config.batch}, but {data.name} has only {len(self.data)} training"
                f" samples ({len(data)} without those that holdout = {config.holdout} takes); a"
                " smaller batch is needed"
            )
        if compiles_ahead and first_data is None:
            compile_kernels(config, data)
        self.device = get_device(config.device)
        warn_of_precision(config)
        self.step_count = 0
        self.metrics_lines = 0  # the number of lines of metrics that belong to this state
        self.random = random.Generator(config.seed)
        with use_device(self.device), random.use_generator(self.random):
            classes = None if data.labels is None else data.classes
            if initial is not None:
                initial.check(config, data, self.data_digest)
            networks = build_networks(config, data.sample_shape, classes)
            if initial is not None:
                initial.load_nets(*networks)
            self.players = Players(config, *networks)
            if initial is not None:
                initial.load_average(self.players.average)
            self.scale = standard_deviation(self.data) if config.standardize else 1.0
            self.batches = Batches(
                self.data,
                config.batch,
                has_labels=config.needs_labels,
                scale=self.scale,
                mirror=config.mirror,
                categories=config.categories if config.condition == "infogan" else 0,
            )
            points = None if data.is_image else _shown_points(self.data)
            self.sampler = Sampler(
                *(self.players, data.sample_shape, data.classes or 0, self.scale, points),
                data.class_names,
            )
            count = self.sampler.shown_images if data.is_image else SHOWN_POINTS
            self.fixed_latent = self.players.latent(count, "samples")
        self.gauges = Gauges(self)
        self.captured = True
        self._captured_update = capture(self._update)
        self._output: dict[str, Any] | None = None  # of the last step, until the next one

    def quick_measures(self) -> QuickMeasures:
        """Return the measures that a run takes during the training."""
        from ..evaluation.quick import QuickMeasures  # The module needs this one.

        return QuickMeasures(self)

    def pictures(self, folder: Path) -> Pictures:
        """Return what draws the pictures of a run in a folder."""
        from .pictures import Pictures  # The module needs this one.

        return Pictures(folder, self)

    @property
    def loss(self) -> GANLoss:
        """The adversarial loss."""
        return self.players.loss

    @property
    def generator(self) -> nn.Module:
        """The generator that is trained."""
        return self.players.generator

    @property
    def discriminator(self) -> nn.Module:
        """The discriminator."""
        return self.players.discriminator

    @property
    def average(self) -> ExponentialMovingAverage | None:
        """The moving average of the generator's parameters; None without the option `ema`."""
        return self.players.average

    # ------------------------------------------------------------------------------- training
    def step(self, norms: bool = False) -> dict[str, float]:
        """Update D `n_critic` times, then G `n_generator` times; return the last metrics.

        The step is captured (see `capture`) unless `captured` is False; the bits are the same.

        Args:
            norms: whether to return the norms of the gradients too.

        Returns:
            loss_d and loss_g, without added terms; d_real and d_fake, the fractions of
            real and of generated samples that D classifies correctly; where there is one, the
            weighted penalty, and an auxiliary classifier's losses class_d and class_g (nats per
            sample), also InfoGAN's, which has code_d and code_g of continuous codes too; with
            `norms` the L2 norms grad_norm_d and grad_norm_g, before any limit.

        Raises:
            DivergedError: a loss, or the norm of a gradient, is NaN or infinite.
        """
        precision = self.config.matmul_precision
        generator = random.use_generator(self.random)
        with use_device(self.device), generator, matmul_precision(precision):
            self.players.prepare(self.step_count)
            update = self._captured_update if self.captured else self._update
            batches = [self.batches.next() for _ in range(self.config.n_critic)]
            reals = [real for real, *_ in batches]
            labels = [y for _, *condition in batches for y in condition]
            output = self._output = update(reals, labels)
            row = {name: float(output[name]) for name in SCALARS if name in output}
            row["d_real"], row["d_fake"] = accuracies(self.loss, output["logits"].numpy()[:, 0])
            if norms:
                for player in ("d", "g"):
                    row[f"grad_norm_{player}"] = l2_norm(output[f"gradients_{player}"])
        self.step_count += 1
        for name, value in row.items():
            if not math.isfinite(value):
                raise DivergedError(f"{name} became {value} at step {self.step_count}")
        return row

    def measure(self, keep: bool = True) -> dict[str, float]:
        """Return the gauges after a step, by name, those that can be measured; see `gauges.py`.

        Weights, statistics and random streams of the training stay as they are.

        Args:
            keep: whether the next changes are relative to this step.

        Raises:
            ValueError: no step was done yet.
        """
        if self._output is None:
            raise ValueError("measure: the gauges are those of a step, and none was done yet")
        return self.gauges.measure(self._output, keep)

    def _update(self, reals: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
        """Update both networks on batches (batch, width), with all work on the device."""
        shape = (self.config.batch, *self.data.sample_shape)
        return self.players.step([real.reshape(*shape) for real in reals], labels)

    # -------------------------------------------------------------------------------- samples
    def generate(self, latent: Tensor, labels: np.ndarray | None = None) -> np.ndarray:
        """Return samples (n, ...) for latents; see `Sampler.generate`."""
        return self.sampler.generate(latent, labels)

    def sample(self, n: int, seed: int = 0, labels: np.ndarray | None = None) -> np.ndarray:
        """Return n generated samples, (n, ...); their latents depend on `seed` alone.

        The random streams of the training stay as they are. `labels`: see `Sampler.generate`.
        """
        return self.sampler.sample(n, seed, labels)

    # ---------------------------------------------------------------------------------- state
    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state that later steps depend on: tensors by name, and info in JSON types."""
        tensors = {
            f"{part}.{name}": x
            for part, owner in self.players.parts().items()
            for name, x in owner.state_dict().items()
        }
        tensors["fixed_latent"] = self.fixed_latent.numpy()
        tensors["batches.order"] = self.batches.order
        if self.sampler.points is not None:
            tensors["points"] = self.sampler.points
        tensors |= self.gauges.state()
        info = {
            "config": self.config.as_dict(),
            "step": self.step_count,
            "random": self.random.state(),
            "metrics_lines": self.metrics_lines,
            "data": {**self.data_digest, "classes": self.data.classes or 0, "scale": self.scale},
        }
        return tensors, info

    def load_state(self, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> None:
        """Restore the state that `state` returned; later steps have the same bits.

        Raises:
            DataChangedError: the state belongs to other data.
            ValueError: the state belongs to other networks, or is not such a state.
        """
        if "data" in info:  # States of older versions have none.
            changes = describe_changes(info["data"], self.data_digest)
            if changes:
                raise DataChangedError(
                    f"the checkpoint belongs to other data than these {len(self.data)} training"
                    f" samples of {self.config.data}: {changes}"
                )
        tensors = dict(tensors)
        tensors.pop("points", None)  # This trainer has them in its own data.
        order = tensors.pop("batches.order")
        check_order(order, len(self.data))
        self.gauges.load_state(tensors)
        latent = {"fixed_latent": tensors.pop("fixed_latent")}
        load_tensors({"fixed_latent": self.fixed_latent}, latent, "checkpoint")
        self.players.load_state(tensors)
        self.batches.order = order
        self.step_count = check_count("step", info["step"])
        self.metrics_lines = check_count("metrics_lines", info["metrics_lines"])
        self.random.set_state(info["random"])


def absolute_paths(config: Config) -> Config:
    """Return the config with the paths of its data made absolute, for another working directory."""

    def absolute(path: str) -> str:
        return os.path.abspath(os.path.expanduser(path))

    paths: dict[str, Any] = {}
    if config.data not in (*NAMES, *OWN) and not is_code(config.data):
        paths["data"] = absolute(config.data)
    if config.data_dir is not None:
        paths["data_dir"] = absolute(config.data_dir)
    return config.replace(**paths)


def warn_of_precision(config: AnyConfig) -> None:
    """Say that a precision other than float32 has no effect where there is no CUDA kernel."""
    if config.matmul_precision != "float32" and config.device not in ("cuda", "cuda-emulator"):
        text = (
            f"matmul_precision = {config.matmul_precision!r} has no effect on the device"
            f" {config.device}, which multiplies in float32"
        )
        warnings.warn(text, Notice, stacklevel=3)


def _shown_points(data: Dataset) -> np.ndarray:
    """Return points for pictures, at random: data may be in the order of their classes."""
    order = np.random.Generator(np.random.Philox(0)).permutation(len(data))
    return data.rows(order[:SHOWN_POINTS])


def standard_deviation(data: Dataset) -> float:
    """Return one standard deviation for all coordinates, so that shapes are kept."""
    if data.is_image:
        raise ValueError(
            f"standardize is for points; {data.name} has images, in [-1, 1] already:"
            " --no-standardize, and a --model for images"
        )
    deviation = float(data.values.std(dtype=np.float64))
    if not deviation:
        raise ValueError(f"standardize: all numbers of {data.name} are equal")
    return deviation


def fill_defaults(config: Config, data: Dataset) -> Config:
    """Return the config with its open options set to defaults for the data.

    The lengths of schedules become explicit, so that a run that is extended keeps its schedules;
    and so does the interval of measures, which does not change with that of the pictures.
    """
    model = config.model or (IMAGE_MODEL if data.is_image else POINT_MODEL)
    latent_size = config.latent_size or MODELS[model].latent_size
    options: dict[str, Any] = {"model": model, "latent_size": latent_size}
    options["evaluate_every"] = config.evaluate_every or config.sample_every
    if model == "progressive":
        if config.grow_steps is None:
            options["grow_steps"] = default_grow_steps(config.steps, data.sample_shape)
        else:
            warn_of_slow_growth(config.steps, config.grow_steps, data.sample_shape)
    is_used = {
        "schedule_steps": config.schedule != "constant",
        "penalty_steps": config.penalty_end is not None,
        "noise_steps": config.instance_noise > 0,
    }
    for name, used in is_used.items():
        if used and getattr(config, name) is None:
            options[name] = config.steps
    return config.replace(**options)


def accuracies(loss: GANLoss, logits: np.ndarray) -> tuple[float, float]:
    """Return the fractions of real samples and of fakes that D classifies correctly.

    The logits of the real samples are the first half. Where the loss has no threshold, because only
    differences of logits are meaningful, a sample is classified as real if its logit is above the
    mean of the other batch.
    """
    real, fake = np.split(logits, 2)
    real_threshold, fake_threshold = (
        (fake.mean(), real.mean()) if loss.threshold is None else (loss.threshold, loss.threshold)
    )
    return float((real > real_threshold).mean()), float(1 - (fake > fake_threshold).mean())


def l2_norm(gradients: Sequence[Tensor]) -> float:
    """Return the L2 norm of all gradients taken as one vector; infinite only if an element is."""
    with no_grad():
        square = sum(float((g * g).sum()) for g in gradients)
    if not math.isfinite(square):  # The square of a large float32 overflows.
        return math.hypot(*(float(np.linalg.norm(g.numpy().astype("f8"))) for g in gradients))
    return math.sqrt(square)
