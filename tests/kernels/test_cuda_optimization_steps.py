"""The rungs of the CUDA matmul ladder: right at any size, parallel, coalesced but for the first."""

import math

import numpy as np
import pytest
from emulator_helpers import CUDA_DEVICES, needs_compiler
from helpers import FLOATS, assert_close

from minigan.engine.device import get_device
from minigan.kernels.matmul.cuda_optimization_steps import RUNGS
from minigan.kernels.runtime.emulator.emulator import Emulator

ALL = pytest.mark.parametrize("rung", RUNGS)
SHAPES = [(1, 1, 1), (3, 5, 7), (17, 13, 1), (1, 70, 31), (65, 33, 49), (64, 64, 64), (31, 97, 130)]


def _operands(m, k, n, dtype):
    rng = np.random.default_rng((m, k, n))
    return (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))


def _check(launcher, rung, m, k, n, dtype):
    a, b = _operands(m, k, n, dtype)
    c = launcher.to_numpy(RUNGS[rung](launcher, *map(launcher.from_numpy, (a, b))))
    exact_a, exact_b = a.astype(np.float64), b.astype(np.float64)
    # A chain of k multiply-adds (Higham 2002, section 3.1).
    size = (np.abs(exact_a) @ np.abs(exact_b)).max(initial=0)
    bound = (k + 1) * float(np.finfo(dtype).eps) / 2 * size
    assert c.dtype == dtype
    assert_close(c, exact_a @ exact_b, bound, f"{rung} {m} {k} {n}")


@ALL
@CUDA_DEVICES
@FLOATS
def test_every_rung_is_right_at_any_size(device, rung, dtype):
    for shape in SHAPES:
        _check(get_device(device).launcher, rung, *shape, dtype)


@ALL
@needs_compiler
@FLOATS
def test_every_rung_passes_the_checks(rung, dtype):
    for shape in ((3, 5, 7), (65, 33, 49)):
        _check(Emulator(checked=True), rung, *shape, dtype)


@ALL
@CUDA_DEVICES
def test_every_rung_passes_nan_on(device, rung):
    launcher = get_device(device).launcher
    a, b = np.ones((33, 40), "f"), np.ones((40, 35), "f")
    a[3, 39], b[0, 34] = np.nan, np.inf
    found = launcher.to_numpy(RUNGS[rung](launcher, *map(launcher.from_numpy, (a, b))))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(found, a @ b, equal_nan=True)


class Recorder(Emulator):
    """Notes launches instead of running them."""

    def __init__(self):
        super().__init__()
        self.launches = []

    def _prepare(self, source, kernel, dtype, grid, block, arguments, shared):
        self.launches.append((math.prod(grid), math.prod(block)))
        return lambda about: None


@ALL
def test_every_rung_is_parallel(rung):
    """At 4096 x 4096: at least 264 blocks of at least 128 threads."""
    recorder = Recorder()
    a = np.empty((4096, 4096), "f")
    RUNGS[rung](recorder, a, a)
    ((blocks, threads),) = recorder.launches
    assert blocks >= 264
    assert threads >= 128


@ALL
@needs_compiler
@FLOATS
def test_memory_is_moved_in_whole_sectors_but_by_the_naive_rung(rung, dtype):
    gpu = Emulator(checked=True)
    a, b = map(gpu.from_numpy, _operands(64, 64, 64, dtype))
    before = gpu.counts
    RUNGS[rung](gpu, a, b)
    found = gpu.counts - before
    if rung == "naive":
        assert found.sectors > 3 * found.ideal_sectors
    else:
        assert found.sectors <= 2 * found.ideal_sectors
