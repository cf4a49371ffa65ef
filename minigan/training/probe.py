"""Apply the nets of a training to a few samples, for its gauges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..engine import random
from ..engine.tensor import Tensor, no_grad, tensor
from . import gauge_functions as functions
from .reference import Reference, draw, slopes
from .trail import Step, Trail

if TYPE_CHECKING:
    from .trainer import Trainer

MIN_HELD_OUT = 16  # held-out samples; fewer cannot be compared with training samples
HIDDEN = (nn.GELU, nn.LeakyReLU, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh)


@dataclass(frozen=True, eq=False)
class Probe:
    """What the gauges of a step are computed from.

    Samples are rows (n, d) in the unit of the nets; logits are (n,).

    Attributes:
        real_logits, fake_logits: D's outputs of the step's batches.
        slopes: of G's loss at its fake logits, relative to that at logits of 0; None where G's loss
            is not one of logits.
        fake, fake_labels: generated samples, always of the same latents.
        train, held_out: real samples, which change from step to step.
        train_logits, held_out_logits: D's outputs of them in eval mode; None with too few samples.
        units: by player, the range of each unit of each hidden layer, (2, units).
        parameter_sizes: by player, the root mean square of the chosen parameters.
        steps: of each trail, its last displacement.
        rates: by player, the learning rate.
        reference: numbers of the data.
    """

    real_logits: np.ndarray
    fake_logits: np.ndarray
    slopes: np.ndarray | None
    fake: np.ndarray
    fake_labels: np.ndarray | None
    train: np.ndarray
    held_out: np.ndarray
    train_logits: np.ndarray | None
    held_out_logits: np.ndarray | None
    units: Mapping[str, list[np.ndarray]]
    parameter_sizes: Mapping[str, float]
    steps: Mapping[str, Step]
    rates: Mapping[str, float]
    reference: Reference

    @property
    def all_logits(self) -> np.ndarray:
        """D's outputs of both batches."""
        return np.concatenate([self.real_logits, self.fake_logits])

    def range_of(self, x: np.ndarray) -> tuple[float, float]:
        """Return the lowest and the highest number."""
        return float(x.min()), float(x.max())

    def relative(self, trail: str, size: float) -> float | None:
        """Return the length of the last step of a trail relative to a size."""
        vector = self.steps[trail].vector
        if vector is None or size <= 0:
            return None
        return functions.root_mean_square(vector) / size

    @property
    def drift(self) -> float | None:
        """The change of the mean of the generated samples, relative to the data's deviation."""
        vector, size = self.steps["samples"].vector, self.reference.total_deviation
        if vector is None or size <= 0:
            return None
        change = vector.reshape(len(self.fake), -1).mean(axis=0, dtype=np.float64)
        return functions.root_mean_square(change) / size


def probe(
    trainer: Trainer,
    reference: Reference,
    trails: Mapping[str, Trail],
    parameters: Mapping[str, Sequence[Tensor]],
    output: Mapping[str, Any],
) -> Probe:
    """Apply the nets to a few samples, and add the positions to the trails.

    The real samples depend on the step alone. Neither running statistics nor the random streams of
    the training change: the nets are in eval mode, and draw from a generator of their own.
    """
    players = trainer.players
    real_logits, fake_logits = np.split(output["logits"].numpy()[:, 0], 2)
    n, seed = len(reference.latent), trainer.step_count
    with random.use_generator(random.Generator(seed)), no_grad():
        fake, units_g = _generate(trainer, reference)
        train, y_train = draw(trainer.data, n, seed, trainer.scale)
        held_out, y_held_out = draw(trainer.held_out, n, seed, trainer.scale)
        sources = [(train, y_train), (held_out, y_held_out), (fake, reference.labels)]
        logits, units_d = _discriminate(trainer, sources)
    steps, sizes = {}, {}
    positions = {name: [x.numpy() for x in parts] for name, parts in parameters.items()}
    for name, parts in {**positions, "samples": [fake[:, reference.features]]}.items():
        position = trails[name].select(parts)
        sizes[name] = functions.root_mean_square(position)
        steps[name] = trails[name].push(position)
    has_enough = len(held_out) >= MIN_HELD_OUT
    return Probe(
        real_logits,
        fake_logits,
        _slopes(trainer, reference, real_logits, fake_logits),
        fake,
        reference.labels,
        train,
        held_out,
        logits[0] if has_enough else None,
        logits[1] if has_enough else None,
        {"d": units_d, "g": units_g},
        sizes,
        steps,
        {player: players.optimizers[player].lr for player in "dg"},
        reference,
    )


