"""Draw samples from a trained generator, without its data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import nn
from ..engine import random
from ..engine.tensor import Tensor, no_grad, tensor
from ..gan.players import Players

GENERATE_BATCH = 256  # samples generated in one pass


class Sampler:
    """The generator of a training, or its average, as a source of samples.

        samples = load_sampler(Path("runs/001-glyphs-mlp")).sample(100, seed=7)

    Args:
        players: the networks.
        shape: of a sample.
        classes: the number of label classes; 0 without labels.
        scale: the factor from the generator's output to the data's unit.
        points: (n, D) real points to show beside generated ones; None for images.
    """

    def __init__(
        self,
        players: Players,
        shape: tuple[int, ...],
        classes: int,
        scale: float,
        points: np.ndarray | None = None,
    ) -> None:
        self.players, self.shape, self.classes = players, shape, classes
        self.scale, self.points = scale, points

    @property
    def is_conditional(self) -> bool:
        """Whether the generator is called with labels."""
        return self.players.is_conditional

    @property
    def latent_size(self) -> int:
        """The length of a latent."""
        return self.players.latent_size

    @property
    def columns(self) -> int:
        """The number of images in a row of a grid."""
        return row_length(range(self.classes) if self.is_conditional else None)

    def generate(
        self, latent: Tensor, labels: np.ndarray | None = None, averaged: bool = True
    ) -> np.ndarray:
        """Return samples (n, ...) for latents.

        Args:
            latent: (n, latent_size).
            labels: (n,) integers, for a conditional generator; None: all classes in turn.
            averaged: whether a run with `ema` uses the average of G, or G itself.

        Raises:
            ValueError: there are labels without a condition, or they are not n of its classes.
        """
        net = self.players.sampler if averaged else self.players.generator
        conditions = self._label_tensors(labels, len(latent))
        # A single pass over all latents may need gigabytes of activations.
        starts = range(0, max(1, len(latent)), GENERATE_BATCH)
        parts = [slice(start, start + GENERATE_BATCH) for start in starts]
        with nn.evaluating(net), no_grad():
            outputs = [net(latent[part], *(y[part] for y in conditions)) for part in parts]
            samples = np.concatenate([output.numpy() for output in outputs])
        return samples if self.scale == 1 else samples * np.float32(self.scale)

    def _label_tensors(self, labels: np.ndarray | None, n: int) -> list[Tensor]:
        """Return the labels, checked, on the device; [] for a generator that takes none."""
        if not self.is_conditional:
            if labels is not None:
                raise ValueError("this generator was trained without labels, so it takes none")
            return []
        values = np.arange(n) % self.classes if labels is None else np.asarray(labels)
        if values.shape != (n,) or values.dtype.kind not in "iu":
            raise ValueError(
                f"labels are {values.dtype} of shape {values.shape}; {n} integers are needed"
            )
        outside = values[(values < 0) | (values >= self.classes)]
        if outside.size:
            raise ValueError(f"label {outside[0]} is not one of 0 .. {self.classes - 1}")
        return [tensor(values, dtype="int64", device=self.players.device)]

    def sample(
        self, n: int, seed: int = 0, labels: np.ndarray | None = None, averaged: bool = True
    ) -> np.ndarray:
        """Return n generated samples, (n, ...); their latents depend on `seed` alone.

        The random streams of a training stay as they are. `labels`, `averaged`: see `generate`.
        """
        with random.use_generator(random.Generator(seed)):
            return self.generate(self.players.latent(n, "samples"), labels, averaged)


def row_length(labels: Sequence[int] | None) -> int:
    """Return the number of images in a row of a grid: 8, or a multiple of up to 16 labels."""
    count = len(labels or ())
    return count * max(1, 8 // count) if 1 <= count <= 16 else 8
