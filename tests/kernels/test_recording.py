"""Recorded launches, their replay, and the memory that they share."""

from itertools import pairwise

import numpy as np
import pytest
from helpers import assert_close
from hypothesis import given
from hypothesis import strategies as st

import minigan as mg
from minigan import ops
from minigan.kernels.runtime import recording
from minigan.kernels.runtime.cpu import replay
from minigan.kernels.runtime.cpu.compiler import jit
from minigan.kernels.runtime.cpu.launch import launch


# ---------------------------------------------------------------------------------------- memory
def test_freed_memory_is_reused():
    sizes = []
    block = recording.MemoryPlan.block

    def spied(memory, size):
        sizes.append(size)
        return block(memory, size)

    x = mg.tensor(np.zeros(100_000, np.float32))

    def chain():
        y = x
        for _ in range(20):
            y = ops.exp(ops.negative(y))
        return y

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording.MemoryPlan, "block", spied)
        step = mg.capture(chain)
        y = step()
    ((captured,),) = step.captures.values()
    assert sum(sizes) == 40 * 400_000
    # Two arrays live at a time; a chunk holds two.
    assert captured.recording.memory.size <= 3 * 400_128 + recording.MIN_CHUNK_BYTES
    assert_close(step().numpy(), y.numpy(), 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3_000_000)), max_size=60))
def test_live_blocks_do_not_overlap(requests):
    memory = recording.MemoryPlan(recording.allocate_host)
    live = []
    for free, size in requests:
        if free and live:
            live.pop(size % len(live))
        else:
            live.append(memory.block(size))
            assert live[-1].size >= size
        spans = sorted((x.address, x.address + x.size) for x in live)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        assert all(first % recording.ALIGNMENT_BYTES == 0 for first, _ in spans)
        assert all(memory.owns(first) and memory.owns(end - 1) for first, end in spans)
    live.clear()
    free = sorted(memory._free.items())
    assert sum(end - first for first, end in free) == memory.size
    assert len(free) == len(memory._chunks)  # free neighbours are merged


# -------------------------------------------------------------------------------------- launches
def test_arguments_of_all_types_reach_a_kernel():
    kernel = jit(_everything)
    out = np.zeros(8)
    arguments = (np.arange(6.0).reshape(2, 3), 2, True, 0.5, np.float32(0.25), (3, 4), -5)
    recorded = recording.Recording()
    with recording.record(recorded):
        launch(kernel, out, *arguments)
    expected = out.copy()
    assert expected.tolist() == [15, 2, 1, 0.5, 0.25, 34, -5, 3]
    out[:] = 0
    (program,) = replay.program(recorded.launches)
    program()
    np.testing.assert_array_equal(out, expected)


def test_a_failing_launch_raises_and_one_that_recovers_continues():
    kernel = jit(_stumbles)
    state, count = np.array([2, 9]), np.zeros(1)
    recorded = recording.Recording()
    with recording.record(recorded):
        launch(kernel, state, count)
        launch(kernel, state, count)
    (program,) = replay.program(recorded.launches)
    program()
    assert (state[0], count[0]) == (2, 4)
    state[0] = 0  # stumbles once
    program()
    assert (state[0], count[0]) == (1, 6)
    state[:] = 0, 0
    with pytest.raises(ValueError, match="stumbled"):
        program()
    assert count[0] == 6


def _stumbles(state, count):
    if state[0] == 0:
        if state[1]:
            state[0] = 1
        raise ValueError("stumbled")
    count[0] += 1


def _everything(out, x, n, yes, real, single, pair, negative):
    out[0] = x.sum()
    out[1] = n
    out[2] = 1 if yes else 0
    out[3], out[4] = real, single
    out[5] = 10 * pair[0] + pair[1]
    out[6] = negative
    out[7] = x.shape[1]


def test_a_launch_with_too_many_arguments_is_called_from_python():
    kernel = jit(_many)
    arrays = [np.ones(3) for _ in range(10)]
    recorded = recording.Recording()
    with recording.record(recorded):
        launch(kernel, *arrays)
        launch(kernel, *arrays)
    assert all(isinstance(x, replay.Launch) for x in replay.program(recorded.launches))
    for again in replay.program(recorded.launches):
        again()
    assert arrays[0].tolist() == [37] * 3


def _many(a, b, c, d, e, f, g, h, i, j):
    a += b + c + d + e + f + g + h + i + j
