"""A saved run of images from images: load it, and apply it to pictures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..data import DataError, DataWarning
from ..data.dataset import from_bytes
from ..engine import random
from ..engine.device import get_device, use_device
from ..metrics.features import LARGEST_PIXEL
from ..training import checkpoint
from ..training.own_code import load_code_of_run
from ..training.resume import checkpoint_errors
from ..training.run_folder import BEST, CHECKPOINT, RunError, read_options
from ..training.snapshots import PARTS, snapshot_path, snapshot_steps
from ..training.state import check_count, merge_config
from .config import FILLED, TranslationConfig
from .players import TranslationPlayers, build_players
from .tasks import TASKS, repeat_pixels, with_hole
from .trainer import MAX_CHANNELS, apply_net

# The options in which a run may differ from its checkpoint; see `training/state.py`.
MAY_DIFFER = {"steps", "data", "target", "data_dir", "max_gb", "device"} | {
    *("log_every", "sample_every", "evaluate_every", "checkpoint_every", "keep")
}
TILE = 512  # the side of the parts of a large image; a multiple of all 2^depth
MAX_WHOLE = 2**22  # pixels of an image that cannot be taken in parts


def is_translation(folder: Path) -> bool:
    """Return whether a run's folder is one of images from images; RunError if it is no run."""
    return "task" in read_options(folder)


def read_translation_config(folder: Path) -> TranslationConfig:
    """Return the config of a run of images from images.

    Raises:
        RunError: the folder holds none, or one that cannot be read, or a run of another kind.
    """
    values = read_options(folder)
    if "task" not in values:
        raise RunError(
            f"{folder} is a run that makes images from noise; minigan sample draws from it, and"
            " minigan translate takes a run of minigan train --task"
        )
    try:
        return TranslationConfig.from_dict(values)
    except (TypeError, ValueError) as error:
        raise RunError(f"{folder / 'config.json'} cannot be read: {error}") from None


@dataclass(frozen=True, eq=False, repr=False)
class SavedTranslation:
    """A run of images from images in the state of its checkpoint or of a snapshot.

        run = load_translation("runs/003-mnist-inpaint")
        repaired = run.translate(images, masks)

    Attributes:
        folder: the absolute path of the run.
        config: its options.
        step: of the weights.
        channels: of its inputs and of the images that it makes.
        players: its nets.
    """

    folder: Path
    config: TranslationConfig
    step: int
    channels: tuple[int, int]
    players: TranslationPlayers

    @property
    def generator(self) -> nn.Module:
        """The net in eval mode, its moving average if the option `ema` is set."""
        return self.players.sampler

    @property
    def image_channels(self) -> int:
        """The channels of the images that `translate` takes."""
        return self.channels[0] - TASKS[self.config.task].added

    def translate(self, images: Any, masks: Any = None) -> np.ndarray:
        """Return what the net makes of images of any size, (n, C, H, W) in [-1, 1].

        The images are those that the task is about: with holes for inpaint, small ones for
        super-resolution (the result is `factor` times as large), noisy ones for denoise, outlines
        (1 where there is one, else -1) for outline. A side that the net does not take is padded
        by reflection, and the result is cropped.

        Args:
            images: (n, C, H, W).
            masks: of inpaint, (n, 1, H, W) or (1, 1, H, W) of 0 and 1, which is in the hole.

        Raises:
            ValueError: the shapes do not fit, or there are no masks for inpaint, or numbers other
                than 0 and 1 in them.
        """
        x = _as_images(images)
        if x.ndim != 4 or x.shape[1] != self.image_channels or not x.size:
            raise ValueError(
                f"translate: images of shape {x.shape}; (n, {self.image_channels}, height, width)"
                " is needed"
            )
        task = self.config.task
        if task == "outline":
            check_outline("translate", x)
        if task == "inpaint":
            x = with_hole(x, check_masks(masks, x.shape))
        elif masks is not None:
            raise ValueError(f"translate: masks are for task = 'inpaint', not for {task!r}")
        if task == "super-resolution":
            x = repeat_pixels(x, self.config.factor)
        height, width = x.shape[2:]
        multiple = 2**self.config.depth
        pads = [(0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple)]
        padded = np.pad(x, pads, mode="symmetric")
        with use_device(self.players.device):
            made = self._apply(padded)
        return made[:, :, :height, :width]

    def _apply(self, x: np.ndarray) -> np.ndarray:
        """Return what the net makes of inputs, of large ones part by part, which changes no number.

        With batch norm or none a pixel depends on those around it alone, at most `reach` of them.
        """
        height, width = x.shape[2:]
        if max(height, width) <= TILE:
            return apply_net(self.generator, x)
        if self.config.norm == "instance":
            if height * width > MAX_WHOLE:
                raise ValueError(
                    f"translate: an image of {width}x{height} pixels; with instance norm, which"
                    f" needs the whole image at once, at most {MAX_WHOLE:,} are accepted"
                )
            return apply_net(self.generator, x)
        reach = _reach(self.config)
        made = np.empty((len(x), self.channels[1], height, width), np.float32)
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                above, before = max(0, top - reach), max(0, left - reach)
                part = x[:, :, above : top + TILE + reach, before : left + TILE + reach]
                result = apply_net(self.generator, part)[:, :, top - above :, left - before :]
                made[:, :, top : top + TILE, left : left + TILE] = result[:, :, :TILE, :TILE]
        return made

    def __repr__(self) -> str:
        return f"SavedTranslation({str(self.folder)!r}: {self.config.task}, step {self.step})"


