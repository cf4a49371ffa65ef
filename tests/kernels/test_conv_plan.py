"""The plan of a convolution's product: skipped padding, its tables, tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conv_helpers import calls, case
from helpers import FLOATS

from minigan.kernels.conv2d import cpu, plan, tables


@pytest.fixture
def skip(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Choose along which axes padding is skipped."""

    def choose(*axes: bool) -> None:
        monkeypatch.setattr(plan, "SKIP_OPTIONS", [axes])
        forget()

    def forget() -> None:
        for table in (tables.forward, tables.input_grad, tables.weight_grad):
            table.cache_clear()

    yield choose
    monkeypatch.undo()
    forget()


PADDED = [
    case(3, 5, 8, 20, 3, 1, 1),
    case(2, 7, 9, 9, 4, 2, 1),
    case(9, 3, 5, 6, 5, 1, 3),
    case(2, 2, 3, 5, 2, 1, 4),  # positions that see the padding only
    case(1, 40, 7, 5, 5, 2, 2),  # K-blocks
    case(70, 2, 9, 5, 3, 2, 1),  # steps and splits of the weight's gradient
]


@FLOATS
@pytest.mark.parametrize("axes", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("value", [None, np.inf, np.nan, "underflow"])
def test_skipped_padding_changes_no_bit(
    dtype: str, axes: tuple[bool, bool], value: Any, skip: Any
) -> None:
    """Nor where it hides a NaN: 0 * inf is NaN."""
    for shape in PADDED:
        for op, arrays, attributes in calls(shape, 0, dtype):
            if value == "underflow":  # to -0, and a zero of the padding makes it 0
                tiny = np.finfo(dtype).tiny
                arrays[:] = [np.full_like(arrays[0], -tiny), np.full_like(arrays[1], tiny)]
            elif value is not None:
                arrays[1][-1, 0, 0, -1] = value
            results = []
            for chosen in ((False, False), axes):
                skip(*chosen)
                results.append(cpu.KERNELS[op.name](*arrays, **attributes))
            assert np.array_equal(*results, equal_nan=True), (op.name, shape)
            assert np.array_equal(*map(np.signbit, results)) or np.isnan(results[0]).any()


def test_padding_is_skipped_where_that_pays() -> None:
    """On 8 x 8 pixels a 4 x 4 kernel reads 14 * 14 pixels from 4 * 4 positions, not 16 * 16."""
    geometry = (8, 8), (4, 4), (2, 2), (1, 1), (256, 128, 4, 4), (8192, 64, 16, 4), 4
    table = tables.forward(*geometry, False, plan.Work(64, 1, 2)).tables
    first, count = table[:2]
    records = table[first:][: count * plan.CLASS_WORDS].reshape(count, -1)
    assert count == 9
    assert sum(rows * terms for rows, terms in records[:, [1, 3]]) == 14 * 14


def test_tables_stay_small_where_a_kernel_has_many_classes() -> None:
    """A kernel of 31 x 31 would have 961 classes, each with a list of its terms."""
    geometry = (64, 64), (31, 31), (1, 1), (15, 15), (1, 1, 31, 31), (3844, 3844, 124, 4), 4
    table = tables.forward(*geometry, False, plan.Work(64, 1, 2)).tables
    assert table[1] <= 31
    assert table.size < 2 * (plan.MAX_TABLES + 1) * 31**2 + 3 * 2 * 64**2


def test_sums_have_the_k_blocks_of_all_terms() -> None:
    """640 terms in blocks of 320; at an edge, what is left of each block."""
    geometry = (4, 4), (4, 4), (2, 2), (1, 1), (9, 40, 4, 4), (2560, 64, 16, 4), 4
    table = tables.forward(*geometry, False, plan.Work(64, 1, 2)).tables
    first, count = table[:2]
    records = table[first:][: (count + 1) * plan.CLASS_WORDS].reshape(count + 1, -1)
    ends = [table[end : end + blocks].tolist() for *_, end, blocks in records]
    assert ends == [[180, 360]] * 4 + [[320, 640]]


@pytest.mark.parametrize("rows", [4, 8])
def test_tasks_keep_all_threads_busy(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 images of 7 x 7 positions: as many per task as a tile has rows fill all tiles."""
    monkeypatch.setattr(plan, "ROWS", rows)

    def items(images: int, positions: int, workers: int) -> int:
        offsets = np.arange(positions) * 4
        rows_of_image = plan.Class(offsets, offsets, offsets[:1], offsets[:1])
        return plan._items_per_task([rows_of_image], plan.Work(images, 1, workers))[0]

    assert items(64, 49, 2) == rows
    assert items(3, 49, 1) in (2, 3)
    assert items(64, 784, 32) == 1
