"""Draw shuffled batches of training data."""

from __future__ import annotations

from collections.abc import Sequence

from .. import ops
from ..engine import random
from ..engine.tensor import Tensor


class Batches:
    """Endless shuffled batches of one or more tables with the same rows, such as images and labels.

        batches = Batches([images, labels], 64)
        x, y = batches.next()

    In each epoch every row comes once, in an order drawn from the random stream "data". The rows
    that are left at the end of an epoch begin the next batch, so that all batches have one size.

    Args:
        tables: tensors (rows, ...), all with the same number of rows.
        batch: the number of rows in a batch.
    """

    def __init__(self, tables: Sequence[Tensor], batch: int) -> None:
        self.tables, self.batch = list(tables), batch
        self.order = self._draw_epoch()  # the rows of the next batches

    def _draw_epoch(self) -> Tensor:
        first = self.tables[0]
        return random.permutation(len(first), device=first.device, stream="data")

    def next(self) -> list[Tensor]:
        """Return the same rows of each table, (batch, ...), in new memory."""
        while len(self.order) < self.batch:
            self.order = ops.concatenate([self.order, self._draw_epoch()])
        rows, self.order = self.order[: self.batch], self.order[self.batch :]
        return [
            ops.gather(table, rows.reshape(self.batch, *(1,) * (table.ndim - 1)), axis=0)
            for table in self.tables
        ]
