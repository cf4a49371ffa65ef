"""Apply the nets of a training to a few samples, for its gauges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..data import Dataset
from ..engine import random
from ..engine.autograd import grad
from ..engine.tensor import Tensor, no_grad, tensor
from . import gauge_functions as functions
from .trail import MAX_NUMBERS as MAX_FOLLOWED
from .trail import Step, Trail

if TYPE_CHECKING:
    from .trainer import Trainer

MIN_SAMPLES, MAX_SAMPLES, MAX_NUMBERS = 64, 256, 2**16  # of one kind, and numbers in them
MAX_REFERENCE, MAX_REFERENCE_NUMBERS = 2048, 2**22  # training samples that stand for the data
MIN_HELD_OUT = 16  # held-out samples; fewer cannot be compared with training samples
HIDDEN = (nn.GELU, nn.LeakyReLU, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh)


@dataclass(frozen=True, eq=False)
class Reference:
    """Numbers of the data to which gauges are relative; they are the same at all steps.

    Attributes:
        deviation: standard deviation per number, within classes for a conditional run.
        total_deviation: the same over all samples.
        range: the lowest and the highest number.
        class_means: (classes, d) of a conditional run.
        agreement: the share of held-out samples that are nearest to the mean of their class.
        chance: the share that would be if the means were mixed up.
        latent, labels: of the generated samples.
        features: the numbers of a sample that are followed from line to line.
        middle_slope: of G's loss at logits of 0; None where G's loss is not one of logits.
    """

    deviation: float
    total_deviation: float
    range: tuple[float, float]
    class_means: np.ndarray | None
    agreement: float
    chance: float
    latent: Tensor
    labels: np.ndarray | None
    features: np.ndarray
    middle_slope: float | None

    @classmethod
    def of(cls, trainer: Trainer) -> Reference:
        """Return the numbers of the data of a trainer."""
        data, size = trainer.data, math.prod(trainer.data.sample_shape)
        n = max(MIN_SAMPLES, min(MAX_REFERENCE, MAX_REFERENCE_NUMBERS // size))
        values, y = draw(data, n, 0, trainer.scale)
        total = functions.deviation(values)
        labels = means = None
        deviation, agreement, chance = total, 0.0, 0.0
        samples = cls.samples(trainer)
        if trainer.players.is_conditional and y is not None:
            labels = np.repeat(y[: max(1, samples // 2)], 2)[:samples]  # two latents of each label
            deviation = functions.deviation_within_classes(values, y)
            means = functions.class_means(values, y, data.classes or 0)
            other, other_y = draw(trainer.held_out or data, n, 1, trainer.scale)
            agreement = functions.class_agreement(other, other_y, means)
            chance = functions.class_agreement(other, np.roll(other_y, 1), means)
        with random.use_generator(random.Generator(0)):
            latent = trainer.players.latent(samples, "samples")
        limits = float(values.min()), float(values.max())
        slope = None
        if trainer.config.generator_loss == "adversarial":
            zeros = np.zeros(trainer.config.batch // trainer.config.pack, np.float32)
            slope = float(slopes(trainer, zeros, zeros).mean()) or None
        features = cls.followed(trainer)
        class_numbers = means, agreement, chance
        return cls(deviation, total, limits, *class_numbers, latent, labels, features, slope)

    @classmethod
    def followed(cls, trainer: Trainer) -> np.ndarray:
        """Return which numbers of a sample are followed, at random where there are many."""
        size = math.prod(trainer.data.sample_shape)
        count = min(size, max(1, MAX_FOLLOWED // cls.samples(trainer)))
        generator = np.random.Generator(np.random.Philox(0))
        return np.sort(generator.choice(size, count, replace=False))

    @staticmethod
    def samples(trainer: Trainer) -> int:
        """Return the number of generated samples, which D can take in packs and by fours."""
        size = math.prod(trainer.data.sample_shape)
        n = min(max(MIN_SAMPLES, min(MAX_SAMPLES, MAX_NUMBERS // size)), len(trainer.data))
        unit = 4 * trainer.config.pack
        return n - n % unit if n > unit else n


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


def draw(data: Dataset, n: int, seed: int, scale: float) -> tuple[np.ndarray, Any]:
    """Return n samples (n, d) of the data and their labels, drawn by a seed; fewer if it has fewer.

    They are divided by `scale`.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    rows = generator.choice(len(data), min(n, len(data)), replace=False)
    values = data.rows(rows).reshape(len(rows), -1)
    labels = None if data.labels is None else data.labels[rows]
    return values if scale == 1 else values / np.float32(scale), labels


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
    labels = [] if reference.labels is None else [_label_tensor(reference.labels)]
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
    pack, is_conditional = trainer.config.pack, trainer.players.is_conditional
    counts = [_divisible(len(samples) // pack) for samples, _ in sources]
    inputs = [
        samples[: n * pack].reshape(n, pack * first, *rest)
        for n, (samples, _) in zip(counts, sources, strict=True)
    ]
    labels = [y[: n * pack] for n, (_, y) in zip(counts, sources, strict=True) if y is not None]
    ends = np.cumsum(counts)[:-1]
    with nn.evaluating(net):
        if not nn.depends_on_batch(net):
            conditions = [_label_tensor(np.concatenate(labels))] if is_conditional else []
            output, units = _apply(net, np.concatenate(inputs), *conditions)
            return np.split(output, ends), units
        outputs: list[np.ndarray] = []
        ranges: list[list[np.ndarray]] = []
        for i, x in enumerate(inputs):
            output = np.zeros(0, np.float32)
            if len(x):
                output, units = _apply(net, x, *([_label_tensor(labels[i])] * is_conditional))
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


def slopes(trainer: Trainer, real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """Return the absolute derivative of G's loss with respect to each fake logit, (n,)."""
    x = tensor(fake[:, None], requires_grad=True)
    (g,) = grad(trainer.loss.generator(x, tensor(real[:, None])), [x])
    return np.abs(g.numpy()[:, 0])
