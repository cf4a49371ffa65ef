"""Draw samples from a trained generator, without its data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import nn
from ..engine import random
from ..engine.latents import LATENTS
from ..engine.tensor import Tensor, no_grad, tensor
from ..gan.players import Players
from ..utils.figures import MAX_CYCLE
from ..utils.names import choose, printable
from .directions import first_weight, move, sefa, truncate, unit_directions
from .walk import INTERPOLATIONS

GENERATE_BATCH = 256  # samples generated in one pass
SHOWN_IMAGES = 64  # in a picture of a training, or a few more for whole rows of all classes


class Sampler:
    """The generator of a training, or its average, as a source of samples.

        samples = load_sampler(Path("runs/001-glyphs-mlp")).sample(100, seed=7)

    Args:
        players: the networks.
        shape: of a sample.
        classes: the number of label classes; 0 without labels.
        scale: the factor from the generator's output to the data's unit.
        points: (n, D) real points to show beside generated ones; None for images.
        class_names: of the label classes; None where they have none.
        step: of the weights that were loaded; None where they belong to a training.
    """

    def __init__(
        self,
        players: Players,
        shape: tuple[int, ...],
        classes: int,
        scale: float,
        points: np.ndarray | None = None,
        class_names: Sequence[str] | None = None,
        step: int | None = None,
    ) -> None:
        if players.config.condition == "infogan":  # whose categories take the place of classes
            classes, class_names = players.config.categories, None
        self.players, self.shape, self.classes = players, shape, classes
        self.scale, self.points, self.step = scale, points, step
        self.class_names = None if class_names is None else tuple(class_names)

    @property
    def is_conditional(self) -> bool:
        """Whether the generator is called with labels."""
        return self.players.is_conditional

    @property
    def latent_size(self) -> int:
        """The length of a latent."""
        return self.players.latent_size

    @property
    def cycle(self) -> int:
        """The number of classes that samples have in turn; 1 without labels."""
        return self.classes if self.is_conditional else 1

    @property
    def shown_images(self) -> int:
        """The number of images in a picture of a training."""
        row = self.cycle * max(1, 8 // self.cycle) if self.cycle <= MAX_CYCLE else 8
        return row * math.ceil(SHOWN_IMAGES / row)

    def captions(self, labels: Sequence[int] | np.ndarray) -> list[str]:
        """Return the class name of each label, or the label where classes have no names."""
        names = self.class_names
        return [str(y) if names is None else printable(names[y]) for y in labels]

    def turns(self, n: int) -> np.ndarray | None:
        """Return the labels of n samples that have all classes in turn; None without labels."""
        return np.arange(n) % self.classes if self.is_conditional else None

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
        values = self.turns(n) if labels is None else np.asarray(labels)
        assert values is not None
        if values.shape != (n,) or values.dtype.kind not in "iu":
            raise ValueError(
                f"labels are {values.dtype} of shape {values.shape}; {n} integers are needed"
            )
        outside = values[(values < 0) | (values >= self.classes)]
        if outside.size:
            raise ValueError(f"label {outside[0]} is not one of 0 .. {self.classes - 1}")
        return [tensor(values, dtype="int64", device=self.players.device)]

    def sample(
        self,
        n: int,
        seed: int = 0,
        labels: np.ndarray | None = None,
        averaged: bool = True,
        truncation: float | None = None,
    ) -> np.ndarray:
        """Return n generated samples, (n, ...); their latents depend on `seed` alone.

        The random streams of a training stay as they are.

        Args:
            n: their number.
            seed: of the latents.
            labels, averaged: see `generate`.
            truncation: the limit of the latents' numbers, in standard deviations; None: no limit.

        Raises:
            ValueError: only normal latents are truncated; or see `generate`, `truncate`.
        """
        players, distribution = self.players, self.players.config.latent
        with random.use_generator(random.Generator(seed)):
            latent = players.latent(n, "samples")
            if truncation is not None:
                if distribution != "normal":
                    raise ValueError(
                        f"truncation = {truncation}: this run has latent = {distribution!r}, and"
                        " only normal latents are truncated"
                    )
                latent = tensor(truncate(latent.numpy(), truncation), device=players.device)
            return self.generate(latent, labels, averaged)

    def directions(self, k: int = 5) -> np.ndarray:
        """Return the k directions of the latents that the generator amplifies most; see `sefa`.

        Returns:
            (k, latent_size) unit vectors.

        Raises:
            ValueError: the generator has not so many, or its first layer is no `nn.Dense`; or the
                latents are "decaying".
        """
        self._reach()
        return sefa(first_weight(self.players.sampler, self.latent_size), k)

    def codes(self) -> np.ndarray:
        """Return the directions (k, latent_size) of the continuous codes of InfoGAN; k may be 0."""
        return np.eye(self.players.config.codes, self.latent_size)

    def _reach(self) -> float:
        name = self.players.config.latent
        if not LATENTS[name].reach:
            raise ValueError(f"a direction of {name} latents, whose deviations differ, has no unit")
        return LATENTS[name].reach

    def traverse(
        self,
        directions: np.ndarray,
        n: int = 1,
        frames: int = 10,
        seed: int = 0,
        labels: np.ndarray | None = None,
        averaged: bool = True,
    ) -> np.ndarray:
        """Return samples (k, n, frames, ...) along k directions, of the same latents for each.

        The latents are those of `sample(n, seed)`. Their component along a direction goes from
        -2 to 2 standard deviations (for uniform latents from -1 to 1), the rest stays.

        Args:
            directions: (k, latent_size), of any norm, such as `directions()` or `codes()`.
            n: the number of latents.
            frames: the number of positions along a direction.
            seed: of the latents.
            labels: (n,) integers of the latents; None: all classes in turn.
            averaged: see `generate`.

        Raises:
            ValueError: there are fewer than two frames; the directions have another shape, or the
                latents are "decaying"; or see `generate`.
        """
        if frames < 2:
            raise ValueError(f"frames = {frames}: a traversal has at least its two ends")
        reach, units = self._reach(), unit_directions(directions, self.latent_size)
        with random.use_generator(random.Generator(seed)):
            latents = self.players.latent(n, "samples").numpy().astype(np.float64)
        positions = np.linspace(-reach, reach, frames)
        moved = np.stack([move(latents, unit, positions) for unit in units]).astype(np.float32)
        turns = self.turns(n) if labels is None else np.asarray(labels)
        if turns is not None and turns.shape == (n,):
            turns = np.tile(np.repeat(turns, frames), len(units))
        flat = tensor(moved.reshape(-1, self.latent_size), device=self.players.device)
        return self.generate(flat, turns, averaged).reshape(len(units), n, frames, *self.shape)

    def walk(
        self,
        n: int,
        frames: int = 30,
        seed: int = 0,
        labels: np.ndarray | None = None,
        interpolation: str | None = None,
        averaged: bool = True,
    ) -> np.ndarray:
        """Return samples (n, frames, ...) along n paths between latents.

        Path i leads from the latent of `sample(n, seed)[i]` to that of `sample(n, seed + 1)[i]`.

        Args:
            n: the number of paths.
            frames: the number of samples on a path, with both ends.
            seed: of the latents.
            labels: (n,) integers, which a path keeps; None: all classes in turn.
            interpolation: "slerp" or "lerp" (see `walk.py`); None: the one that suits the
                distribution of the latents.
            averaged: see `generate`.

        Raises:
            ValueError: there are fewer than two frames, no such interpolation, or see `generate`.
        """
        if frames < 2:
            raise ValueError(f"frames = {frames}: a path has at least its two ends")
        players = self.players
        name = interpolation or LATENTS[players.config.latent].interpolation
        path = choose("interpolation", name, INTERPOLATIONS)
        ends = []
        for end in (seed, seed + 1):
            with random.use_generator(random.Generator(end)):
                ends.append(players.latent(n, "samples").numpy())
        latents = path(*ends, np.linspace(0, 1, frames)).astype(np.float32)
        turns = self.turns(n) if labels is None else np.asarray(labels)
        if turns is not None and turns.shape == (n,):
            turns = np.repeat(turns, frames)
        flat = tensor(latents.reshape(n * frames, self.latent_size), device=players.device)
        return self.generate(flat, turns, averaged).reshape(n, frames, *self.shape)
