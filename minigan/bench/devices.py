"""`minigan bench --devices`: kernels and training steps on several devices, over sizes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from ..engine.device import Device, get_device
from ..kernels.runtime.cuda.launcher import OutOfMemoryError
from ..utils.names import choose
from . import device_report, games
from .harness import (
    FilePath,
    check_request,
    finished,
    first_line,
    progress_bar,
    same_random_numbers,
)
from .kernels import KERNELS
from .machine import describe, header, thread_count
from .peers import load
from .plan import DevicePlan
from .timing import Call, Group, measure, run_calls

STEP = "step"
# Which of PyTorch's devices stands beside ours, where PyTorch is installed.
PYTORCH_DEVICES = {"cuda": "cuda"}


@dataclass(frozen=True)
class Contest:
    """One case: what it is, and who can do it.

    Args:
        case: for tables and JSON; its "work" says how cases of one series compare.
        ready: makes what a device calls.
        peers: `(PyTorch's module, its device)` gives by name what makes the peers' calls.
    """

    case: dict[str, Any]
    ready: Callable[[Device], Call]
    peers: Callable[[ModuleType, str], dict[str, Callable[[], Call]]]


def run(
    devices: Sequence[str | Device],
    names: Sequence[str] = (),
    *,
    repeats: int = 9,
    threads: int | None = None,
    output: TextIO | None = None,
    json_path: FilePath = None,
    figure_path: FilePath = None,
    plan: DevicePlan | None = None,
) -> dict[str, Any]:
    """Measure on every device, print tables, and return machine, plan and all samples.

    To be called in a fresh process, like `bench.run`, whose arguments are here too.

    Args:
        devices: what is compared, the first with each of the others.
        names: of `KERNELS` and "step"; none means all.
        figure_path: a PNG of time against size, kernel by kernel.

    Raises:
        ValueError: an unknown name; repeats or threads out of range; no folder to write to; a
            figure without a kernel.
        KernelError: a device is not there.
    """
    series = {name: name for name in (*KERNELS, STEP)}
    chosen = [choose("benchmark", name, series) for name in dict.fromkeys(names)] or list(series)
    check_request(repeats, json_path, figure_path)
    if figure_path is not None and chosen == [STEP]:
        raise ValueError(f"{figure_path}: a figure shows kernels, and none is to be measured")
    found = {device.name: device for device in map(get_device, devices)}
    plan, output = plan or DevicePlan(), output or sys.stdout
    asked = [name for name in found if name in PYTORCH_DEVICES]
    pytorch = load("pytorch_device") if asked else None  # before numba starts its threads
    with thread_count(threads, *filter(None, [pytorch])) as count, same_random_numbers():
        machine = {**describe(count), **_describe(found)}
        print(f"{header(machine)}\n{device_report.header(machine)}", file=output, flush=True)
        result: dict[str, Any] = {"machine": machine, "repeats": repeats, "plan": asdict(plan)}
        result |= {"devices": list(found), "series": {}, "left_out": {}}
        for name in chosen:
            contests = list(_steps(plan) if name == STEP else _kernel(name, plan))
            measured, left_out = _series(name, contests, found, pytorch, repeats, plan)
            result["series"][name], result["left_out"][name] = measured, left_out
            text = device_report.table(name, measured, list(found), left_out)
            print(f"\n{text}", file=output, flush=True)
    result = finished(result, json_path)
    if figure_path is not None:
        device_report.draw(result, Path(figure_path))
    return result


def _describe(devices: Mapping[str, Device]) -> dict[str, Any]:
    """What runs each device's kernels, the GPU's driver if there is one, and the date."""
    launchers = {name: getattr(device, "launcher", None) for name, device in devices.items()}
    return {
        "devices": {name: x.describe() for name, x in launchers.items() if x is not None},
        "driver": driver(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def driver() -> str | None:
    """The NVIDIA driver's version, as nvidia-smi says it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() or None if done.returncode == 0 else None


