"""The game: a discriminator and a generator that take turns (Goodfellow et al. 2014, algorithm 1).

The Trainer holds all that a training state is. It writes no file; `run.py` does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import nn, ops, optim, random
from .autograd import grad
from .capture import capture
from .config import Config
from .data import Dataset, load
from .device import get_device, use_device
from .losses import LOSSES
from .models import MODELS
from .optim import load_tensors
from .tensor import Tensor, no_grad, tensor

SAMPLES = 256  # made at once


class DivergedError(RuntimeError):
    """A loss became NaN or infinite; the message names the step."""


class Batches:
    """Endless batches of a table: each epoch every row once, in an order of the stream "data".

    What an epoch leaves over begins the next batch, so that all batches have one size.
    """

    def __init__(self, table: Tensor, batch: int) -> None:
        self.table, self.batch = table, batch
        self.order = self._epoch()  # the rows still to come

    def _epoch(self) -> Tensor:
        return random.permutation(self.table.shape[0], device=self.table.device, stream="data")

    def next(self) -> Tensor:
        """(batch, width), new memory."""
        while len(self.order) < self.batch:
            self.order = ops.concatenate([self.order, self._epoch()])
        rows, self.order = self.order[: self.batch], self.order[self.batch :]
        return ops.gather(self.table, ops.reshape(rows, self.batch, 1), axis=0)


class Trainer:
    """A GAN in training: data, two nets, two optimizers, a loss, and random streams.

    `config` comes back with what it left open filled in (model, latent_size). The default random
    generator is seeded with the config's seed, and a step draws from it: train one after the other
    in a process, not in turns. All state is in `state()`.

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
        model = config.model or ("mlp" if data.is_image else "toy")
        latent_size = config.latent_size or MODELS[model].latent_size
        self.config = config = config.replace(model=model, latent_size=latent_size)
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
            self.generator, self.discriminator = MODELS[model].build(data.sample_shape, latent_size)
            nn.shapes(self.generator, (latent_size,))
            nn.shapes(self.discriminator, data.sample_shape)
            self.loss = LOSSES[config.loss](smooth=config.smooth)
            betas = (config.beta1, 0.999)
            self.optimizer_g = optim.Adam(self.generator.parameters(), config.lr_g, betas)
            self.optimizer_d = optim.Adam(self.discriminator.parameters(), config.lr_d, betas)
            self.average = (
                optim.ExponentialMovingAverage(self.generator, config.ema) if config.ema else None
            )
            table = self.data.values.reshape(len(self.data), -1)
            self.batches = Batches(tensor(table), config.batch)
            self.fixed_latent = self._latent(64 if data.is_image else 1024, "samples")
        self.captured = True
        self._captured = capture(self._play)

    # ------------------------------------------------------------------------------- training
    def _latent(self, n: int, stream: str) -> Tensor:
        shape = (n, self.config.latent_size or 0)
        if self.config.latent == "uniform":
            return random.uniform(shape, -1.0, 1.0, device=self.device, stream=stream)
        draw = {"normal": random.normal, "laplace": random.laplace}[self.config.latent]
        return draw(shape, device=self.device, stream=stream)

    def step(self, norms: bool = False) -> dict[str, float]:
        """One turn each: `n_critic` updates of D, `n_generator` of G; the last ones' numbers.

        Returns loss_d and loss_g; the shares of real samples that D called real and of fakes that
        it called fake, d_real and d_fake; with `norms` the gradients' L2 norms too.

        Captured (see `capture`) unless `captured` is set to False; the bits are the same.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        with use_device(self.device):
            turns = self._captured if self.captured else self._play
            played = turns([self.batches.next() for _ in range(self.config.n_critic)])
            says_real = played["logits"].numpy()[:, 0] > self.loss.threshold
            row = {
                "loss_d": float(played["loss_d"]),
                "loss_g": float(played["loss_g"]),
                "d_real": float(says_real[: self.config.batch].mean()),
                "d_fake": float(1 - says_real[self.config.batch :].mean()),
            }
            if norms:
                for player in ("d", "g"):
                    row[f"grad_norm_{player}"] = _norm(played[f"gradients_{player}"])
        self.step_count += 1
        for name in ("loss_d", "loss_g"):
            if not math.isfinite(row[name]):
                raise DivergedError(f"{name} became {row[name]} at step {self.step_count}")
        return row

    def _play(self, reals: list[Tensor]) -> dict[str, Any]:
        """The turns on these batches (n, width): all that happens on the device, to be captured."""
        found: dict[str, Any] = {}
        for real in reals:
            fake = self.generator(self._latent(self.config.batch, "latent"))
            found |= self._step_discriminator(real, fake)
        for turn in range(self.config.n_generator):
            if turn:  # the first turn takes the fakes that D has just seen
                fake = self.generator(self._latent(self.config.batch, "latent"))
            found |= self._step_generator(fake)
        return found

    def _step_discriminator(self, real: Tensor, fake: Tensor) -> dict[str, Any]:
        """The fakes are constants here."""
        n = self.config.batch
        real = ops.reshape(real, n, *self.data.sample_shape)
        logits = judge(self.discriminator, real, fake.detach())
        loss = self.loss.discriminator(logits[:n], logits[n:])
        gradients = grad(loss, self.discriminator.parameters())
        self.optimizer_d.step(gradients)
        return {"loss_d": loss, "logits": logits, "gradients_d": gradients}

    def _step_generator(self, fake: Tensor) -> dict[str, Any]:
        loss = self.loss.generator(self.discriminator(fake))
        gradients = grad(loss, self.generator.parameters())
        self.optimizer_g.step(gradients)
        if self.average is not None:
            self.average.update()
        return {"loss_g": loss, "gradients_g": gradients}

    # -------------------------------------------------------------------------------- samples
    def generate(self, latent: Tensor) -> np.ndarray:
        """What the generator, or its average, makes of a latent (n, latent_size), in numpy."""
        net = self.generator if self.average is None else self.average.module
        # What all of them take at once may be gigabytes.
        parts = range(0, max(1, len(latent)), SAMPLES)
        with nn.evaluating(net), no_grad():
            return np.concatenate([net(latent[i : i + SAMPLES]).numpy() for i in parts])

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """n samples whose latents depend on `seed` alone; training goes on as if none was drawn."""
        before = random.default_generator().state()
        random.manual_seed(seed)
        try:
            return self.generate(self._latent(n, "samples"))
        finally:
            random.default_generator().set_state(before)

    # ---------------------------------------------------------------------------------- state
    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "optimizer_g": self.optimizer_g,
            "optimizer_d": self.optimizer_d,
        }
        return parts if self.average is None else {**parts, "average": self.average}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that the future depends on: tensors by name, and what JSON can hold."""
        tensors = {
            f"{part}.{name}": x
            for part, held in self._parts().items()
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
        for part, held in self._parts().items():
            dot = part + "."
            own = {k.removeprefix(dot): x for k, x in tensors.items() if k.startswith(dot)}
            held.load_state_dict(own)
        self.batches.order = tensor(order, device=self.device)
        self.step_count = int(info["step"])
        self.metrics_lines = int(info["metrics_lines"])
        random.default_generator().set_state(info["random"])


def judge(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The logits of both batches: in one pass, unless each has its own moments (batch norm)."""
    if nn.depends_on_batch(discriminator):
        return ops.concatenate([discriminator(real), discriminator(fake)])
    return discriminator(ops.concatenate([real, fake]))


def _norm(gradients: Any) -> float:
    """The L2 norm of all gradients taken as one vector."""
    with no_grad():
        return math.sqrt(sum(float(ops.sum(ops.multiply(g, g))) for g in gradients))
