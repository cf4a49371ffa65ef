"""Draw shuffled batches of training data."""

from __future__ import annotations

import numpy as np

from ..data import Dataset
from ..engine import random
from ..engine.tensor import Tensor, tensor


class Batches:
    """Endless shuffled batches of a data set: samples, and labels if they are asked for.

        batches = Batches(data, 64, has_labels=True)
        x, y = batches.next()

    In each epoch every sample comes once, in an order drawn from the random stream "data". The
    samples that are left at the end of an epoch begin the next batch, so that all batches have one
    size. Samples are converted to float32 and moved to the current device a batch at a time.

    Args:
        data: the samples.
        batch: the number of samples in a batch.
        has_labels: whether a batch has labels too.
        scale: what samples are divided by.
        categories: the number of random labels that replace those of the data, drawn from the
            random stream "codes"; 0: they are not replaced.
        mirror: whether each image of a batch is mirrored left to right with probability 1/2, drawn
            from the random stream "mirror".

    Raises:
        ValueError: points cannot be mirrored.
    """

    def __init__(
        self,
        data: Dataset,
        batch: int,
        has_labels: bool = False,
        scale: float = 1.0,
        mirror: bool = False,
        categories: int = 0,
    ) -> None:
        if mirror and not data.is_image:
            raise ValueError(f"mirror is for images; {data.name} has points: --no-mirror")
        self.data, self.batch, self.scale, self.mirror = data, batch, scale, mirror
        self.categories = categories
        self.labels = data.labels if has_labels else None
        # Memory that is used again takes no page faults, which cost as much as the conversion.
        self._buffer = np.empty((batch, *data.sample_shape), np.float32)
        self.order = self._draw_epoch()  # the samples of the next batches, int64

    def _draw_epoch(self) -> np.ndarray:
        return random.permutation(len(self.data), stream="data").numpy()

    def next(self) -> list[Tensor]:
        """Return samples (batch, values), float32, and their labels (batch,), in new memory."""
        samples, indices = self.next_rows()
        tensors = [tensor(samples.reshape(self.batch, -1))]
        if self.categories:
            numbers = random.uniform(self.batch, stream="codes").numpy()
            # The product may be rounded up to `categories`.
            codes = np.minimum(numbers * self.categories, self.categories - 1)
            return [*tensors, tensor(codes.astype(np.int64))]
        return tensors if self.labels is None else [*tensors, tensor(self.labels[indices])]

    def next_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return samples (batch, ...), float32, and their indices, in memory that is used again."""
        while len(self.order) < self.batch:
            self.order = np.concatenate([self.order, self._draw_epoch()])
        indices, self.order = self.order[: self.batch], self.order[self.batch :]
        samples = self.data.rows(indices, self._buffer)
        if self.mirror:
            mirrored = random.bernoulli(self.batch, 0.5, stream="mirror").numpy() == 1
            samples[mirrored] = samples[mirrored, ..., ::-1]
        if self.scale != 1:
            samples = samples / self.scale
        return samples, indices
