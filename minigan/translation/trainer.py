"""Train nets that make images from images; `training/run.py` writes the files of a run."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..data import DataError, Dataset
from ..engine import random
from ..engine.capture import capture
from ..engine.device import get_device, use_device
from ..engine.precision import matmul_precision
from ..engine.tensor import Tensor, no_grad, tensor
from ..gan.losses import GANLoss
from ..training.batches import Batches
from ..training.own_code import check_loaded
from ..training.state import DataChangedError, check_count, check_order
from ..training.trainer import DivergedError, accuracies, l2_norm, warn_of_precision
from ..utils.code_files import FROM_PYTHON
from .config import TranslationConfig
from .images import absolute, load_images
from .players import build_players
from .tasks import TASKS

if TYPE_CHECKING:
    from .measures import TranslationMeasures
    from .pictures import TranslationPictures

SCALARS = ("loss_d", "loss_g", "l1", "features", "cycle", "identity")
MAX_CHANNELS = 4  # of an image, as pictures of it can have
TRANSLATE_PIXELS = 2**18  # of the images in one pass of a net


class TranslationTrainer:
    """The training of images from images: images, nets, optimizers and random streams.

        trainer = TranslationTrainer(TranslationConfig(task="denoise", data="mnist"))
        for _ in range(1000):
            row = trainer.step()
        clean = trainer.translate(noisy)

    As in a `Trainer`, `config` becomes the config with its open options set, and the random
    generator `random` is its own.

    Args:
        config: the options.
        data: the images; None: those that the config names.
        target: those to make, of pairs and of unpaired images; None: those that the config names.
        progress: whether to show a progress bar while data are loaded.

    Raises:
        ValueError: options that do not fit the images, or images that do not fit together.
    """

    def __init__(
        self,
        config: TranslationConfig,
        data: Dataset | None = None,
        target: Dataset | None = None,
        progress: bool = False,
    ) -> None:
        check_loaded(config)
        self.images = images = load_images(config, data, target, progress)
        names = {"data": (config.data, data), "target": (config.target, target)}
        for name, (value, given) in names.items():
            if given is not None:
                given.warn_of_range()
                config = config.replace(**{name: FROM_PYTHON + given.name})
            elif value is not None:
                config = config.replace(**{name: absolute(value)})
        if config.data_dir is not None:
            path = os.path.abspath(os.path.expanduser(config.data_dir))
            config = config.replace(data_dir=path)
        for part in (images.data, images.other):
            if part is not None:
                part.warn_of_equal_samples()
        self.config = config = config.filled()
        self._check_images()
        # A checkpoint has this, and is accepted only for the same images.
        self.data_digest = {
            **images.digest,
            "channels": [images.input_channels(config.task), images.channels],
        }
        self.device = get_device(config.device)
        warn_of_precision(config)
        self.step_count = 0
        self.metrics_lines = 0  # the number of lines of metrics that belong to this state
        self.random = random.Generator(config.seed)
        with use_device(self.device), random.use_generator(self.random):
            self.players = build_players(
                config, images.input_channels(config.task), images.channels
            )
            self.batches = {"data": Batches(images.data, config.batch, mirror=config.mirror)}
            if images.other is not None:
                self.batches["other"] = Batches(images.other, config.batch, mirror=config.mirror)
        self.captured = True
        self._captured_update = capture(self.players.step)

    def _check_images(self) -> None:
        """Raise DataError where there are too few images, or the nets do not take their size."""
        config, images = self.config, self.images
        for part in (images.data, images.other):
            if part is not None and len(part) < config.batch:
                raise DataError(
                    f"batch = {config.batch}, but {part.name} has only {len(part)} training images;"
                    " a smaller batch is needed"
                )
        if images.channels > MAX_CHANNELS or images.given_channels > MAX_CHANNELS:
            raise DataError(
                f"images of {images.given_channels or images.channels} to {images.channels}"
                f" channels; at most {MAX_CHANNELS} are accepted"
            )
        height, width = images.size
        multiple, reason = 2**config.depth, f"depth = {config.depth}"
        if config.task == "super-resolution":
            multiple = math.lcm(multiple, config.factor)
            reason += f" and factor = {config.factor}"
        if height % multiple or width % multiple:
            sizes = [max(1, round(n / multiple)) * multiple for n in (width, height)]
            raise DataError(
                f"images of {width}x{height} pixels: {reason} needs sides that are multiples of"
                f" {multiple}; --size {sizes[0]}x{sizes[1]} is near"
            )
        smallest = [n // 2**config.depth for n in (height, width)]
        if min(smallest) < 2:
            raise DataError(
                f"images of {width}x{height} pixels: depth = {config.depth} halves them to"
                f" {smallest[1]}x{smallest[0]}; a smaller depth is needed"
            )

    @property
    def loss(self) -> GANLoss:
        """The adversarial loss."""
        return self.players.loss

    @property
    def generator(self) -> nn.Module:
        """The net that makes images, as it is trained."""
        return self.players.generator

    @property
    def discriminator(self) -> nn.Module:
        """The discriminator of the images that it makes."""
        return self.players.discriminators[0]

    def quick_measures(self) -> TranslationMeasures:
        """Return the measures that a run takes during the training."""
        from .measures import TranslationMeasures  # The module needs this one.

        return TranslationMeasures(self)

    def pictures(self, folder: Path) -> TranslationPictures:
        """Return what draws the pictures of a run in a folder."""
        from .pictures import TranslationPictures  # The module needs this one.

        return TranslationPictures(folder, self)

    # ------------------------------------------------------------------------------- training
    def step(self, norms: bool = False) -> dict[str, float]:
        """Update D, then G, on the next batch; return the metrics.

        Args:
            norms: whether to return the norms of the gradients too.

        Returns:
            loss_d and loss_g, the adversarial losses; d_real and d_fake, the fractions of real and
            of made patches that D classifies correctly; the weighted terms l1, features, cycle and
            identity that the task has; with `norms` grad_norm_d and grad_norm_g.

        Raises:
            DivergedError: a loss, or the norm of a gradient, is NaN or infinite.
        """
        generator = random.use_generator(self.random)
        with use_device(self.device), generator, matmul_precision(self.config.matmul_precision):
            self.players.prepare(self.step_count)
            batch = self._next_batch()
            output = (self._captured_update if self.captured else self.players.step)(batch)
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

    def _next_batch(self) -> list[Tensor]:
        """Return inputs and truths of the next images, or images of both kinds."""
        images, _ = self.batches["data"].next_rows()
        if "other" in self.batches:
            others, _ = self.batches["other"].next_rows()
            return [tensor(images), tensor(others)]
        return [tensor(x) for x in self.inputs_and_truths(images)]

    def inputs_and_truths(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs of G and what it has to make, of images or of pairs (n, C, H, W).

        Holes and noise come from the current random generator.
        """
        make = TASKS[self.config.task].make
        if make is None:
            return self.images.split(images)
        return make(images, self.config), images

    def measure(self, keep: bool = True) -> dict[str, float]:
        """Return no gauges: those of `minigan doctor` are of generators with latents."""
        return {}

    # -------------------------------------------------------------------------------- results
    def examples(self, n: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return n held-out examples, always the same: inputs, truths, and labels.

        Without held-out images they are training images. Truths and labels are None where they are
        not known.
        """
        data = self.images.held_out if len(self.images.held_out) else self.images.data
        rows = np.random.Generator(np.random.Philox(0)).permutation(len(data))[:n]
        images = data.rows(rows).astype(np.float32)
        labels = None if data.labels is None else data.labels[rows]
        if self.config.is_unpaired:
            truth = self.images.truth
            return images, None if truth is None else truth(images), labels
        with random.use_generator(random.Generator(0)):
            return *self.inputs_and_truths(images), labels

    def translate(self, inputs: np.ndarray) -> np.ndarray:
        """Return what G makes of inputs (n, channels, H, W), (n, C, H, W) in [-1, 1]."""
        with use_device(self.device):
            return apply_net(self.players.sampler, inputs)

    # ---------------------------------------------------------------------------------- state
    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state that later steps depend on: tensors by name, and info in JSON types."""
        tensors = {
            f"{part}.{name}": x
            for part, owner in self.players.parts().items()
            for name, x in owner.state_dict().items()
        }
        tensors |= {f"batches.{name}": x.order for name, x in self.batches.items()}
        info = {
            "config": self.config.as_dict(),
            "step": self.step_count,
            "random": self.random.state(),
            "metrics_lines": self.metrics_lines,
            "data": self.data_digest,
        }
        return tensors, info

    def load_state(self, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> None:
        """Restore the state that `state` returned; later steps have the same bits.

        Raises:
            DataChangedError: the state belongs to other images.
            ValueError: the state belongs to other nets, or is not such a state.
        """
        if info["data"] != self.data_digest:
            raise DataChangedError(
                f"the checkpoint belongs to other images than these {len(self.images.data)} of"
                f" {self.config.data}"
            )
        tensors = dict(tensors)
        orders = {name: tensors.pop(f"batches.{name}") for name in self.batches}
        for name, order in orders.items():
            check_order(order, len(self.batches[name].data))
        self.players.load_state(tensors)
        for name, order in orders.items():
            self.batches[name].order = order
        self.step_count = check_count("step", info["step"])
        self.metrics_lines = check_count("metrics_lines", info["metrics_lines"])
        self.random.set_state(info["random"])


def apply_net(net: nn.Module, inputs: np.ndarray) -> np.ndarray:
    """Return the output of a net in eval mode, a few images at a time, on the current device."""
    size = max(1, TRANSLATE_PIXELS // math.prod(inputs.shape[2:]))
    starts = range(0, max(1, len(inputs)), size)
    with nn.evaluating(net), no_grad():
        parts = [net(tensor(inputs[i : i + size], dtype="float32")).numpy() for i in starts]
    return np.concatenate(parts)
