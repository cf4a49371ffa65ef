"""Start a new run from the weights of another: `minigan train --init-from RUN`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..data import Dataset
from ..optim import ExponentialMovingAverage
from ..utils.names import shorten
from ..utils.notices import Notice
from . import checkpoint
from .checkpoint import CheckpointError
from .config import Config
from .options import options
from .run_folder import CHECKPOINT, RunError, read_config
from .state import check_state, describe_changes, merge_config

# The options that set how the nets are built, and the distribution of the latents, which changes
# no shape, but for which the generator was trained.
NETS = tuple(name for name, option in options(Config).items() if option.group == "nets")
MAY_CHANGE = ("latent",)


@dataclass(frozen=True)
class InitialWeights:
    """The weights of a run's checkpoint, with which nets of the same shapes can start.

    Args:
        folder: the run's folder.
        config: its options.
        tensors, info: the state that its checkpoint holds.
    """

    folder: Path
    config: Config
    tensors: Mapping[str, np.ndarray]
    info: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> InitialWeights:
        """Return the weights of a run.

        Raises:
            RunError, CheckpointError: there is no run or checkpoint, or it cannot be read.
        """
        config = read_config(folder)
        path = folder / CHECKPOINT
        tensors, info = checkpoint.load(path)
        try:
            config = merge_config(config, check_state(tensors, info), has_digest=True)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} does not fit its run: {error}") from None
        return cls(folder, config, tensors, info)

    def check(self, config: Config, data: Dataset, digest: Mapping[str, Any]) -> None:
        """Check that nets of this config, for these data, have the shapes of the weights.

        A Notice says where samples that this run holds out have trained the weights.

        Args:
            config: the options of the new run.
            data: all its data.
            digest: that of the data.

        Raises:
            RunError: the shapes differ; the message names what differs.
        """
        before, now = self.config.as_dict(), config.as_dict()
        pairs = {name: (before[name], now[name]) for name in NETS if name not in MAY_CHANGE}
        saved = self.info.get("data")  # States of older versions have none.
        if saved is not None:
            pairs["sample shape"] = (tuple(saved["shape"]), data.sample_shape)
        if saved is not None and config.needs_labels:
            pairs["classes"] = (saved["classes"], data.classes)
        different = [f"{k} = {b!r} (here {n!r})" for k, (b, n) in pairs.items() if b != n]
        if different:
            raise RunError(
                f"init_from {self.folder}: its nets have {', '.join(different)}; a new run starts"
                " from nets of the same shapes only"
            )
        names = [None if x is None else list(x) for x in ((saved or {}).get("class_names"),
                                                          data.class_names)]  # fmt: skip
        if "classes" in pairs and names[0] != names[1]:
            texts = ["numbered" if x is None else shorten(x) for x in names]
            self._note(f"its classes are {texts[0]}, those of this run {texts[1]}")
        splits = [(x.seed, x.holdout) for x in (self.config, config)]
        if saved is None or not config.holdout or splits[0] == splits[1]:
            return
        if not describe_changes(saved, digest):
            self._note(
                f"it held out other samples of the same data (seed {splits[0][0]}, holdout"
                f" {splits[0][1]}), so its weights were trained on some that this run holds out:"
                " measures on them look better than they are"
            )

    def load_nets(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """Copy the weights into new nets, in place."""
        for name, net in (("generator", generator), ("discriminator", discriminator)):
            self._load(name, net)

    def load_average(self, average: ExponentialMovingAverage | None) -> None:
        """Copy the average of the generator, if both runs have one.

        A new average starts at the generator's weights, if the other run had none.
        """
        has_average = any(name.startswith("average.") for name in self.tensors)
        if average is not None and has_average:
            self._load("average", average)
        elif has_average:
            self._note("its average of G is not used, as this run has ema = 0")

    def _load(self, part: str, owner: nn.Module | ExponentialMovingAverage) -> None:
        prefix = f"{part}."
        state = {k: x for k, x in self.tensors.items() if k.startswith(prefix)}
        try:
            owner.load_state_dict({k.removeprefix(prefix): x for k, x in state.items()})
        except ValueError as error:
            raise RunError(f"init_from {self.folder}: {part} does not fit: {error}") from None

    def _note(self, text: str) -> None:
        warnings.warn(f"init_from {self.folder}: {text}", Notice, stacklevel=3)
