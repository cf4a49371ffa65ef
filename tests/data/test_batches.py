"""mg.data.batches: every row once in an epoch, in a loop of one's own, captured or not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import minigan as mg


def rows(n: int) -> mg.Tensor:
    return mg.tensor(np.arange(n, dtype=np.float32)[:, None])


def test_every_row_comes_once_in_an_epoch() -> None:
    """10 rows in batches of 4: five batches are two epochs, and each batch is full."""
    mg.manual_seed(0)
    drawn = [x.numpy()[:, 0] for x in itertools.islice(mg.data.batches(rows(10), 4), 5)]
    assert [len(x) for x in drawn] == [4] * 5
    order = np.concatenate(drawn)
    for epoch in (order[:10], order[10:]):
        assert sorted(epoch) == list(range(10))
    assert order[:10].tolist() not in (order[10:].tolist(), list(range(10)))
    mg.manual_seed(0)
    again = next(mg.data.batches(rows(10), 4)).numpy()[:, 0]
    assert np.array_equal(again, drawn[0])


def test_several_tables_have_the_same_rows() -> None:
    images = mg.tensor(np.arange(24.0).reshape(6, 2, 2))
    labels = mg.tensor(np.arange(6) * 10)
    for x, y in itertools.islice(mg.data.batches((images, labels), 3), 4):
        assert x.shape == (3, 2, 2)
        assert y.dtype == np.int64
        assert np.array_equal(x.numpy()[:, 0, 0] / 4, y.numpy() / 10)
    assert next(mg.data.batches([labels], 6))[0].shape == (6,)


def test_the_order_is_that_of_the_stream_data() -> None:
    """Latents that are drawn in between do not change it."""
    results = []
    for has_latents in (False, True):
        mg.manual_seed(3)
        drawn = mg.data.batches(rows(7), 3)
        for _ in range(4):
            if has_latents:
                mg.random.normal((5,))
            results.append(next(drawn).numpy().tolist())
    assert results[:4] == results[4:]
    mg.manual_seed(3)
    order = mg.random.permutation(7, stream="data").numpy()
    assert np.ravel(results[:2]).tolist() == order[:6].tolist()


def test_batches_and_a_captured_step() -> None:
    """A batch is the step's argument; drawn within it, it would be the same in each replay."""
    drawn = mg.data.batches(rows(8), 2)
    step = mg.capture(lambda x: x * 2.0)
    seen = np.concatenate([step(next(drawn)).numpy()[:, 0] for _ in range(4)])
    assert sorted(seen) == [0, 2, 4, 6, 8, 10, 12, 14]
    for tables in (rows(8), [rows(8)]):
        drawn = mg.data.batches(tables, 2)
        inside = mg.capture(lambda drawn=drawn: next(drawn))
        with pytest.raises(ValueError, match=r"capture: the step takes elements of .* iterator"):
            inside()
        advance = drawn.__next__  # which capture does not know
        inside = mg.capture(lambda advance=advance: advance())
        with pytest.raises(RuntimeError, match=r"batches: next\(\) within a captured step"):
            inside()
        assert len(np.ravel(np.asarray(next(drawn)))) == 2  # it goes on outside


@pytest.mark.parametrize(
    ("tables", "n", "error", "message"),
    [
        (rows(5), 6, ValueError, "batches: n = 6, but there are only 5 rows"),
        (rows(5)[:0], 1, ValueError, "batches: n = 1, but there are only 0 rows"),
        (rows(5), 0, ValueError, "batches: n 0: must be at least 1"),
        (rows(5), 2.5, ValueError, "batches: n 2.5: must be a whole number"),
        (rows(5), True, ValueError, "batches: n True: must be a whole number"),
        ([rows(5), rows(4)], 2, ValueError, r"shapes \(5, 1\), \(4, 1\); equal numbers of rows"),
        ([], 2, ValueError, r"batches: tables of shapes \(\)"),
        ([np.ones((5, 1))], 2, TypeError, "batches: table 0 is ndarray; a tensor is needed"),
    ],
)
def test_what_makes_no_batches(tables: Any, n: Any, error: Any, message: str) -> None:
    """The error comes from the call, not from the first batch."""
    with pytest.raises(error, match=message):
        mg.data.batches(tables, n)
