"""Memory of arrays outside of captured steps: arrays never overlap, and what is freed is reused."""

from __future__ import annotations

import gc
import os
import sys
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
def test_arrays_are_like_numpys(dtype: str, chunks: Any) -> None:
    x = host_memory.empty((3, MIB), dtype)
    assert x.shape == (3, MIB)
    assert x.dtype == dtype
    assert x.flags.carray
    assert owned(chunks, x)
    assert array_address(x) % 64 == 0
    x[...] = 1
    assert x.all()


def test_other_sizes_come_from_numpy(chunks: Any) -> None:
    for shape in ((), (0,), (MIN_BYTES - 1,), (MAX_BYTES + 1,)):
        assert not owned(chunks, host_memory.empty(shape, np.uint8))
    assert owned(chunks, host_memory.empty((MIN_BYTES,), np.uint8))
    assert owned(chunks, host_memory.empty((MAX_BYTES,), np.uint8))
    for dtype in (object, "S3", [("a", "f4"), ("b", "i8")]):
        assert not owned(chunks, host_memory.empty((MIB,), dtype))


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


def test_much_memory_is_returned_without_another_allocation(chunks: Any) -> None:
    arrays = [host_memory.empty((MAX_BYTES,), np.uint8) for _ in range(4)]
    assert chunks.size >= 4 * MAX_BYTES
    del arrays
    assert chunks.size <= 2 * KEPT_BYTES


class Interrupt(BaseException):
    pass


def test_an_interrupt_at_any_point_does_no_harm() -> None:
    """As Ctrl-C: the arrays that live keep their memory, and later ones are right."""
    kept = []
    for point in range(400):
        living = {i: host_memory.empty((MIN_BYTES * (i + 1),), np.uint8) for i in range(6)}
        for i, x in living.items():
            x[...] = i
        kept.append(living.pop(point % 6))
        count = 0

        def interrupt(frame: Any, event: str, _: Any, point: int = point) -> Any:
            nonlocal count
            frame.f_trace_opcodes = True
            count += event == "opcode"
            if count == point:
                raise Interrupt
            return interrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            host_memory.empty((3 * MIN_BYTES,), np.uint8)
        except Interrupt:
            pass
        finally:
            sys.settrace(before)
        assert not host_memory._lock.locked() or point < 60  # Then numpy allocates: still right.
        for i in range(4):
            y = host_memory.empty((MIN_BYTES * (i + 2),), np.uint8)
            y[...] = 99
            living[10 + i] = y
        assert all((x == (i if i < 10 else 99)).all() for i, x in living.items())
        if host_memory._lock.locked():
            host_memory._lock.release()
    assert all((x == point % 6).all() for point, x in enumerate(kept))


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


def test_cpu_tensors_are_in_chunks(chunks: Any) -> None:
    x = mg.tensor(np.ones((256, 256), np.float32), device="cpu")
    assert owned(chunks, x.array)
    assert owned(chunks, (x + x).array)
    assert not owned(chunks, mg.tensor(np.ones((256, 256)), device="reference").array)
