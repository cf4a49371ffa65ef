"""Features of samples from minigan's own classifier, trained once for each data set."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..data import Dataset
from ..engine.device import use_device
from ..engine.tensor import Tensor, no_grad, tensor
from ..kernels.runtime.files import cache_root
from ..ops import exp, log_softmax
from ..utils.locks import file_lock
from ..utils.notices import Notice
from . import classifier
from .classifier import BATCH, build_classifier, classify, train_classifier
from .numbers import real_numbers

HELD_OUT = 0.1  # the share of the data that the accuracy is measured on, if none are passed
STEPS = 600
SCALE_SAMPLES = 2048  # training samples of which the scale of the features is measured
LARGEST_PIXEL = 10  # beyond it images are in no way in [-1, 1]; generated ones may be a little
IMAGE_AXES = 3


class _Rows:
    """The samples of a data set as an array, of which the rows that are read become float32."""

    def __init__(self, data: Dataset) -> None:
        self.data, self.shape = data, (len(data), *data.sample_shape)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, indices: Any) -> np.ndarray:
        return self.data.rows(indices)


@dataclass(frozen=True)
class FeatureNet:
    """A classifier of real data whose last hidden layer describes samples.

    It always runs on the CPU, so that a measure does not depend on the device of the run.

    Attributes:
        net: the classifier, from samples to logits, in eval mode.
        shape: of a sample.
        accuracy: of it on held-out real samples.
        scale: the root mean square of the input of the last layer, for training samples.
        key: 8 hexadecimal digits of the data and of how it was trained. Distances of features
            compare only where the key is the same.
    """

    net: nn.Sequential
    shape: tuple[int, ...]
    accuracy: float
    scale: float
    key: str

    def features(self, values: Any) -> np.ndarray:
        """Return the input of the last layer / scale, (n, 128) float64, for samples or a Dataset.

        So distances of them do not depend on the sizes of the net's weights.

        Raises:
            TypeError: the samples are not real numbers, or are images of integers.
            ValueError: the samples do not have the shape of the data.

        Warns:
            Notice: images reach beyond LARGEST_PIXEL, as those from 0 to 255 do.
        """
        return self._run(nn.Sequential(*list(self.net)[:-1]), values) / self.scale

    def probabilities(self, values: Any) -> np.ndarray:
        """Return the probability of each class, (n, classes) float64, for samples or a Dataset.

        Raises, warns: as `features`.
        """
        return self._run(lambda x: exp(log_softmax(self.net(x))), values)

    def _run(self, function: Callable[[Tensor], Tensor], values: Any) -> np.ndarray:
        rows = _Rows(values) if isinstance(values, Dataset) else self._array(values)
        if rows.shape[1:] != self.shape or not rows.shape:
            needed = ", ".join(map(str, self.shape))
            raise ValueError(f"FeatureNet: samples of shape {rows.shape}; (n, {needed}) is needed")
        with no_grad(), use_device("cpu"):
            parts = [
                function(tensor(rows[i : i + BATCH], dtype="float32")).numpy()
                for i in range(0, max(1, len(rows)), BATCH)
            ]
        return np.concatenate(parts).astype(np.float64)

    def _array(self, values: Any) -> np.ndarray:
        """Return samples as an array of floats, images in [-1, 1] as the classifier's data."""
        array = real_numbers("FeatureNet", values)
        if len(self.shape) == IMAGE_AXES and array.size:
            given = np.asarray(values).dtype
            if given.kind != "f":
                raise TypeError(
                    f"FeatureNet: images of type {given}; floats in [-1, 1], or a Dataset, are"
                    " needed"
                )
            low, high = float(array.min()), float(array.max())
            if max(-low, high) > LARGEST_PIXEL:
                text = (
                    f"FeatureNet: images in [{low:.4g}, {high:.4g}]; the classifier knows images in"
                    " [-1, 1]"
                )
                warnings.warn(text, Notice, stacklevel=4)
        return array