def _as_images(images: Any) -> np.ndarray:
    """Return images as float32 in [-1, 1]: bytes are scaled, other numbers are checked.

    Raises:
        ValueError: they are not numbers, not finite, or far outside of [-1, 1].
    """
    values = np.asarray(images.numpy() if hasattr(images, "numpy") else images)
    if values.dtype == np.uint8:
        return from_bytes(values)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"translate: images of type {values.dtype}; numbers are needed")
    x = values.astype(np.float32)
    if not np.isfinite(x).all():
        raise ValueError("translate: the images hold NaN or infinity")
    low, high = float(x.min(initial=0)), float(x.max(initial=0))
    if max(-low, high) > LARGEST_PIXEL:
        raise ValueError(
            f"translate: images in [{low:g}, {high:g}]; floats in [-1, 1], or uint8, are needed"
        )
    if low == 0 < high <= 1:
        text = "translate: all values lie in [0, 1], where black is -1: 0 is taken as grey"
        warnings.warn(text, DataWarning, stacklevel=3)
    return x


def check_outline(name: str, image: np.ndarray) -> None:
    """Raise DataError unless images in [-1, 1] are white lines on black, without grey."""
    if not np.isin(image, (-1, 1)).all():
        raise DataError(
            f"{name}: not an outline: white lines on black (1 and -1), without grey, are needed"
        )
    if (image > 0).mean() > 0.5:
        raise DataError(
            f"{name}: not an outline: more than half of it is white; white lines on black are"
            " needed"
        )


def _reach(config: TranslationConfig) -> int:
    """Return the radius of the receptive field in pixels, rounded up to a multiple of 2^depth.

    A convolution of 3 x 3 reaches 1 pixel of its own size, one of 4 x 4 and a transposed one 2.
    """
    halvings = sum(2 * 2**i for i in range(config.depth))
    reach = 2 + 2 * halvings + 2 * config.blocks * 2**config.depth
    multiple = 2**config.depth
    return -(-reach // multiple) * multiple


def check_masks(masks: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return masks as float32 (n, 1, H, W); ValueError unless they fit images of a shape."""
    if masks is None:
        raise ValueError("inpaint needs masks, which say where the hole of each image is")
    mask = np.asarray(masks, np.float32)
    n, _, height, width = shape
    if mask.shape not in ((n, 1, height, width), (1, 1, height, width)):
        raise ValueError(
            f"masks of shape {mask.shape}; ({n}, 1, {height}, {width}) or (1, 1, {height},"
            f" {width}) is needed for images of shape {shape}"
        )
    others = mask[(mask != 0) & (mask != 1)]
    if others.size:
        raise ValueError(f"masks hold {others[0]:g}; 1 in the hole and 0 elsewhere is needed")
    if not mask.any(axis=(1, 2, 3)).all():
        raise ValueError("a mask is 0 everywhere: there is no hole to fill")
    return np.broadcast_to(mask, (n, 1, height, width))


# --------------------------------------------------------------------------------------- loading
def load_translation(
    folder: str | os.PathLike[str], *, step: int | str | None = None, device: str | None = None
) -> SavedTranslation:
    """Return a run of `minigan train --task` in the state of its checkpoint; no data are needed.

    Args:
        folder: the run's folder.
        step: of a snapshot, or "best" for the step with the best measure; None: the last.
        device: of the nets; None: the one of the training.

    Raises:
        RunError: the folder holds no such run or step.
        CheckpointError: the file cannot be read, or belongs to another run.
    """
    folder = Path(folder).expanduser().absolute()
    load_code_of_run(folder, None, ("loss",))
    config = read_translation_config(folder)
    path = _path_of_step(folder, step)
    tensors, info = checkpoint.load(path)
    with checkpoint_errors(path):
        saved = {name: x for name, x in config.as_dict().items() if name in MAY_DIFFER}
        config = merge_with(config, {**saved, **info["config"]})
        channels = _check_channels(info["data"]["channels"])
        players = _build(config, channels, device)
        parts = {name: x for name, x in players.parts().items() if name in PARTS}
        for name, owner in parts.items():
            state = {k: x for k, x in tensors.items() if k.startswith(f"{name}.")}
            owner.load_state_dict({k.removeprefix(f"{name}."): x for k, x in state.items()})
        at = check_count("step", info["step"])
    for net in (players.generators, players.discriminators):
        net.eval()
    return SavedTranslation(folder, config, at, channels, players)


def _path_of_step(folder: Path, step: int | str | None) -> Path:
    """Return the file that holds a step of a run."""
    if step is None:
        return folder / CHECKPOINT
    if step == "best":
        if not (folder / BEST).exists():
            raise RunError(f"{folder} keeps no best step: nothing was measured yet")
        return folder / BEST
    if isinstance(step, str):
        raise ValueError(f"step = {step!r}: a number, or 'best', is accepted")
    path = snapshot_path(folder, step)
    if not path.exists():
        steps = ", ".join(map(str, snapshot_steps(folder))) or "none"
        raise RunError(f"{folder} has no snapshot of step {step}; it has {steps}")
    return path


def merge_with(config: TranslationConfig, saved: Mapping[str, Any]) -> TranslationConfig:
    """Return the config of a run, compared with that of its checkpoint."""
    return merge_config(config, TranslationConfig.from_dict(dict(saved)), True, MAY_DIFFER, FILLED)


def _check_channels(channels: Any) -> tuple[int, int]:
    first, second = (check_count("channels", n) for n in channels)
    if not (0 < first <= MAX_CHANNELS + 1 and 0 < second <= MAX_CHANNELS):
        raise ValueError(f"channels = {channels}: 1 to {MAX_CHANNELS} are accepted")
    return first, second


def _build(
    config: TranslationConfig, channels: tuple[int, int], device: str | None
) -> TranslationPlayers:
    config = config.replace(device=device or config.device)
    with random.use_generator(random.Generator()), use_device(get_device(config.device)):
        return build_players(config, *channels)
