"""A saved run as an object: its generator, samples, config and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..evaluation.evaluate import Evaluation, evaluate
from ..utils.names import choose
from .config import Config
from .lines import Lines
from .load_sampler import load_sampler
from .python_data import PathLike, place_of
from .resume import load_trainer, read_run
from .run_folder import METRICS, read_metrics
from .sampler import Sampler

Labels = int | str | Sequence[int | str] | np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class SavedRun:
    """A run in the state of its checkpoint, which `mg.load_run` and `mg.train` return.

        run = mg.load_run("runs/001-glyphs-mlp")
        digits = run.sample(4, labels=["3", "3", "A", "A"])
        loss_g = run.metrics["loss_g"]

    Attributes:
        folder: the absolute path of the run.
        config: its options.
        step: the step of its generator.
        sampler: the generator as a source of samples.
        class_names: the names of its classes; None where they have none.
        last_step: the number of steps that it was trained; `discriminator` is of that step only.
        metrics_lines, lines: which lines of metrics belong to that state.
    """

    folder: Path
    config: Config
    step: int
    sampler: Sampler
    class_names: tuple[str, ...] | None
    last_step: int
    metrics_lines: int
    lines: Lines

    @property
    def generator(self) -> nn.Module:
        """The generator in eval mode: its moving average if the option `ema` is set.

        It maps latents (n, latent_size), and labels (n,) of a conditional run, to images in [-1, 1]
        or points (divided by `sampler.scale` with the option `standardize`).
        """
        return self.sampler.players.sampler

    @property
    def discriminator(self) -> nn.Module:
        """The discriminator in eval mode: it maps samples, and labels, to logits (n, 1).

        Raises:
            ValueError: the run was loaded at an earlier step, of which only the generator is kept.
        """
        if self.step != self.last_step:
            raise ValueError(
                f"{self.folder} was loaded at step {self.step}, of which only the generator is"
                " kept; load_run without a step has the discriminator"
            )
        return self.sampler.players.discriminator

    @property
    def is_averaged(self) -> bool:
        """Whether `generator` is the moving average of the generator that was trained."""
        return self.sampler.players.average is not None

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """The metrics by column, arrays over the logged steps; NaN where a line has no number.

        Raises:
            RunError: metrics.jsonl is gone, or cannot be read.
        """
        path = self.folder / METRICS
        rows = read_metrics(path, self.last_step, self.metrics_lines, self.lines.has_line)
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        arrays = {name: np.array(column, float) for name, column in columns.items()}
        return arrays | {"step": np.array([row["step"] for row in rows], np.int64)}

    def sample(
        self,
        n: int,
        seed: int = 0,
        labels: Labels | None = None,
        truncation: float | None = None,
    ) -> np.ndarray:
        """Return n samples, (n, C, H, W) in [-1, 1] or (n, D); their latents depend on `seed`.

        Args:
            n: their number.
            seed: of the latents: `minigan sample --seed` draws the same.
            labels: of a conditional run, names or numbers: one for all samples, or n of them; None:
                all classes in turn.
            truncation: the limit of the numbers of normal latents, such as 1.0: those beyond it are
                drawn again (Brock et al. 2019); None: no limit.

        Raises:
            ValueError: there is no such class, or the run was trained without labels; the latents
                are not normal.
        """
        numbers = None if labels is None else self._numbers(labels, n)
        return self.sampler.sample(n, seed, numbers, truncation=truncation)

    def directions(self, k: int = 5) -> np.ndarray:
        """Return the k directions (k, latent_size) of the latents that G amplifies most.

        They are the closed form of Shen and Zhou 2021, from the first layer's weight.

        Raises:
            ValueError: there are not so many, or the generator's first layer is no `nn.Dense`; or
                the latents are "decaying".
        """
        return self.sampler.directions(k)

    def traverse(
        self,
        directions: np.ndarray | None = None,
        n: int = 1,
        frames: int = 10,
        seed: int = 0,
        labels: Labels | None = None,
    ) -> np.ndarray:
        """Return samples (k, n, frames, ...) along directions, as `minigan sample --traverse`.

            strips = run.traverse(run.directions(3))  # one latent along each of three directions

        Args:
            directions: (k, latent_size); None: InfoGAN's continuous codes, or else `directions()`.
            n: the number of latents, the same for each direction: those of `sample(n, seed)`.
            frames: the number of samples along a direction: its component of a latent is replaced
                by -2 to 2 standard deviations, or -1 to 1 for uniform latents.
            seed: of the latents.
            labels: of a conditional run, as in `sample`.

        Raises:
            ValueError: there is no such class, or the directions have another shape; the latents
                are "decaying".
        """
        if directions is None:
            directions = self.sampler.codes() if self.config.codes else self.directions()
        numbers = None if labels is None else self._numbers(labels, n)
        return self.sampler.traverse(directions, n, frames, seed, numbers)

    def walk(
        self,
        n: int,
        frames: int = 30,
        seed: int = 0,
        labels: Labels | None = None,
        interpolation: str | None = None,
    ) -> np.ndarray:
        """Return samples (n, frames, ...) along paths between latents, as `minigan sample --walk`.

            frames = run.walk(8)  # frames[:, 0] is run.sample(8), frames[:, -1] run.sample(8, 1)

        Args:
            n: the number of paths.
            frames: the number of samples on a path, with both ends.
            seed: of the latents at which the paths begin; they end at those of `seed + 1`.
            labels: of a conditional run, as in `sample`; a path keeps its label.
            interpolation: "slerp" or "lerp"; None: slerp, or lerp where it suits the latents.

        Raises:
            ValueError: there is no such class or interpolation, or the run has no labels.
        """
        numbers = None if labels is None else self._numbers(labels, n)
        return self.sampler.walk(n, frames, seed, numbers, interpolation)

    def _numbers(self, labels: Labels, n: int) -> np.ndarray:
        """Return n labels as numbers."""
        is_one = isinstance(labels, str) or np.ndim(labels) == 0
        values = [labels] * n if is_one else list(labels)  # type: ignore[arg-type]
        names = {name: i for i, name in enumerate(self.class_names or ())}
        if any(isinstance(value, str) for value in values):
            if not names:
                raise ValueError(
                    f"labels = {labels!r}: the classes of this run have no names, only the numbers"
                    f" 0 to {self.sampler.classes - 1}"
                )
            values = [choose("label", x, names) if isinstance(x, str) else x for x in values]
        return np.asarray(values)

    def evaluate(
        self,
        data: Any = None,
        labels: Any = None,
        projections: int = 256,
        progress: bool = False,
        only: Sequence[str] | None = None,
    ) -> Evaluation:
        """Return measures against held-out data, as `minigan evaluate` prints; write no file.

            run.evaluate()["frechet"].value

        Args:
            data, labels: the data of the run, where they came from Python or have moved.
            projections: the number of directions of the sliced Wasserstein distance.
            progress: whether to show a progress bar.
            only: the names of the measures to take, or "quick" among them; None: all.

        Raises:
            RunError: the data are not those of the training.
        """
        # The module needs this package.
        from ..evaluation.training_state import with_divergence

        place = place_of(self.config, data, labels)
        trainer = load_trainer(self.folder, data=place)
        # The folder may have been trained further since this run was loaded.
        evaluation = evaluate(trainer, projections, progress, only, self.sampler)
        return with_divergence(evaluation, self.folder)

    def __repr__(self) -> str:
        config, classes = self.config, self.sampler.classes
        parts = [
            f"SavedRun({str(self.folder)!r}: step {self.step} of {config.steps}",
            f"data {config.data!r}",
            f"samples of shape {self.sampler.shape}" + f" in {classes} classes" * bool(classes),
            f"model {config.model!r}",
            "generator: " + (f"average, ema {config.ema}" if self.is_averaged else "as trained"),
        ]
        return ", ".join(parts) + ")"


def load_run(
    folder: PathLike,
    *,
    step: int | str | None = None,
    model: str | None = None,
    loss: str | None = None,
    device: str | None = None,
) -> SavedRun:
    """Return a run in the state of its checkpoint; its data are not needed.

        run = mg.load_run("runs/001-glyphs-mlp")
        images = run.sample(16)

    Args:
        folder: the run's folder.
        step: of a snapshot, or "best" for the step with the best quick measure; None: the last.
        model, loss: the name FILE.py:NAME of code of the run's own, where it must be named; see
            SECURITY.md.
        device: the device of the nets, such as "cpu" for a run of a GPU; None: the one of the
            training.

    Raises:
        RunError: the folder holds no run, or an incomplete one, or code must be named.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    path = Path(folder).expanduser().absolute()
    sampler = load_sampler(path, step, {"model": model, "loss": loss}, device)
    config, (_, info) = read_run(path)
    for net in (sampler.players.sampler, sampler.players.discriminator):
        net.eval()
    return SavedRun(
        path,
        config,
        info["step"] if sampler.step is None else sampler.step,
        sampler,
        sampler.class_names,
        info["step"],
        info["metrics_lines"],
        Lines.from_info(info),
    )
