"""The optimization steps of the CUDA matmul are right, fill a GPU, and coalesce but the first."""

import math

import numpy as np
import pytest
from emulator_helpers import CUDA_DEVICES, needs_compiler
from helpers import FLOATS, assert_close

from minigan.engine.device import get_device
from minigan.kernels.matmul.cuda_optimization_steps import STEPS
from minigan.kernels.runtime.emulator.emulator import Emulator

ALL = pytest.mark.parametrize("step", STEPS)
SHAPES = [(1, 1, 1), (3, 5, 7), (17, 13, 1), (1, 70, 31), (65, 33, 49), (64, 64, 64), (31, 97, 130)]


def _operands(m, k, n, dtype):
    rng = np.random.default_rng((m, k, n))
    return (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))


def _check(launcher, step, m, k, n, dtype):
    a, b = _operands(m, k, n, dtype)
    c = launcher.to_numpy(STEPS[step](launcher, *map(launcher.from_numpy, (a, b))))
    exact_a, exact_b = a.astype(np.float64), b.astype(np.float64)
    # A chain of k multiply-adds (Higham 2002, section 3.1).
    size = (np.abs(exact_a) @ np.abs(exact_b)).max(initial=0)
    bound = (k + 1) * float(np.finfo(dtype).eps) / 2 * size
    assert c.dtype == dtype
    assert_close(c, exact_a @ exact_b, bound, f"{step} {m} {k} {n}")


@ALL
@CUDA_DEVICES
@FLOATS
def test_every_step_is_right_at_any_size(device, step, dtype):
    for shape in SHAPES:
        _check(get_device(device).launcher, step, *shape, dtype)


@ALL
@needs_compiler
@FLOATS
def test_every_step_passes_the_checks(step, dtype):
    for shape in ((3, 5, 7), (65, 33, 49)):
        _check(Emulator(checked=True), step, *shape, dtype)


@ALL
@CUDA_DEVICES
def test_every_step_propagates_nan(device, step):
    launcher = get_device(device).launcher
    a, b = np.ones((33, 40), "f"), np.ones((40, 35), "f")
    a[3, 39], b[0, 34] = np.nan, np.inf
    result = launcher.to_numpy(STEPS[step](launcher, *map(launcher.from_numpy, (a, b))))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(result, a @ b, equal_nan=True)


class Recorder(Emulator):
    """Records launches instead of running them."""

    def __init__(self):
        super().__init__()
        self.launches = []

    def _prepare(self, source, kernel, dtype, grid, block, arguments, shared_bytes):
        self.launches.append((math.prod(grid), math.prod(block)))
        return lambda describe: None


@ALL
def test_every_step_fills_a_gpu(step):
    """At 4096 x 4096: at least 264 blocks of at least 128 threads."""
    recorder = Recorder()
    a = np.empty((4096, 4096), "f")
    STEPS[step](recorder, a, a)
    ((blocks, threads),) = recorder.launches
    assert blocks >= 264
    assert threads >= 128


@ALL
@needs_compiler
@FLOATS
def test_all_but_the_naive_step_access_whole_sectors(step, dtype):
    gpu = Emulator(checked=True)
    a, b = map(gpu.from_numpy, _operands(64, 64, 64, dtype))
    before = gpu.counts
    STEPS[step](gpu, a, b)
    counts = gpu.counts - before
    if step == "naive":
        assert counts.sectors > 3 * counts.ideal_sectors
    else:
        assert counts.sectors <= 2 * counts.ideal_sectors
