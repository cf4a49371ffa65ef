"""The game: a discriminator and a generator that take turns (Goodfellow et al. 2014, algorithm 1).

The Trainer holds all that a training state is. It writes no file; `run.py` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn, ops
from ..data import Dataset, load
from ..engine import random
from ..engine.assign import load_tensors
from ..engine.capture import capture
from ..engine.device import get_device, use_device
from ..engine.tensor import Tensor, no_grad, tensor
from ..gan.losses import GANLoss
from ..gan.models import MODELS
from ..gan.players import Players, build
from ..optim import ExponentialMovingAverage
from .config import Config

SAMPLES = 256  # made at once
SCALARS = ("loss_d", "loss_g", "penalty", "class_d", "class_g")


class DivergedError(RuntimeError):
    """A loss became NaN or infinite; the message names the step."""


class Batches:
    """Endless batches of tables: each epoch every row once, in an order of the stream "data".

    What an epoch leaves over begins the next batch, so that all batches have one size.
    """

    def __init__(self, tables: Sequence[Tensor], batch: int) -> None:
        self.tables, self.batch = list(tables), batch
        self.order = self._epoch()  # the rows still to come

    def _epoch(self) -> Tensor:
        first = self.tables[0]
        return random.permutation(len(first), device=first.device, stream="data")

    def next(self) -> list[Tensor]:
        """The same rows of each table (rows, ...): (batch, ...), new memory."""
        while len(self.order) < self.batch:
            self.order = ops.concatenate([self.order, self._epoch()])
        rows, self.order = self.order[: self.batch], self.order[self.batch :]
        return [
            ops.gather(table, ops.reshape(rows, self.batch, *(1,) * (table.ndim - 1)), axis=0)
            for table in self.tables
        ]


class Trainer:
    """A GAN in training: data, two players (nets, optimizers, a loss), and random streams.

    `config` comes back with what it left open filled in (model, latent_size, and the steps of a
    schedule). The default random generator is seeded with the config's seed, and a step draws from
    it: train one after the other in a process, not in turns. All state is in `state()`.

    Raises:
        ValueError: options that do not fit the data.
    """

    def __init__(self, config: Config, data: Dataset | None = None, progress: bool = False) -> None:
        if data is None:
            data = load(
                config.data,
                split=config.split,
                data_dir=config.data_dir,
                size=config.size,
                seed=config.seed,
                progress=progress,
            )
        self.data, self.held_out = data.holdout(config.holdout, config.seed)
        self.config = config = filled_in(config, data)
        if len(self.data) < config.batch:
            raise ValueError(
                f"batch = {config.batch}, but {data.name} has only {len(self.data)} training"
                " samples; a smaller batch is needed"
            )
        self.device = get_device(config.device)
        self.step_count = 0
        self.metrics_lines = 0  # how many lines of metrics belong to this state
        random.manual_seed(config.seed)
        with use_device(self.device):
            classes = None if data.labels is None else data.classes
            self.players = Players(config, *build(config, data.sample_shape, classes))
            self.scale = deviation(self.data) if config.standardize else 1.0
            tables = [tensor(self.data.values.reshape(len(self.data), -1) / self.scale)]
            if self.players.labelled:
                tables.append(tensor(self.data.labels))
            self.batches = Batches(tables, config.batch)
            shown = self.columns * -(-64 // self.columns) if data.is_image else 1024
            self.fixed_latent = self.players.latent(shown, "samples")
        self.captured = True
        self._captured = capture(self._play)

    @property
    def loss(self) -> GANLoss:
        return self.players.loss

    @property
    def generator(self) -> nn.Module:
        return self.players.generator

    @property
    def discriminator(self) -> nn.Module:
        return self.players.discriminator

    @property
    def average(self) -> ExponentialMovingAverage | None:
        return self.players.average

    @property
    def columns(self) -> int:
        """How many images a row of a grid has."""
        return row_length(range(self.data.classes or 0) if self.players.labelled else None)

    # ------------------------------------------------------------------------------- training
    def step(self, norms: bool = False) -> dict[str, float]:
        """One turn each: `n_critic` updates of D, `n_generator` of G; the last ones' numbers.

        Returns loss_d and loss_g, without what is added to them; the shares of real samples that D
        called real and of fakes that it called fake, d_real and d_fake; where there is one, the
        weighted penalty, and an auxiliary classifier's losses class_d and class_g (nats per
        sample); with `norms` the gradients' L2 norms, before any limit.

        Captured (see `capture`) unless `captured` is set to False; the bits are the same.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        with use_device(self.device):
            self.players.prepare(self.step_count)
            turns = self._captured if self.captured else self._play
            batches = [self.batches.next() for _ in range(self.config.n_critic)]
            reals, labels = [x for x, *_ in batches], [y for _, *told in batches for y in told]
            played = turns(reals, labels)
            row = {name: float(played[name]) for name in SCALARS if name in played}
            row["d_real"], row["d_fake"] = self._right(played["logits"].numpy()[:, 0])
            if norms:
                for player in ("d", "g"):
                    row[f"grad_norm_{player}"] = _norm(played[f"gradients_{player}"])
        self.step_count += 1
        for name in SCALARS:
            if not math.isfinite(row.get(name, 0.0)):
                raise DivergedError(f"{name} became {row[name]} at step {self.step_count}")
        return row

    def _play(self, reals: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
        """The turns on these batches (n, width): all that happens on the device, to be captured."""
        shape = (self.config.batch, *self.data.sample_shape)
        return self.players.play([ops.reshape(real, *shape) for real in reals], labels)

    def _right(self, logits: np.ndarray) -> tuple[float, float]:
        """The shares that D is right on, of the real samples, which come first, and of the fakes.

        A loss whose logits mean nothing alone has no threshold: there, a sample is called real
        where its logit is above the mean of the other batch.
        """
        real, fake = np.split(logits, 2)
        threshold = self.loss.threshold
        for_real, for_fake = (
            (fake.mean(), real.mean()) if threshold is None else (threshold, threshold)
        )
        return float((real > for_real).mean()), float(1 - (fake > for_fake).mean())

    # -------------------------------------------------------------------------------- samples
    def generate(self, latent: Tensor, labels: np.ndarray | None = None) -> np.ndarray:
        """What the generator, or its average, makes of a latent (n, latent_size), in numpy.

        A conditional one is told `labels`, integers (n,); None: all classes in turn.

        Raises:
            ValueError: there are labels without a condition, or they are not n of its classes.
        """
        net = self.players.sampler
        told = self._told(labels, len(latent))
        # What all of them take at once may be gigabytes.
        parts = [slice(i, i + SAMPLES) for i in range(0, max(1, len(latent)), SAMPLES)]
        with nn.evaluating(net), no_grad():
            made = [net(latent[part], *(y[part] for y in told)) for part in parts]
            samples = np.concatenate([x.numpy() for x in made])
        return samples if self.scale == 1 else samples * np.float32(self.scale)

    def _told(self, labels: np.ndarray | None, n: int) -> list[Tensor]:
        """The labels on the device, checked; none for a generator that takes none."""
        if not self.players.labelled:
            if labels is not None:
                raise ValueError("this generator was trained without labels, so it takes none")
            return []
        classes = self.data.classes or 0
        given = np.arange(n) % classes if labels is None else np.asarray(labels)
        if given.shape != (n,) or given.dtype.kind not in "iu":
            raise ValueError(
                f"labels are {given.dtype} of shape {given.shape}; {n} integers are needed"
            )
        outside = given[(given < 0) | (given >= classes)]
        if outside.size:
            raise ValueError(f"label {outside[0]} is not one of 0 .. {classes - 1}")
        return [tensor(given, dtype="int64", device=self.device)]

    def sample(self, n: int, seed: int = 0, labels: np.ndarray | None = None) -> np.ndarray:
        """n samples whose latents depend on `seed` alone; training goes on as if none was drawn.

        `labels` as `generate` takes them.
        """
        before = random.default_generator().state()
        random.manual_seed(seed)
        try:
            return self.generate(self.players.latent(n, "samples"), labels)
        finally:
            random.default_generator().set_state(before)

    # ---------------------------------------------------------------------------------- state
    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that the future depends on: tensors by name, and what JSON can hold."""
        tensors = {
            f"{part}.{name}": x
            for part, held in self.players.parts().items()
            for name, x in held.state_dict().items()
        }
        tensors["fixed_latent"] = self.fixed_latent.numpy()
        tensors["batches.order"] = self.batches.order.numpy()
        generator = random.default_generator().state()
        info = {
            "config": self.config.as_dict(),
            "step": self.step_count,
            "random": generator,
            "metrics_lines": self.metrics_lines,
        }
        return tensors, info

    def load_state(self, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> None:
        """Go on from what `state` gave, to the same bits.

        Raises:
            ValueError: the state is of other nets or other data.
        """
        tensors = dict(tensors)
        order = tensors.pop("batches.order")
        if order.dtype != np.int64 or order.ndim != 1:
            raise ValueError(
                f"batches.order is {order.dtype} of shape {order.shape}, not a row of int64"
            )
        if order.size and not 0 <= order.min() <= order.max() < len(self.data):
            raise ValueError(f"the checkpoint is of other data than these {len(self.data)} samples")
        fixed = {"fixed_latent": tensors.pop("fixed_latent")}
        load_tensors({"fixed_latent": self.fixed_latent}, fixed, "checkpoint")
        for part, held in self.players.parts().items():
            dot = part + "."
            own = {k.removeprefix(dot): x for k, x in tensors.items() if k.startswith(dot)}
            held.load_state_dict(own)
        self.batches.order = tensor(order, device=self.device)
        self.step_count = int(info["step"])
        self.metrics_lines = int(info["metrics_lines"])
        random.default_generator().set_state(info["random"])


def row_length(labels: Sequence[int] | None) -> int:
    """How many images a row of a grid has: labels in turn, once or more, where those are few."""
    turn = len(labels or ())
    return turn * max(1, 8 // turn) if 1 <= turn <= 16 else 8


def deviation(data: Dataset) -> float:
    """One number for all coordinates, so that shapes stay what they are."""
    if data.is_image:
        raise ValueError(
            f"standardize is for points; {data.name} has images, in [-1, 1] already:"
            " --no-standardize, and a --model for images"
        )
    found = float(data.values.std(dtype=np.float64))
    if not found:
        raise ValueError(f"standardize: all numbers of {data.name} are equal")
    return found


def filled_in(config: Config, data: Dataset) -> Config:
    """The config with what suits the data, and the steps of what changes held fast."""
    model = config.model or ("mlp" if data.is_image else "toy")
    latent_size = config.latent_size or MODELS[model].latent_size
    found: dict[str, Any] = {"model": model, "latent_size": latent_size}
    changing = {
        "schedule_steps": config.schedule != "constant",
        "penalty_steps": config.penalty_end is not None,
        "noise_steps": config.instance_noise > 0,
    }
    for name, changes in changing.items():
        if changes and getattr(config, name) is None:
            found[name] = config.steps
    return config.replace(**found)


def _norm(gradients: Any) -> float:
    """The L2 norm of all gradients taken as one vector."""
    with no_grad():
        return math.sqrt(sum(float(ops.sum(ops.multiply(g, g))) for g in gradients))