class _Units:
    """Record the ranges of the units of hidden layers while a net is applied.

    Activations after the last layer with parameters are its output, not hidden.
    """

    def __init__(self) -> None:
        self.ranges: list[np.ndarray] = []
        self._hidden = 0

    def __call__(self, module: nn.Module, output: Any) -> None:
        if isinstance(module, HIDDEN):
            self.ranges.append(functions.unit_range(output.numpy()))
        elif any(isinstance(x, Tensor) for x in vars(module).values()):
            self._hidden = len(self.ranges)

    @property
    def hidden(self) -> list[np.ndarray]:
        """The ranges of the hidden layers, (2, units) each."""
        return self.ranges[: self._hidden]


def _generate(trainer: Trainer, reference: Reference) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return samples (n, d) of the net that draws samples, and the ranges of its units.

    It is the average of G if there is one: what ails G alone does not reach the samples.
    """
    net, units = trainer.players.sampler, _Units()
    turns = trainer.sampler.turns(len(reference.latent))  # of InfoGAN's categories
    y = turns if reference.labels is None else reference.labels
    labels = [] if y is None else [_label_tensor(y)]
    with nn.evaluating(net), nn.observing(units):
        samples = net(reference.latent, *labels).numpy()
    return samples.reshape(len(samples), -1), units.hidden


def _label_tensor(labels: np.ndarray) -> Tensor:
    return tensor(labels, dtype="int64")


def _discriminate(
    trainer: Trainer, sources: Sequence[tuple[np.ndarray, Any]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return D's logits of each source (samples, labels), and the ranges of its units over all.

    All sources are one pass, with fewer launches, unless a sample's output depends on its batch.
    """
    net, (first, *rest) = trainer.discriminator, trainer.data.sample_shape
    pack, has_labels = trainer.config.pack, trainer.config.needs_labels
    counts = [_divisible(len(samples) // pack) for samples, _ in sources]
    inputs = [
        samples[: n * pack].reshape(n, pack * first, *rest)
        for n, (samples, _) in zip(counts, sources, strict=True)
    ]
    labels = [y[: n * pack] for n, (_, y) in zip(counts, sources, strict=True) if y is not None]
    ends = np.cumsum(counts)[:-1]
    with nn.evaluating(net):
        if not nn.depends_on_batch(net):
            conditions = [_label_tensor(np.concatenate(labels))] if has_labels else []
            output, units = _apply(net, np.concatenate(inputs), *conditions)
            return np.split(output, ends), units
        outputs: list[np.ndarray] = []
        ranges: list[list[np.ndarray]] = []
        for i, x in enumerate(inputs):
            output = np.zeros(0, np.float32)
            if len(x):
                conditions = [_label_tensor(labels[i])] if has_labels else []
                output, units = _apply(net, x, *conditions)
                ranges.append(units)
            outputs.append(output)
    merged = [
        np.stack([np.min([x[0] for x in layer], axis=0), np.max([x[1] for x in layer], axis=0)])
        for layer in zip(*ranges, strict=True)
    ]
    return outputs, merged


def _divisible(n: int) -> int:
    """Return the largest multiple of 4 up to n, for layers that compare samples by fours."""
    return n - n % 4 if n > 4 else n


def _apply(net: nn.Module, x: np.ndarray, *labels: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return column 0 of a net's output, (n,), and the ranges of its hidden units."""
    units = _Units()
    with nn.observing(units):
        output = net(tensor(x), *labels).numpy()
    return output[:, 0], units.hidden


def _slopes(
    trainer: Trainer, reference: Reference, real: np.ndarray, fake: np.ndarray
) -> np.ndarray | None:
    """Return the slope of G's loss at each fake logit, relative to that where all logits are 0."""
    if reference.middle_slope is None:
        return None
    return slopes(trainer, real, fake) / reference.middle_slope
