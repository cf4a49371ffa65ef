"""`minigan bench memory`: the memory of a process that trains a GAN, beside the same in PyTorch.

Every contender trains alone in a new process. Three numbers are measured:

- resident memory after the import of the library, and its peak during training, as Linux reports
  it (VmHWM; getrusage's ru_maxrss would start from the value of the parent process).
- the peak size of live arrays while networks and optimizers are created and train a few steps:
  weights, moments, gradients, activations, the batch. minigan's is measured by tracemalloc, which
  counts numpy's allocations and, to minigan's disadvantage, Python's own objects; kernels have been
  loaded before. PyTorch's is measured by its profiler, which counts every storage. Neither counts
  memory that a kernel allocates within a call. minigan's kernels get workspaces as arrays, which
  count; PyTorch's libraries allocate theirs otherwise. Resident memory includes both.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import Any

from ..kernels.runtime import host_memory
from ..kernels.runtime.files import search_path
from . import peers
from .harness import progress_bar
from .lower_bound import parameter_count
from .plan import Plan, Task
from .steps import EAGER
from .table import format_number, format_table
from .tasks import minigan_step, peer_arguments
from .timing import MINIGAN, Case

PEER = "PyTorch, fused Adam"
CHILD = """import minigan
print("imported", flush=True)
input()
from minigan.bench import memory
memory.child()"""
# Arguments of the Python interpreter, by contender. PyTorch's process never imports minigan.
COMMANDS = {
    MINIGAN: ["-c", CHILD],
    EAGER: ["-c", CHILD],
    PEER: [str(Path(peers.__file__).with_name("pytorch_memory.py"))],
}
LIVE_STEPS = 3  # The first step is recorded, the others are replayed.
BYTES_PER_PARAMETER = 12  # weight and two moments of Adam, float32
TASKS = ("MLP", "DCGAN")  # of the plan's


# ------------------------------------------------------------------------------- the parent process
def measure(plan: Plan, threads: int) -> list[dict[str, Any]]:
    """Return a case for each task and contender, in bytes; PyTorch's only if it is installed.

    Raises:
        RuntimeError: a contender's process fails, or the system has no /proc.
    """
    tasks = [name for name in TASKS if name in plan.tasks]
    contenders = [name for name in COMMANDS if name != PEER or find_spec("torch") is not None]
    with progress_bar("memory", len(tasks) * len(contenders)) as bar:
        cases = []
        for name in tasks:
            task = plan.tasks[name]
            _train(task, True, 1)  # Fills the cache of compiled kernels for the processes.
            for contender in contenders:
                cases.append({"task": name, **_run_process(contender, task, plan, threads)})
                bar.update()
    return cases


def _run_process(contender: str, task: Task, plan: Plan, threads: int) -> dict[str, Any]:
    """Run a contender's process. It prints a stage and waits while its peak memory is read."""
    parameter_bytes = BYTES_PER_PARAMETER * parameter_count(task)
    case: dict[str, Any] = {"contender": contender, "weights_and_moments": parameter_bytes}
    options = json.dumps(_child_options(contender, task, plan, threads))
    command = [sys.executable, "-P", *COMMANDS[contender], options]
    path = {"PYTHONPATH": search_path()}
    with (
        tempfile.TemporaryFile("w+") as errors,  # PyTorch's profiler writes messages to stderr.
        subprocess.Popen(
            command, stdin=PIPE, stdout=PIPE, stderr=errors, text=True, env={**os.environ, **path}
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            stage, *size = line.split()
            if size:
                case[stage] = int(size[0])
            else:
                case[stage] = peak_resident_bytes(process.pid)
                print("continue", file=process.stdin, flush=True)
        if process.wait() != 0:
            errors.seek(0)
            last_line = errors.read().strip().split("\n")[-1]
            raise RuntimeError(f"memory: the process of {contender!r} failed: {last_line}")
    return case


def _child_options(contender: str, task: Task, plan: Plan, threads: int) -> dict[str, Any]:
    """Return the options of a contender's process, in JSON types."""
    options: dict[str, Any] = {"threads": threads, "steps": plan.memory_steps}
    options["live_steps"] = LIVE_STEPS
    if contender != PEER:
        return {**options, "task": pickle.dumps(task).hex(), "captured": contender == MINIGAN}
    arguments = peer_arguments(task, task.batches[0])
    players = [arguments.pop(name)[0] for name in ("player_g", "player_d")]
    data_shape = arguments.pop("data").shape
    return {**options, "players": players, "data_shape": data_shape, "arguments": arguments}


def peak_resident_bytes(pid: int) -> int:
    """Return the peak resident memory of a process since its program was started."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        raise RuntimeError("memory: resident memory is read from Linux's /proc") from None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


# -------------------------------------------------------------------------------- the child process
def child() -> None:
    """Train in minigan's process, captured or eager, after it has imported minigan."""
    import numba

    options = json.loads(sys.argv[1])
    numba.set_num_threads(options["threads"])
    task: Task = pickle.loads(bytes.fromhex(options["task"]))
    _train(task, options["captured"], options["steps"])
    print("trained", flush=True)
    input()
    host_memory.MAX_BYTES = 0  # Each array has memory of its own, which tracemalloc counts.
    tracemalloc.start()
    _train(task, options["captured"], options["live_steps"])
    print("live", tracemalloc.get_traced_memory()[1])


def _train(task: Task, captured: bool, steps: int) -> None:
    """Train new networks on one batch."""
    step = minigan_step(task, task.build_networks(), task.batches[0], captured=captured)
    for _ in range(steps):
        step()


# ------------------------------------------------------------------------------------------ report
def report(cases: Sequence[Case]) -> str:
    """Return a table for each task."""
    title = (
        "memory: a process that trains a GAN, both players, float32, MB\n"
        "resident memory after the import, and its peak in training; the peak of live arrays,\n"
        "and what of them is not weights or Adam's moments\n"
        f"ratio = {PEER} / this row, higher is better"
    )
    tasks = dict.fromkeys(case["task"] for case in cases)
    return "\n\n".join([title, *(_table([x for x in cases if x["task"] == y]) for y in tasks)])


def _table(cases: Sequence[Case]) -> str:
    """Return the table of one task."""
    sizes = {case["contender"]: _sizes(case) for case in cases}
    rows = []
    for name in COMMANDS:
        if name not in sizes:
            rows.append([name, "not installed", *[""] * 6])
            continue
        imported, *peaks = sizes[name]
        row = [name, _megabytes(imported)]
        for i, size in enumerate(peaks, 1):
            row.append(_megabytes(size))
            row.append(format_number(sizes[PEER][i] / size) if PEER in sizes else "-")
        rows.append(row)
    heads = ["", "imported", "resident", "ratio", "arrays", "ratio", "other arrays", "ratio"]
    fixed = _megabytes(cases[0]["weights_and_moments"])
    return f"{cases[0]['task']}: weights and moments, {fixed} MB\n{format_table(heads, rows)}"


def _sizes(case: Case) -> tuple[int, int, int, int]:
    other = case["live"] - case["weights_and_moments"]
    return case["imported"], case["trained"], case["live"], other


def _megabytes(size: int) -> str:
    return format_number(size / 1e6)
