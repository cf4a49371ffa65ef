"""Choose a preset by the data: `minigan train --preset auto`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data import DataWarning
from ..data.survey import Survey, survey
from .convolutional import upsampling_plan
from .presets import PRESETS

AUTO = "auto"  # its name among the presets
# The options of `Config` by which data are loaded; `load` has them by the same names.
DATA_OPTIONS = (
    *("split", "data_dir", "samples", "seed", "sample_shape", "value_range", "classes"),
    *("remap_labels", "max_gb", "size", "fit", "grey", "background", "skip_broken"),
)
MANY = 5000  # images; with so many, D does not memorize them in the steps of dcgan
SMALL, LARGE = 32, 64  # the sides of the presets for photos
PER_CLASS, MAX_CLASSES = 20, 100  # images of the smallest class, classes: when labels are used


@dataclass(frozen=True)
class Choice:
    """A chosen preset, the options that are changed, and a description of the data."""

    preset: str
    changes: dict[str, Any]
    seen: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of the run; the data are not among them."""
        options = {**PRESETS[self.preset].options, **self.changes}
        return {name: value for name, value in options.items() if name != "data"}

    def __str__(self) -> str:
        flags = [f"--{name.replace('_', '-')} {value}" for name, value in self.changes.items()]
        words = " ".join([f"--preset {self.preset}", *flags])
        return f"--preset auto: {self.seen}, so {words}"


def choose_by_data(given: Mapping[str, Any]) -> Choice:
    """Return the choice for the data that options of `Config` name; see `choose_for`.

    Raises:
        ValueError, DataError, FileNotFoundError: the data cannot be used.
    """
    options = {name: given[name] for name in DATA_OPTIONS if name in given}
    with warnings.catch_warnings():  # The Trainer loads the data and shows these notes.
        warnings.simplefilter("ignore", DataWarning)
        return choose_for(survey(given.get("data", "glyphs"), **options), given)


def choose_for(data: Survey, given: Mapping[str, Any]) -> Choice:
    """Return the choice for data.

    | data | preset |
    | --- | --- |
    | points | r3gan |
    | 5,000 or more images of one size, up to 32 x 32 | dcgan |
    | fewer images of one size, up to 64 x 64 | photos-32 or photos-64, at their own size |
    | others | photos-64; photos-32 where the median of the smaller sides is below 64 |

    Images have the size of the preset where convolutional models do not take their own. With labels
    of 2 to 100 classes, 20 images of each at least, the condition is projection. The batch is
    halved until the training data have that many samples.

    Args:
        data: what `survey` returned, with the options that were given.
        given: the options that were given. They win, so none of them is in the choice.
    """
    preset, changes = _for_images(data) if data.sizes else ("r3gan", {})
    if data.sizes and _has_useful_labels(data):
        changes["condition"] = "projection"
    batch = PRESETS[preset].options.get("batch", 64)
    kept = data.samples - round(data.samples * given.get("holdout", 0.1))
    if batch > kept > 0:
        changes["batch"] = 2 ** (kept.bit_length() - 1)
    changes = {name: value for name, value in changes.items() if name not in given}
    return Choice(preset, changes, _describe(data))


def _for_images(data: Survey) -> tuple[str, dict[str, Any]]:
    """Return the preset for images, and the options beyond it."""
    width, height = data.sizes[-1]
    if len(data.sizes) == 1 and max(width, height) <= LARGE and _is_taken(width, height):
        is_small = max(width, height) <= SMALL
        if is_small and data.samples >= MANY:
            return "dcgan", {}
        return (f"photos-{SMALL if is_small else LARGE}", {"size": f"{width}x{height}"})
    return f"photos-{LARGE if data.typical >= LARGE else SMALL}", {}


def _is_taken(width: int, height: int) -> bool:
    """Return whether convolutional models take images of this size."""
    try:
        upsampling_plan((1, height, width))
    except ValueError:
        return False
    return True


def _has_useful_labels(data: Survey) -> bool:
    return 2 <= len(data.per_class) <= MAX_CLASSES and min(data.per_class) >= PER_CLASS


def _describe(data: Survey) -> str:
    """Return what was seen, such as "300 images of 72x90 to 160x121 pixels in 3 classes"."""
    if not data.sizes:
        return f"{data.samples:,} points"
    sizes = [f"{width}x{height}" for width, height in data.sizes]
    text = f"{data.samples:,} images of {sizes[0]}"
    text += f" to {sizes[-1]} pixels" if len(sizes) > 1 else " pixels"
    classes = len(data.per_class)
    if not classes:
        return text
    text += f" in {classes} class{'es' * (classes > 1)}"
    if classes > 1 and not _has_useful_labels(data):
        text += f" (which takes 2 to {MAX_CLASSES}, of {PER_CLASS} images or more each, to be used)"
    return text