# -------------------------------------------------------------------------------------- contests
def _kernel(name: str, plan: DevicePlan) -> Iterable[Contest]:
    kernel = KERNELS[name]
    for case in kernel.cases(name, plan):
        yield Contest(
            case,
            partial(kernel.ready, size=case["size"]),
            partial(_kernel_peers, name, case["size"]),
        )


def _kernel_peers(
    name: str, size: int, pytorch: ModuleType, device: str
) -> dict[str, Callable[[], Call]]:
    kernel = KERNELS[name]
    makers: dict[str, Callable[[], Call]] = pytorch.kernel_calls(
        name, partial(kernel.arrays, size), kernel.bytes(size), device
    )
    return makers


def _steps(plan: DevicePlan) -> Iterable[Contest]:
    for case in games.cases(plan):
        given = plan.games[case["game"]], case["batch"]
        yield Contest(case, partial(games.ready, *given), partial(games.peers, *given))


# ----------------------------------------------------------------------------------- measurements
def _series(
    name: str,
    contests: Sequence[Contest],
    devices: Mapping[str, Device],
    pytorch: ModuleType | None,
    repeats: int,
    plan: DevicePlan,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """(cases with their samples, the smallest first, by who can afford them; who cannot, and why)

    Who leaves the race at one size is not in it at a larger one.
    """
    rates = dict.fromkeys(devices, 0.0)  # seconds per work, of those still in the race
    found: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    seconds = plan.step_seconds if name == STEP else plan.kernel_seconds
    with progress_bar(name, len(contests), "case") as bar:
        for contest in contests:
            calls, waits = _own(contest, devices, rates, left_out, plan)
            if pytorch is not None:
                _add_peers(contest, pytorch, calls, waits, left_out)
            group = Group([contest.case], {k: [call] for k, call in calls.items()}, seconds, waits)
            if calls:
                found += measure(group, repeats, plan.rest_seconds, lambda: None)
            bar.update()
    return found, left_out


def _own(
    contest: Contest,
    devices: Mapping[str, Device],
    rates: dict[str, float],
    left_out: dict[str, str],
    plan: DevicePlan,
) -> tuple[dict[str, Call], dict[str, Call]]:
    """Calls and waits of the devices that have the memory and the time; others leave the race."""
    calls: dict[str, Call] = {}
    waits: dict[str, Call] = {}
    work = contest.case["work"]
    for name, rate in list(rates.items()):
        wait = devices[name].synchronize
        try:
            if name != "cuda" and contest.case["bytes"] > plan.host_bytes:
                raise _TooDear(f"larger cases take more than {plan.host_bytes:,} bytes of memory")
            took = rate * work / 2  # what a call will take, or less
            if took <= plan.longest:
                call = contest.ready(devices[name])
                run_calls(call, 1, wait)  # compiles
                took = run_calls(call, 1, wait)
            if took > plan.longest:
                raise _TooDear(f"a larger case's call takes more than {plan.longest} s")
        except (MemoryError, OutOfMemoryError, _TooDear) as error:
            left_out[name] = str(error) if isinstance(error, _TooDear) else first_line(error)
            del rates[name]
        else:
            rates[name] = took / work
            calls[name], waits[name] = call, wait
    return calls, waits


def _add_peers(
    contest: Contest,
    pytorch: ModuleType,
    calls: dict[str, Call],
    waits: dict[str, Call],
    left_out: dict[str, str],
) -> None:
    """Peers run where one of ours does. One that fails is named, and left out from there on."""
    for ours, theirs in PYTORCH_DEVICES.items():
        if ours not in calls:
            continue
        wait = pytorch.wait(theirs)
        for name, make in contest.peers(pytorch, theirs).items():
            if name in left_out:
                continue
            try:
                call = make()
                run_calls(call, 2, wait)
            except Exception as error:  # others' software, of any version
                left_out[name] = first_line(error)
                continue
            calls[name], waits[name] = call, wait


class _TooDear(Exception):
    """A case that the plan does not spend so much on."""
