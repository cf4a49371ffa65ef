"""The emulator runs blocks in a shuffled order, and the order of fences and atomics is known."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

import minigan as mg
from minigan.engine.cuda import CudaDevice
from minigan.kernels.runtime.emulator.emulator import Emulator

SOURCE = Path(__file__).with_name("emulated_grid.cu")
pytestmark = needs_compiler
BUILDS = ["fast", "checked", "debug"]
ORDERS = [None, 0, 1, 2]


def compiled(build, block_order=None):
    return mg.cuda.compile(SOURCE, build=build, block_order=block_order)


def positions(module, grid):
    y = np.full(grid[::-1], -1, np.int32)
    module.positions[grid, 33](np.zeros(1, np.int32), y)
    return y.ravel()


# ------------------------------------------------------------------------------------- the order
@pytest.mark.parametrize("build", BUILDS)
def test_a_seed_shuffles_the_blocks(build):
    grid = (5, 3, 4)
    assert positions(compiled(build), grid).tolist() == list(range(60))
    orders = [positions(compiled(build, seed), grid).tolist() for seed in (0, 1, 1)]
    for order in orders:
        assert sorted(order) == list(range(60))
        assert order != list(range(60))
    assert orders[0] != orders[1] == orders[2]
    one = positions(compiled(build, 1), grid)
    assert one.tolist() == orders[1], "the same seed and grid have the same order"


def test_the_order_shows_that_a_kernel_depends_on_it():
    x = np.ones(50, "f")
    sums = []
    for seed in ORDERS:
        y = np.zeros(50, "f")
        compiled("fast", seed).running_sum[50, 1](x, y)
        sums.append(y.tolist())
    assert sums[0] == list(range(1, 51))
    assert all(y != sums[0] for y in sums[1:])
    for seed in ORDERS:
        with pytest.raises(mg.cuda.KernelError, match="a thread of another block"):
            compiled("checked", seed).running_sum[50, 1](x, np.zeros(50, "f"))


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("seed", ORDERS)
def test_an_error_names_its_block_and_the_order(build, seed):
    with pytest.raises(mg.cuda.KernelError) as error:
        compiled(build, seed).fails_in_a_block[(4, 2), 1](np.zeros(8, np.int32))
    message = str(error.value)
    assert "block (2, 1, 0), thread (0, 0, 0) stops at line" in message
    assert ("block_order" in message) == (seed is not None)
    if seed is not None:
        assert f"[grid (4, 2, 1), block (1, 1, 1), block_order {seed}; int32(8,)]" in message


@pytest.mark.parametrize("checked", [False, True])
def test_results_of_the_library_do_not_depend_on_the_order(checked):
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype("f") for shape in ((6, 3, 9, 9), (5, 3, 3, 3)))
    results = []
    for seed in ORDERS:
        device = CudaDevice("cuda-emulator", Emulator(checked, block_order=seed))
        x1, w1 = (mg.tensor(v, device=device) for v in (x, w))
        y = mg.ops.conv2d(x1, w1)
        flat = mg.ops.reshape(x1, (54, 27))
        results.append([
            v.numpy().tobytes()
            for v in (y, mg.ops.sum(y), mg.ops.matmul(flat, mg.ops.transpose(flat)), mg.ops.tanh(y))
        ])  # fmt: skip
    assert all(result == results[0] for result in results[1:])


def test_recorded_launches_keep_the_order():
    device = CudaDevice("cuda-emulator", Emulator(block_order=7))
    x = mg.tensor(np.arange(5000, dtype="f"), device=device)
    step = mg.capture(lambda: mg.ops.sum(mg.ops.tanh(x) * 2))
    with mg.no_grad():
        first = step().numpy()
        assert step().numpy() == first


def test_the_environment_sets_the_order():
    script = (
        "from minigan.kernels.runtime.emulator.emulator import Emulator as E\n"
        "e = E(); print(e.block_order, e.hang_seconds, E(block_order=4).block_order)"
    )

    def run(**variables):
        names = {f"MINIGAN_EMULATOR_{name}": value for name, value in variables.items()}
        environment = os.environ | names
        return subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run().stdout == "None 10.0 4\n"
    assert run(BLOCK_ORDER="3", HANG_SECONDS="0.5").stdout == "3 0.5 4\n"
    assert (
        "MINIGAN_EMULATOR_BLOCK_ORDER is 'x'; accepted: an integer >= 0"
        in run(BLOCK_ORDER="x").stderr
    )
    assert (
        "MINIGAN_EMULATOR_HANG_SECONDS is '0'; accepted: a number > 0"
        in run(HANG_SECONDS="0").stderr
    )


@pytest.mark.parametrize("seed", [-1, 1.5, "x", "1"])
def test_an_order_is_a_seed(seed):
    with pytest.raises(ValueError, match=rf"block_order is {seed!r}; accepted: an integer >= 0"):
        Emulator(block_order=seed)


def test_settings_of_the_emulator_are_not_for_a_gpu():
    for setting in ({"block_order": 1}, {"hang_seconds": 2.0}, {"build": "fast"}):
        with pytest.raises(ValueError, match="is for device='cuda-emulator', not 'cuda'"):
            mg.cuda.compile(SOURCE, device="cuda", **setting)
    assert "block order 3" in Emulator(block_order=3).describe()["runs on"]


# ------------------------------------------------------------------------------------ the fences
@pytest.mark.parametrize("build", ["fast", "checked"])
@pytest.mark.parametrize("seed", ORDERS)
def test_the_last_block_adds_the_partial_sums(build, seed):
    module, x = compiled(build, seed), np.arange(500, dtype="f")
    for _ in range(2):  # The last block resets the counter.
        y, partial = np.zeros(1, "f"), np.zeros(8, "f")
        module.fence_reduction[8, 64](x, partial, y, 500)
        assert y[0] == x.sum()
    for kernel, threads in (("fence_of_each", 64), ("fence_of_one", 64), ("fence_of_a_lane", 32)):
        x = np.arange(4 * threads, dtype="f")
        z = np.zeros(threads, "f")
        getattr(module, kernel)[4, threads](x, np.zeros(x.size, "f"), z)
        assert np.array_equal(z, 2 * x.reshape(4, -1).sum(axis=0)[np.arange(threads) ^ 1])
    y = np.zeros(20, "f")
    module.chained_sum[20, 1](np.ones(20, "f"), y, np.zeros(1, "u4"), np.zeros(1, "u4"))
    assert y.tolist() == list(range(1, 21))


WITHOUT_ORDER = {
    "without_fence": "partial[0]",
    "with_fence_of_block": "partial[0]",
    "fence_too_early": "partial[0]",
    "fence_of_another": "y[",
    "reader_without_atomic": "y[0]",
    "reader_of_another_counter": "y[0]",
    "reader_without_barrier": "y[0]",
    "counter_in_shared_memory": "y[0]",
}


@pytest.mark.parametrize("kernel", WITHOUT_ORDER)
def test_a_missing_fence_or_atomic_is_a_race(kernel):
    module, x = compiled("checked"), np.ones(4 * 64, "f")
    module.variable("count")[:] = 0
    arguments = {
        "without_fence": (x, np.zeros(4, "f"), np.zeros(1, "f"), x.size),
        "fence_of_another": (x, np.zeros(x.size, "f"), np.zeros(64, "f")),
    }
    arguments["with_fence_of_block"] = arguments["fence_too_early"] = arguments["without_fence"]
    values = arguments.get(kernel, (np.zeros(4, "f"), np.zeros(64, "f")))
    with pytest.raises(mg.cuda.KernelError) as error:
        getattr(module, kernel)[4, 64](*values)
    message = str(error.value)
    assert f"reads {WITHOUT_ORDER[kernel]}" in message, message
    assert "which a thread of another block writes with no barrier between: a race" in message
    assert "block (3, 0, 0)" in message
