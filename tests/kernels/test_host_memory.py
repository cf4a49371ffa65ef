"""Memory of arrays outside of captured steps: arrays never overlap, and what is freed is reused."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigan as mg
from minigan.kernels.runtime import host_memory
from minigan.kernels.runtime.arrays import array_address
from minigan.kernels.runtime.host_memory import CHUNK_BYTES, KEPT_BYTES, MAX_BYTES, MIN_BYTES

MIB = 1 << 20


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give each test new chunks."""
    new = host_memory._Chunks()
    monkeypatch.setattr(host_memory, "_chunks", new)
    return new


def owned(chunks: Any, x: np.ndarray) -> bool:
    return chunks.owns(array_address(x))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "uint8"])
def test_arrays_are_as_those_of_numpy(dtype: str, chunks: Any) -> None:
    x = host_memory.empty((3, MIB), dtype)
    assert x.shape == (3, MIB)
    assert x.dtype == dtype
    assert x.flags.carray
    assert owned(chunks, x)
    assert array_address(x) % 64 == 0
    x[...] = 1
    assert x.all()


def test_other_sizes_are_numpys(chunks: Any) -> None:
    for shape in ((), (0,), (MIN_BYTES - 1,), (MAX_BYTES + 1,)):
        assert not owned(chunks, host_memory.empty(shape, np.uint8))
    assert owned(chunks, host_memory.empty((MIN_BYTES,), np.uint8))
    assert owned(chunks, host_memory.empty((MAX_BYTES,), np.uint8))
    assert not owned(chunks, host_memory.empty((MIB,), object))


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 9), st.integers(MIN_BYTES, 4 * CHUNK_BYTES // 3)), max_size=40
    )
)
def test_living_arrays_never_overlap(steps: list[tuple[int, int]]) -> None:
    living: dict[int, np.ndarray] = {}
    for place, size in steps:
        living.pop(place, None)
        x = host_memory.empty((size,), np.uint8)
        x[...] = place
        living[place] = x
        assert all((y[[0, -1]] == k).all() for k, y in living.items())
    assert all((y == k).all() for k, y in living.items())


def test_views_keep_their_memory() -> None:
    x = host_memory.empty((MIB,), np.uint8)
    x[...] = 7
    view = x[5:9]
    del x
    host_memory.empty((MIB,), np.uint8)[...] = 0
    assert view.tolist() == [7] * 4


def test_freed_memory_is_reused_and_the_rest_returned(chunks: Any) -> None:
    addresses = set()
    for _ in range(9):
        addresses.add(array_address(host_memory.empty((3 * MIB,), np.uint8)))
    assert len(addresses) <= 2
    arrays = [host_memory.empty((CHUNK_BYTES,), np.uint8) for _ in range(12)]
    assert chunks.size >= 12 * CHUNK_BYTES > KEPT_BYTES
    del arrays
    small = host_memory.empty((MIN_BYTES,), np.uint8)
    assert chunks.size <= KEPT_BYTES + 2 * CHUNK_BYTES
    assert owned(chunks, small)
    # What was returned is not given out again.
    assert all(
        owned(chunks, x) for x in [host_memory.empty((CHUNK_BYTES,), np.uint8) for _ in range(12)]
    )


def test_threads_and_finalizers(chunks: Any) -> None:
    """A finalizer that runs within `empty` allocates and frees arrays of its own."""
    failures: list[Any] = []

    class Finalized:
        def __init__(self) -> None:
            self.itself = self
            self.array = host_memory.empty((MIN_BYTES,), np.uint8)

        def __del__(self) -> None:
            host_memory.empty((MIN_BYTES,), np.uint8)[...] = 255

    def work(number: int) -> None:
        rng, living = np.random.default_rng(number), {}
        for _ in range(300):
            Finalized()
            place = int(rng.integers(5))
            living.pop(place, None)
            x = host_memory.empty((int(rng.integers(MIN_BYTES, MIB)),), np.uint8)
            x[...] = number
            living[place] = x
            failures.extend(k for k, y in living.items() if not (y == number).all())

    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
    assert failures == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_fork_has_arrays_of_its_own(chunks: Any) -> None:
    x = host_memory.empty((MIB,), np.uint8)
    x[...] = 1
    with host_memory._lock:  # as if another thread were in `empty`
        assert not owned(chunks, host_memory.empty((MIB,), np.uint8))
        child = os.fork()
        if not child:
            y = host_memory.empty((MIB,), np.uint8)
            y[...] = 2
            os._exit(0 if (x == 1).all() and (y == 2).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (x == 1).all()


def test_tensors_of_the_cpu_are_there(chunks: Any) -> None:
    x = mg.tensor(np.ones((256, 256), np.float32), device="cpu")
    assert owned(chunks, x.array)
    assert owned(chunks, (x + x).array)
    assert not owned(chunks, mg.tensor(np.ones((256, 256)), device="reference").array)
