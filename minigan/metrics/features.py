"""Features of samples from minigan's own classifier, trained once for each data set."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..engine.device import use_device
from ..engine.tensor import Tensor, no_grad, tensor
from ..kernels.runtime.files import cache_root
from ..ops import exp, log_softmax
from ..utils.locks import file_lock
from ..utils.notices import Notice
from . import classifier
from .classifier import BATCH, build_classifier, classify, train_classifier

if TYPE_CHECKING:
    from ..data import Dataset

HELD_OUT = 0.1  # the share of the data that the accuracy is measured on, if none are passed
STEPS = 600


@dataclass(frozen=True)
class FeatureNet:
    """A classifier of real data whose last hidden layer describes samples.

    Attributes:
        net: the classifier, from samples to logits, in eval mode.
        accuracy: of it on held-out real samples.
        key: 8 hexadecimal digits of the data and of how it was trained. Distances of features
            compare only where the key is the same.
    """

    net: nn.Sequential
    accuracy: float
    key: str

    def features(self, values: Any) -> np.ndarray:
        """Return the input of the last layer for samples (n, ...), (n, 128) float64."""
        return self._run(nn.Sequential(*list(self.net)[:-1]), values)

    def probabilities(self, values: Any) -> np.ndarray:
        """Return the probability of each class for samples (n, ...), (n, classes) float64."""
        return self._run(lambda x: exp(log_softmax(self.net(x))), values)

    def _run(self, function: Callable[[Tensor], Tensor], values: Any) -> np.ndarray:
        # On the CPU always, so that the features of a run do not depend on its device.
        with no_grad(), use_device("cpu"):
            parts = [
                function(tensor(values[i : i + BATCH], dtype="float32")).numpy()
                for i in range(0, max(1, len(values)), BATCH)
            ]
        return np.concatenate(parts).astype(np.float64)


def feature_net(
    data: Dataset, held_out: Dataset | None = None, steps: int = STEPS, progress: bool = False
) -> FeatureNet:
    """Return the classifier of a data set, from the cache or trained by `train_classifier`.

        net = feature_net(mg.data.load("glyphs"))
        frechet_distance(net.features(generated), net.features(held_out))

    It is kept in `metrics` in the cache folder, in a file that is named by the digest of the data
    and of how it is trained. A file that cannot be read is made again, with a notice. One process
    at a time trains; another one that waited for it uses its file.

    Args:
        data: real samples with labels. held_out: others, on which the accuracy is measured; None:
            a tenth of the data, which is then not trained on.
        steps: of training. progress: show a progress bar.

    Raises:
        ValueError: the data have no labels, or fewer than two classes.
    """
    if data.labels is None or (data.classes or 0) < 2:
        have = "no labels" if data.labels is None else f"{data.classes} class"
        raise ValueError(
            f"feature_net: {data.name} has {have}; features, class probabilities, and so the"
            " Frechet and kernel distances and the inception score of them, need labels of two"
            " classes or more"
        )
    if held_out is None:
        data, held_out = data.holdout(HELD_OUT, 0)
    recipe = [data.digest(), held_out.digest(), data.classes, steps]
    source = Path(str(classifier.__file__)).read_bytes()
    key = hashlib.sha256(json.dumps(recipe).encode() + source).hexdigest()

    def train() -> FeatureNet:
        return _train(data, held_out, steps, key, progress)

    try:
        path = cache_root() / "metrics" / f"{key[:20]}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        warnings.warn(f"the classifier is not kept: {error}", Notice, stacklevel=2)
        return train()
    with file_lock(path.parent / f".{key[:20]}.lock", wait=True):
        return _load(path, data, key) or _save(path, train())


def _train(data: Dataset, held_out: Dataset, steps: int, key: str, progress: bool) -> FeatureNet:
    assert data.labels is not None
    with use_device("cpu"):
        net = train_classifier(
            data.values, data.labels, data.classes or 0, steps, progress=progress
        )
        accuracy = float((classify(net, held_out.values) == held_out.labels).mean())
    return FeatureNet(net, accuracy, key[:8])


def _load(path: Path, data: Dataset, key: str) -> FeatureNet | None:
    from ..training.checkpoint import CheckpointError, load

    if not path.exists():
        return None
    try:
        tensors, info = load(path)
        with use_device("cpu"):
            net = build_classifier(data.sample_shape, data.classes or 0)
            net.load_state_dict(tensors)
        return FeatureNet(net.eval(), float(info["accuracy"]), key[:8])
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        warnings.warn(f"the classifier is trained again: {error}", Notice, stacklevel=3)
        return None


def _save(path: Path, net: FeatureNet) -> FeatureNet:
    from ..training.checkpoint import save

    try:
        save(path, net.net.state_dict(), {"accuracy": net.accuracy})
    except OSError as error:
        warnings.warn(f"the classifier is not kept: {error}", Notice, stacklevel=3)
    return net
