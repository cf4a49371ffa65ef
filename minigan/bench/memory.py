"""`minigan bench memory`: what a process that trains a GAN takes, beside the same in PyTorch.

Every contender trains alone in a fresh process. Three numbers of each:

- resident memory with the library imported, and at its peak in a hundred steps, as the kernel
  keeps it (VmHWM). getrusage's ru_maxrss would do, if a child did not inherit its parent's.
- live arrays at their peak while nets and optimizers are made anew and play a few steps: weights,
  moments, gradients, activations, the batch. Of minigan, tracemalloc sees what numpy takes, and
  counts Python's own objects in, which is against us; kernels have been loaded before. Of PyTorch,
  its profiler sees what every storage takes. Neither sees what a kernel takes for itself within a
  call; but minigan's kernels take workspaces as arrays, which count, where PyTorch's libraries
  have theirs by other ways, which do not: resident memory has both.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import Any

from . import peers
from .floor import parameters
from .games import BETAS, LEARNING_RATE, minigan_step, peer_arguments, real_batch
from .harness import progress_bar
from .plan import Game, Plan
from .steps import EAGER, OWN
from .table import number, render

PEER = "PyTorch, fused Adam"
CHILD = """import minigan
print("imported", flush=True)
input()
from minigan.bench import memory
memory.child()"""
# By name, what Python is told to run. PyTorch's process never loads minigan.
COMMANDS = {
    OWN: ["-c", CHILD],
    EAGER: ["-c", CHILD],
    PEER: [str(Path(peers.__file__).with_name("pytorch_memory.py"))],
}
LIVE_STEPS = 3  # the second replays what the first has noted
GAMES = ("MLP", "DCGAN")  # of the plan's


# ------------------------------------------------------------------------------------- the parent
def measure(plan: Plan, threads: int) -> list[dict[str, Any]]:
    """A case for each game and contender, in bytes; PyTorch's only where it is installed.

    Raises:
        RuntimeError: a contender's process fails, or the system has no /proc to read.
    """
    games = [name for name in GAMES if name in plan.games]
    names = [name for name in COMMANDS if name != PEER or find_spec("torch") is not None]
    with progress_bar("memory", len(games) * len(names), "process") as bar:
        found = []
        for game in games:
            _train(plan.games[game], True, 1)  # compiles what is not in the cache: no child has to
            for name in names:
                found.append({"game": game, **_watch(name, plan.games[game], plan, threads)})
                bar.update()
    return found


def _watch(name: str, game: Game, plan: Plan, threads: int) -> dict[str, Any]:
    """The life of one process: at "imported" and "trained" it waits until its memory is read."""
    (layers_g, _), (layers_d, _), data, apart, *_ = peer_arguments(game, game.batches[0])
    given: dict[str, Any] = {"threads": threads, "captured": name == OWN}
    given |= {"steps": plan.memory_steps, "live_steps": LIVE_STEPS}
    given |= {"game": pickle.dumps(game).hex()} if name != PEER else {}
    given |= {"players": [layers_g, layers_d], "data": data.shape, "apart": apart}
    given |= {"constants": [LEARNING_RATE, BETAS]}
    case: dict[str, Any] = {"contender": name, "fixed": 12 * parameters(game)}
    command = [sys.executable, "-P", *COMMANDS[name], json.dumps(given)]
    path = {"PYTHONPATH": os.pathsep.join(x or os.getcwd() for x in sys.path)}
    with (
        tempfile.TemporaryFile("w+") as errors,  # PyTorch's profiler chats there
        subprocess.Popen(
            command, stdin=PIPE, stdout=PIPE, stderr=errors, text=True, env={**os.environ, **path}
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            stage, *rest = line.split()
            if rest:
                case[stage] = int(rest[0])
            else:
                case[stage] = peak_resident(process.pid)
                print("go on", file=process.stdin, flush=True)
        if process.wait() != 0:
            errors.seek(0)
            said = errors.read().strip().split("\n")[-1]
            raise RuntimeError(f"memory: the process of {name!r} failed: {said}")
    return case


def peak_resident(pid: int) -> int:
    """Bytes of the most memory that a process has had since it was started as what it is."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        raise RuntimeError("memory: resident memory is read from /proc, as Linux has it") from None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


# -------------------------------------------------------------------------------------- the child
def child() -> None:
    """What minigan's process does, captured or eager, once it has imported minigan."""
    import numba

    given = json.loads(sys.argv[1])
    numba.set_num_threads(given["threads"])
    game: Game = pickle.loads(bytes.fromhex(given["game"]))
    _train(game, given["captured"], given["steps"])
    print("trained", flush=True)
    input()
    tracemalloc.start()
    _train(game, given["captured"], given["live_steps"])
    print("live", tracemalloc.get_traced_memory()[1])


def _train(game: Game, captured: bool, count: int) -> None:
    """New nets play that many steps on one batch."""
    step = minigan_step(*game.nets(), real_batch(game, game.batches[0]), captured=captured)
    for _ in range(count):
        step()


# ------------------------------------------------------------------------------------------ report
def report(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table for each game from what `measure` gave."""
    title = (
        "memory: a process that trains a GAN, both players, float32, MB\n"
        "resident when the library is imported, and at its peak in training; arrays alive at their"
        " peak,\nand what of them is more than weights and Adam's moments\n"
        f"ratio = {PEER} / this row, higher is better"
    )
    games = dict.fromkeys(case["game"] for case in cases)
    return "\n\n".join([title, *(_table([x for x in cases if x["game"] == y]) for y in games)])


def _table(cases: Sequence[Mapping[str, Any]]) -> str:
    """One game's."""
    found = {case["contender"]: _figures(case) for case in cases}
    rows = []
    for name in COMMANDS:
        if name not in found:
            rows.append([name, "not installed", *[""] * 6])
            continue
        row = [name, _mb(found[name][0])]
        for i in (1, 2, 3):
            row.append(_mb(found[name][i]))
            row.append(number(found[PEER][i] / found[name][i]) if PEER in found else "-")
        rows.append(row)
    heads = ["", "imported", "resident", "ratio", "arrays", "ratio", "of them more", "ratio"]
    fixed = _mb(cases[0]["fixed"])
    return f"{cases[0]['game']}: weights and moments, {fixed} MB\n{render(heads, rows)}"


def _figures(case: Mapping[str, Any]) -> tuple[int, int, int, int]:
    return case["imported"], case["trained"], case["live"], case["live"] - case["fixed"]


def _mb(size: int) -> str:
    return number(size / 1e6)
