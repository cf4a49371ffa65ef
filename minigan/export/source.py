"""Describe and check the generator to export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..engine.latents import LATENTS
from ..engine.op import Op
from ..engine.random import Generator, use_generator
from ..engine.tensor import no_grad, tensor
from .trace import ExportError, record

if TYPE_CHECKING:
    from ..training.sampler import Sampler
    from ..training.saved_run import SavedRun


@dataclass(frozen=True, eq=False)
class Source:
    """A generator, and what its users have to know about it.

    Attributes:
        net: maps latents (n, latent_size), and int64 labels (n,) with classes, to samples.
        latent_size: the length of a latent.
        latent: the distribution of latents, a name of `LATENTS`.
        shape: of a sample.
        scale: by which the net's output is multiplied.
        classes: the number of label classes; 0 for a net without labels.
        class_names: of the classes; None where they have none.
        run: the name of the run; "" for a net that belongs to none.
        step: of the training; None for a net that belongs to no run.
        steps: to which the run was to be trained.
        is_averaged: whether the net is the moving average of the generator.
    """

    net: nn.Module
    latent_size: int
    latent: str
    shape: tuple[int, ...]
    scale: float = 1.0
    classes: int = 0
    class_names: tuple[str, ...] | None = None
    run: str = ""
    step: int | None = None
    steps: int | None = None
    is_averaged: bool = False

    def inputs(self, n: int, seed: int = 0) -> list[np.ndarray]:
        """Return n latents, and with classes n labels that have all classes in turn."""
        with use_generator(Generator(seed)):
            latents = LATENTS[self.latent].draw((n, self.latent_size), device="reference")
        labels = [np.arange(n, dtype=np.int64) % self.classes] if self.classes else []
        return [latents.numpy(), *labels]

    def samples(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Return the samples for latents, and labels, as `Sampler.generate` does."""
        device = next(iter(self.net.tensors()))[1].device
        with nn.evaluating(self.net), no_grad():
            y = self.net(*(tensor(x, device=device) for x in inputs)).numpy()
        return y if self.scale == 1 else y * np.float32(self.scale)

    @property
    def value_range(self) -> str:
        """The values that samples have, as text."""
        return "[-1, 1]" if len(self.shape) == 3 else "the data's unit"


def describe(
    source: SavedRun | Sampler | nn.Module,
    averaged: bool = True,
    latent_size: int | None = None,
    run: str = "",
) -> Source:
    """Return what is to be exported: the generator of a run, or a net of latents.

    Args:
        source: a run, the sampler of one, or a net, for which `latent_size` is needed.
        averaged: whether to take the average of a run's generator, where it has one.
        latent_size: the length of a net's latents.
        run: the name of a sampler's run.

    Raises:
        ExportError: the net's numbers are not float32, or not finite.
        TypeError: the source is something else, or `latent_size` is missing.
    """
    from ..training.sampler import Sampler
    from ..training.saved_run import SavedRun

    if isinstance(source, SavedRun):
        found = _of_sampler(source.sampler, averaged, source.folder.name)
    elif isinstance(source, Sampler):
        found = _of_sampler(source, averaged, run)
    elif not isinstance(source, nn.Module):
        raise TypeError(
            f"export: {type(source).__name__} is neither a run (mg.load_run) nor a generator"
        )
    elif latent_size is None:
        raise TypeError("export: a net needs latent_size=..., the length of its latents")
    else:
        check_numbers(source)
        latents = np.zeros((2, latent_size), np.float32)
        shape = record(source, [latents], Op.registry).output.shape[1:]
        return Source(source, latent_size, "normal", shape)
    check_numbers(found.net)
    return found


def _of_sampler(sampler: Sampler, averaged: bool, run: str) -> Source:
    """Return the generator of a run, or its average."""
    players = sampler.players
    is_averaged = averaged and players.average is not None
    return Source(
        net=players.sampler if averaged else players.generator,
        latent_size=sampler.latent_size,
        latent=players.config.latent,
        shape=sampler.shape,
        scale=sampler.scale,
        classes=sampler.classes if sampler.is_conditional else 0,
        class_names=sampler.class_names,
        run=run,
        step=sampler.step,
        steps=players.config.steps,
        is_averaged=is_averaged,
    )


def check_numbers(net: nn.Module) -> None:
    """Raise ExportError unless all floats of a net are float32 and finite."""
    tensors = dict(net.tensors())
    if not tensors:
        raise ExportError(f"the generator, a {type(net).__name__}, has no parameters")
    for name, x in tensors.items():
        if x.dtype.kind == "f" and x.dtype != np.float32:
            raise ExportError(
                f"{name} is {x.dtype}; exported generators are float32: net.to('float32')"
            )
        if not np.isfinite(x.numpy()).all():
            raise ExportError(f"{name} holds NaN or infinite numbers; such a net is not exported")


def metadata(source: Source) -> dict[str, Any]:
    """Return what a file says about its generator, by name."""
    from .. import __version__

    known = {
        "minigan_version": __version__,
        "run": source.run or None,
        "step": source.step,
        "generator": "average" if source.is_averaged else "as trained",
        "latent": source.latent,
        "latent_size": source.latent_size,
        "sample_shape": list(source.shape),
        "value_range": source.value_range,
        "classes": source.classes or None,
        "class_names": None if source.class_names is None else list(source.class_names),
    }
    if not source.classes:
        known["class_names"] = None
    return {name: value for name, value in known.items() if value is not None}
