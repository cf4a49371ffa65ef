"""`minigan bench memory`: the memory of processes that train is measured and plausible."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from minigan import bench
from minigan.bench import memory
from minigan.bench.plan import Plan, Task
from minigan.bench.table import format_number
from minigan.bench.timing import MINIGAN
from minigan.gan.models import Dcgan, Perceptrons

# Large enough for the weights to stand out from all other memory.
MLP = Task(Perceptrons("", (1500,), (1500,), 8), (300,), (4,))
DCGAN = Task(Dcgan("", 128, 8), (1, 16, 16), (2,))
SMALL = Plan({"MLP": MLP, "DCGAN": DCGAN}, memory_steps=2)
WEIGHTS = {
    "MLP": 9 * 1500 + 1501 * 300 + 301 * 1500 + 1501,
    # dense, convolutions of 4 x 4, batch norm, biases, in G and in D
    "DCGAN": (8 * 4096 + 16 * (256 * 128 + 128) + 2 * (256 + 128) + 1)
    + (16 * (128 + 128 * 256) + 128 + 2 * 256 + 4097),
}
NO_TORCH = "PyTorch is not installed: nothing is measured beside it"

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from Linux's /proc"
)


def check(task, case, process):
    """Check that weights, both moments and the larger player's gradients are live, all once."""
    weights = WEIGHTS[task]
    assert case["weights_and_moments"] == 12 * weights
    assert 14 * weights < case["live"] < 24 * weights
    assert 10e6 < case["imported"] < case["trained"] < process
    assert case["trained"] > case["imported"] + case["live"]


@pytest.mark.slow
def test_minigans_processes_are_measured_apart_from_this_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    ballast = bytearray(600_000_000)  # which ru_maxrss would count in a child process too
    ballast[::4096] = b"1" * len(ballast[::4096])
    output = io.StringIO()
    result = bench.run(["memory"], output=output, plan=SMALL, threads=1)
    assert memory.peak_resident_bytes(os.getpid()) > 600e6
    cases = result["memory"]
    own = ["minigan", "minigan, eager"]
    assert [(x["task"], x["contender"]) for x in cases] == [(x, y) for x in WEIGHTS for y in own]
    for case in cases:
        check(case["task"], case, 600e6)
    text = output.getvalue()
    assert text.count("PyTorch, fused Adam  not installed") == 2
    for task, weights in WEIGHTS.items():
        assert f"{task}: weights and moments, {format_number(12 * weights / 1e6)} MB" in text


def test_untouched_memory_is_not_resident():
    untouched = np.empty(2**33, np.uint8)
    assert 10e6 < memory.peak_resident_bytes(os.getpid()) < untouched.nbytes


@pytest.mark.slow
def test_pytorchs_process_is_measured_and_imports_neither_minigan_nor_numba(monkeypatch, tmp_path):
    pytest.importorskip("torch", reason=NO_TORCH)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['minigan'] = sys.modules['numba'] = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)  # Every child process imports it at its start.
    for name, task in SMALL.tasks.items():
        check(name, memory._run_process(memory.PEER, task, SMALL, 1), 2e9)
    with pytest.raises(RuntimeError, match="process of 'minigan' failed: ModuleNotFoundError"):
        memory._run_process(MINIGAN, MLP, SMALL, 1)


def test_failed_process_is_an_error_with_its_last_line(monkeypatch):
    script = "print('imported', flush=True); input(); raise SystemExit('no luck')"
    monkeypatch.setitem(memory.COMMANDS, memory.PEER, ["-c", script])
    with pytest.raises(RuntimeError, match="process of 'PyTorch, fused Adam' failed: no luck"):
        memory._run_process(memory.PEER, MLP, SMALL, 1)


def test_table_has_ratios_to_pytorch():
    cases = [
        {
            "task": "MLP",
            "contender": name,
            "weights_and_moments": 10**6,
            "imported": 10**7,
            "trained": size,
            "live": live,
        }
        for name, size, live in (
            ("minigan", 10**8, 2 * 10**6),
            ("minigan, eager", 2 * 10**8, 3 * 10**6),
            ("PyTorch, fused Adam", 4 * 10**8, 5 * 10**6),
        )
    ]
    rows = [line.split() for line in memory.report(cases).splitlines()[-3:]]
    assert rows[0] == ["minigan", "10.0", "100", "4.00", "2.00", "2.50", "1.00", "4.00"]
    assert rows[1][-6:] == ["200", "2.00", "3.00", "1.67", "2.00", "2.00"]
    assert rows[2][-6:] == ["400", "1.00", "5.00", "1.00", "4.00", "1.00"]