def feature_net(
    data: Dataset, held_out: Dataset | None = None, steps: int = STEPS, progress: bool = False
) -> FeatureNet:
    """Return the classifier of a data set, from the cache or trained by `train_classifier`.

        net = feature_net(mg.data.load("glyphs"))
        frechet_distance(net.features(generated), net.features(held_out))

    It is kept in `metrics` in the cache folder, in a file that is named by the digest of the data
    and of how it is trained. A damaged file is made again, with a notice. One process at a time
    trains; another one that waited for it uses its file.

    Args:
        data: real samples with labels. held_out: others, on which the accuracy is measured; None:
            a tenth of the data, which is then not trained on.
        steps: of training. progress: show a progress bar.

    Raises:
        ValueError: the data have no labels, or fewer than two classes.

    Warns:
        Notice: a file of the cache is damaged, or cannot be written.
    """
    if held_out is None:
        data, held_out = data.holdout(HELD_OUT, 0)
    for part in (data, held_out):
        _check_labels(part)
    recipe = [data.digest(), held_out.digest(), data.classes, steps]
    digest = hashlib.sha256(json.dumps(recipe).encode())
    for module in (classifier.__file__, __file__):
        digest.update(Path(str(module)).read_bytes())
    key = digest.hexdigest()
    with ExitStack() as stack:
        try:
            path = cache_root() / "metrics" / f"{key[:20]}.safetensors"
            if found := _load(path, data, key):
                return found
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(path.with_suffix(".lock"), wait=True))
        except (OSError, RuntimeError) as error:  # a cache that cannot be written, or no home
            _say(f"the classifier is not kept: {error}")
            return _train(data, held_out, steps, key, progress)
        if found := _load(path, data, key, say=True):
            return found
        net = _train(data, held_out, steps, key, progress)
        _save(path, net)
        return net


def _say(text: str) -> None:
    warnings.warn(f"feature_net: {text}", Notice, stacklevel=3)


def _check_labels(data: Dataset) -> None:
    if data.labels is None or (data.classes or 0) < 2:
        have = "no labels" if data.labels is None else "labels of one class"
        raise ValueError(
            f"feature_net: {data.name} has {have}; the classifier, and so label agreement, the"
            " inception score, and distances of features, need labels of two classes or more"
        )


def _train(data: Dataset, held_out: Dataset, steps: int, key: str, progress: bool) -> FeatureNet:
    assert data.labels is not None
    with use_device("cpu"):
        net = train_classifier(
            _Rows(data), data.labels, data.classes or 0, steps, progress=progress
        )
        correct = classify(net, held_out.values) == held_out.labels
    trained = FeatureNet(net, data.sample_shape, float(correct.mean()), 1.0, key[:8])
    scale = math.sqrt((trained.features(data.rows(slice(SCALE_SAMPLES))) ** 2).mean())
    return replace(trained, scale=scale or 1.0)


def _load(path: Path, data: Dataset, key: str, say: bool = False) -> FeatureNet | None:
    """Return the classifier in a file; None if there is none, or it is damaged, said if `say`."""
    from ..training.checkpoint import CheckpointError, load

    if not path.exists():
        return None
    try:
        tensors, info = load(path)
        with use_device("cpu"):
            net = build_classifier(data.sample_shape, data.classes or 0)
            net.load_state_dict(tensors)
        accuracy, scale = float(info["accuracy"]), float(info["scale"])
        return FeatureNet(net.eval(), data.sample_shape, accuracy, scale, key[:8])
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        if say:
            _say(f"the classifier is trained again: {error}")
        return None


def _save(path: Path, net: FeatureNet) -> None:
    from ..training.checkpoint import save

    try:
        save(path, net.net.state_dict(), {"accuracy": net.accuracy, "scale": net.scale})
    except OSError as error:
        _say(f"the classifier is not kept: {error}")
