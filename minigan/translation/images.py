"""Load the images of a training: single ones, pairs, or two kinds without pairs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data import NAMES, DataError, Dataset, DataWarning, load
from ..data.folder import load_folder_and_paths
from ..data.limits import check_memory
from ..data.own import OWN
from ..data.resize import resize_dataset
from ..data.scan import examples
from ..data.settings import FITS, OPTIONS, parse_settings
from .config import TranslationConfig
from .tasks import TASKS, TRANSFORMS


@dataclass(frozen=True)
class Images:
    """The images of a training, training and held-out ones.

    Attributes:
        data, held_out: the images that inputs are made of; of pairs the input and the truth as the
            channels of one image, in this order; of unpaired images those to translate.
        other, other_held_out: of unpaired images those of the other kind; else None.
        truth: of unpaired images the function that gives the truth of a held-out one; None where it
            is not known.
        given_channels: of pairs the channels of an input; 0 where inputs are made of the images.
        digest: what identifies all of them.
    """

    data: Dataset
    held_out: Dataset
    other: Dataset | None
    other_held_out: Dataset | None
    truth: Callable[[np.ndarray], np.ndarray] | None
    given_channels: int
    digest: dict[str, Any]

    @property
    def channels(self) -> int:
        """The channels of an image that G makes."""
        return self.data.sample_shape[0] - self.given_channels

    @property
    def size(self) -> tuple[int, int]:
        """The height and the width of an image."""
        return self.data.sample_shape[1], self.data.sample_shape[2]

    def input_channels(self, task: str) -> int:
        """Return the channels of an input of G."""
        return self.given_channels or TASKS[task].input_channels(self.channels)

    def split(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs and the truths of pairs (n, C, H, W)."""
        return images[:, : self.given_channels], images[:, self.given_channels :]


def load_images(
    config: TranslationConfig,
    data: Dataset | None = None,
    target: Dataset | None = None,
    progress: bool = False,
) -> Images:
    """Return the images of a config, or of data sets that a program hands over.

    Raises:
        DataError: the images do not fit together, or the task; the message names both sides.
    """
    if config.task == "pairs":
        return _pairs(config, data, target, progress)
    first = _load(config, config.data, progress) if data is None else _sampled(config, data)
    _check_images(first)
    if config.is_unpaired:
        return _unpaired(config, first, target, progress)
    train, held_out = first.holdout(config.holdout, config.seed)
    return Images(train, held_out, None, None, None, 0, first.digest())


def _load(
    config: TranslationConfig, name: str, progress: bool, is_pair: bool = False, **changes: Any
) -> Dataset:
    """Return a data set by its name or path, with the options of the config but for `changes`.

    Samples of pairs are drawn later, as two sets of different lengths would be cut to one length.
    """
    options: dict[str, Any] = {option: getattr(config, option) for option in OPTIONS} | changes
    return load(
        name,
        split=config.split,
        data_dir=config.data_dir if name in NAMES else None,
        samples=None if is_pair else config.samples,
        seed=config.seed,
        progress=progress,
        **options,
    )


def _sampled(config: TranslationConfig, data: Dataset) -> Dataset:
    """Return `config.samples` of a data set, drawn by the seed; all of it for None."""
    return data if config.samples is None else data.sample(config.samples, config.seed)


def _check_images(data: Dataset) -> None:
    if not data.is_image:
        raise DataError(f"{data.name}: has points; images from images need images")


# ----------------------------------------------------------------------------------------- pairs
def _pairs(
    config: TranslationConfig, data: Dataset | None, target: Dataset | None, progress: bool
) -> Images:
    names = [config.data, *([config.target] if config.target else [])]
    paths = [Path(name).expanduser() for name in names]
    if data is not None:
        inputs, truths = (data, target) if target is not None else _halves(config, data)
    elif known := [name for name in names if name in NAMES]:
        raise DataError(f"pairs: {known[0]} has no pairs; folders or .npz files of your own do")
    elif len(names) == 1:
        # Each half is resized afterwards: a crop of the whole file would cut the two unequally.
        whole = _load(config, config.data, progress, True, size=None, fit=FITS[0])
        inputs, truths = _halves(config, whole)
    elif all(path.is_dir() for path in paths):
        inputs, truths = _matching_folders(config, paths, progress)
    else:
        inputs, truths = (_load(config, name, progress, True) for name in names)
    for part in (inputs, truths):
        _check_images(part)
    _check_sizes(inputs, truths)
    if len(inputs) != len(truths):
        raise DataError(
            f"pairs: {len(inputs)} images of {inputs.name}, {len(truths)} of {truths.name}; as many"
            " are needed"
        )
    inputs, truths = (_sampled(config, part) for part in (inputs, truths))
    if config.swap:
        inputs, truths = truths, inputs
    both = _stack(config, inputs, truths)
    train, held_out = both.holdout(config.holdout, config.seed)
    return Images(train, held_out, None, None, None, inputs.sample_shape[0], both.digest())


