"""Draw shuffled batches from tensors, for a training loop of your own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import overload

from .. import ops
from ..engine import random
from ..engine.recording import active_step
from ..engine.tensor import Tensor
from .dataset import whole_number


@overload
def batches(tables: Tensor, n: int) -> Iterator[Tensor]: ...
@overload
def batches(tables: Sequence[Tensor], n: int) -> Iterator[list[Tensor]]: ...
def batches(tables: Tensor | Sequence[Tensor], n: int) -> Iterator[Tensor] | Iterator[list[Tensor]]:
    """Return an endless iterator over shuffled batches of n rows.

        rows = mg.data.batches(mg.tensor(ring.values), 128)
        for _ in range(20000):
            step(next(rows))

    In each epoch every row comes once, in an order drawn from the random stream "data". The rows
    that are left at the end of an epoch begin the next batch, so that all batches have one size.

    Args:
        tables: a tensor (rows, ...), or several with the same rows, such as images and labels. For
            several, each batch is a list of tensors.
        n: the number of rows in a batch.

    Raises:
        TypeError: a table is no tensor.
        ValueError: n is not an integer from 1 to the number of rows; the tables differ in their
            rows.
        RuntimeError: a batch is drawn within a captured step. Give it to the step as an argument.
    """
    is_single = isinstance(tables, Tensor)
    listed = [tables] if isinstance(tables, Tensor) else list(tables)
    for i, table in enumerate(listed):
        if not isinstance(table, Tensor):
            raise TypeError(
                f"batches: table {i} is {type(table).__name__}; a tensor is needed, as of"
                " mg.tensor(dataset.values)"
            )
    counts = {table.shape[0] if table.ndim else 0 for table in listed}
    if len(counts) != 1:
        shapes = ", ".join(str(table.shape) for table in listed)
        raise ValueError(
            f"batches: tables of shapes {shapes or '()'}; equal numbers of rows are needed"
        )
    (rows,) = counts
    if whole_number("batches: n", n, least=1) > rows:
        raise ValueError(f"batches: n = {n}, but there are only {rows} rows")
    drawn = _Batches(listed, int(n))
    return map(itemgetter(0), drawn) if is_single else drawn


class _Batches:
    """The iterator that `batches` returns."""

    def __init__(self, tables: list[Tensor], n: int) -> None:
        self.tables, self.n = tables, n
        self.order = self._draw_epoch()  # the rows of the next batches

    def _draw_epoch(self) -> Tensor:
        first = self.tables[0]
        return random.permutation(len(first), device=first.device, stream="data")

    def __iter__(self) -> Iterator[list[Tensor]]:
        return self

    def __next__(self) -> list[Tensor]:
        if active_step() is not None:
            raise RuntimeError(
                "batches: next() within a captured step would be the same rows in each replay; give"
                " the batch to the step as an argument: step(next(rows))"
            )
        while len(self.order) < self.n:
            self.order = ops.concatenate([self.order, self._draw_epoch()])
        rows, self.order = self.order[: self.n], self.order[self.n :]
        return [
            ops.gather(table, rows.reshape(self.n, *(1,) * (table.ndim - 1)), axis=0)
            for table in self.tables
        ]