def _halves(config: TranslationConfig, data: Dataset) -> tuple[Dataset, Dataset]:
    """Return the left and the right halves of images that hold a pair each, resized."""
    _check_images(data)
    width = data.sample_shape[2]
    if width % 2:
        raise DataError(
            f"pairs: images of {data.name} are {width} pixels wide; without a target each holds its"
            " pair side by side, so an even width is needed"
        )
    images = data.stored if data.index is None else data.stored[data.index]
    parts = (images[..., : width // 2], images[..., width // 2 :])
    first, second = (
        replace(data, name=f"{data.name} ({side})", stored=part, index=None, notes=())
        for side, part in zip(("left", "right"), parts, strict=True)
    )
    settings = parse_settings(**{name: getattr(config, name) for name in OPTIONS})
    return resize_dataset(first, settings), resize_dataset(second, settings)


def _matching_folders(
    config: TranslationConfig, folders: Sequence[Path], progress: bool
) -> tuple[Dataset, Dataset]:
    """Return the images of two folders with the same file names, in the same order."""
    settings = parse_settings(**{name: getattr(config, name) for name in OPTIONS})
    found = [load_folder_and_paths(x, config.split, settings, progress) for x in folders]
    for data, _ in found:
        for note in data.notes:
            warnings.warn(note, DataWarning, stacklevel=2)
    names = [[str(path.with_suffix("")) for path in paths] for _, paths in found]
    for i, other in ((0, 1), (1, 0)):
        alone = sorted(set(names[i]) - set(names[other]))
        if alone:
            raise DataError(
                f"pairs: {len(alone)} of {len(names[i])} images of {folders[i]} have no partner of"
                f" the same name in {folders[other]} ({examples(alone)})"
            )
    for folder, own in zip(folders, names, strict=True):
        twice = sorted({name for name in own if own.count(name) > 1})
        if twice:
            raise DataError(
                f"pairs: {folder} has two images of one name, which differ in their endings alone"
                f" ({examples(twice)})"
            )
    orders = [sorted(range(len(x)), key=x.__getitem__) for x in names]
    first, second = (data.subset(order) for (data, _), order in zip(found, orders, strict=True))
    return first, second


def _check_sizes(first: Dataset, second: Dataset) -> None:
    if first.sample_shape[1:] != second.sample_shape[1:]:
        sizes = [f"{w}x{h}" for h, w in (first.sample_shape[1:], second.sample_shape[1:])]
        raise DataError(
            f"images of {first.name} have {sizes[0]} pixels, those of {second.name} {sizes[1]};"
            " --size makes them equal"
        )


def _stack(config: TranslationConfig, inputs: Dataset, truths: Dataset) -> Dataset:
    """Return one data set of pairs: the channels of the input, then those of the truth."""
    is_bytes = all(x.stored.dtype == np.uint8 for x in (inputs, truths))
    parts: Sequence[np.ndarray] = (
        [x.stored if x.index is None else x.stored[x.index] for x in (inputs, truths)]
        if is_bytes
        else [x.values for x in (inputs, truths)]
    )
    shape = (len(inputs), sum(x.shape[1] for x in parts), *parts[0].shape[2:])
    check_memory(inputs.name, shape, config.max_gb, 1 if is_bytes else 4)
    labelled = truths if truths.labels is not None else inputs
    return replace(
        labelled, name=inputs.name, stored=np.concatenate(parts, axis=1), index=None, notes=()
    )


# -------------------------------------------------------------------------------------- unpaired
def _unpaired(
    config: TranslationConfig, first: Dataset, target: Dataset | None, progress: bool
) -> Images:
    name = str(config.target)
    if target is None and name in TRANSFORMS:
        return _transformed(config, first)
    second = _load(config, name, progress) if target is None else _sampled(config, target)
    _check_images(second)
    if first.sample_shape[0] != second.sample_shape[0]:
        raise DataError(
            f"images of {first.name} have {first.sample_shape[0]} channels, those of {second.name}"
            f" {second.sample_shape[0]}; --grey makes both grey"
        )
    _check_sizes(first, second)
    if config.swap:
        first, second = second, first
    digest = {"data": first.digest(), "target": second.digest()}
    parts = [x.holdout(config.holdout, config.seed) for x in (first, second)]
    (train, held_out), (other, other_held_out) = parts
    return Images(train, held_out, other, other_held_out, None, 0, digest)


def _transformed(config: TranslationConfig, data: Dataset) -> Images:
    """Return half of the images and the other half changed in a known way."""
    change = TRANSFORMS[str(config.target)]
    train, held_out = data.holdout(config.holdout, config.seed)
    half = len(train) // 2
    order = np.random.Generator(np.random.Philox(config.seed)).permutation(len(train))
    first, second = train.subset(np.sort(order[:half])), train.subset(np.sort(order[half:]))
    # Held-out images of the other kind are others too, so that a distance to them has a floor.
    middle = len(held_out) // 2
    rows = np.arange(len(held_out))
    own, others = held_out.subset(rows[:middle]), held_out.subset(rows[middle:])

    def plain(part: Dataset) -> Dataset:
        return part

    def changed(part: Dataset) -> Dataset:
        return replace(part, stored=change(part.values), index=None, name=str(config.target))

    there, back = (changed, plain) if config.swap else (plain, changed)
    truth = _inverse_of(change) if config.swap else change
    return Images(there(first), there(own), back(second), back(others), truth, 0, data.digest())


def _inverse_of(
    change: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the function that undoes a change; None where it loses what is cut off."""
    return change if change is TRANSFORMS["inverted"] else None


def absolute(name: str) -> str:
    """Return the path of data made absolute; a name stays as it is."""
    if name in (*NAMES, *OWN, *TRANSFORMS):
        return name
    return str(Path(name).expanduser().absolute())
