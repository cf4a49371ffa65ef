"""`minigan bench --devices`: kernels and training steps on several devices, over sizes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from ..engine.device import Device, get_device
from ..engine.random import fork_rng
from ..kernels.runtime.cuda.launcher import OutOfMemoryError
from ..utils.names import choose
from . import device_report, lower_bound, tasks
from .harness import (
    FilePath,
    check_options,
    error_line,
    progress_bar,
    write_result,
)
from .kernels import KERNELS
from .machine import describe, header, thread_count
from .peers import load
from .plan import DevicePlan
from .timing import Call, Group, measure, run_calls

STEP = "step"
PYTORCH_DEVICES = {"cuda": "cuda"}  # minigan's device: PyTorch's device measured beside it


@dataclass(frozen=True)
class DeviceCase:
    """One case, and the functions with which each contender runs it.

    Args:
        fields: the case for tables and JSON; "work" compares the cases of one series.
        build_call: returns the function that a device is timed with.
        peer_makers: `(PyTorch's module, its device)` returns by name the makers of peers' calls.
    """

    fields: dict[str, Any]
    build_call: Callable[[Device], Call]
    peer_makers: Callable[[ModuleType, str], dict[str, Callable[[], Call]]]


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

    Call it in a new process, like `bench.run`, which has the same arguments.

    Args:
        devices: the devices to compare, the first with each of the others.
        names: of `KERNELS` and "step"; none means all.
        figure_path: a PNG of time against size, kernel by kernel.

    Raises:
        ValueError: an unknown name; repeats or threads out of range; no folder to write to; a
            figure without a kernel.
        KernelError: a device is not available.
    """
    choices = {name: name for name in (*KERNELS, STEP)}
    selected = [choose("benchmark", x, choices) for x in dict.fromkeys(names)] or list(choices)
    check_options(repeats, json_path, figure_path)
    if figure_path is not None and selected == [STEP]:
        raise ValueError(f"{figure_path}: a figure shows kernels, and none is to be measured")
    by_name = {device.name: device for device in map(get_device, devices)}
    plan, output = plan or DevicePlan(), output or sys.stdout
    # PyTorch is imported before numba starts its threads, see `bench.run`.
    pytorch = load("pytorch_device") if PYTORCH_DEVICES.keys() & by_name.keys() else None
    with thread_count(threads, *filter(None, [pytorch])) as count, fork_rng():
        machine = {**describe(count), **_describe_devices(by_name)}
        print(f"{header(machine)}\n{device_report.header(machine)}", file=output, flush=True)
        result: dict[str, Any] = {"machine": machine, "repeats": repeats, "plan": asdict(plan)}
        result |= {"devices": list(by_name), "series": {}, "skipped": {}}
        for name in selected:
            series = Series(name, by_name, pytorch, plan)
            cases = series.measure(repeats)
            result["series"][name], result["skipped"][name] = cases, series.skipped
            text = device_report.table(name, cases, list(by_name), series.skipped)
            print(f"\n{text}", file=output, flush=True)
            written = write_result(result, json_path)  # after each: a run may be cut off
    if figure_path is not None:
        device_report.draw(written, Path(figure_path))
    return written


def _describe_devices(devices: Mapping[str, Device]) -> dict[str, Any]:
    """Return each device's compiler or GPU, the GPU's driver if there is one, and the date."""
    launchers = {name: getattr(device, "launcher", None) for name, device in devices.items()}
    return {
        "devices": {name: x.describe() for name, x in launchers.items() if x is not None},
        "driver": driver_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver as nvidia-smi prints it, or None."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return process.stdout.split("\n")[0].strip() or None if process.returncode == 0 else None


# ------------------------------------------------------------------------------------------- cases
def _kernel_cases(name: str, plan: DevicePlan) -> Iterable[DeviceCase]:
    kernel = KERNELS[name]
    for fields in kernel.cases(name, plan):
        size = fields["size"]
        yield DeviceCase(
            fields, partial(kernel.build_call, size=size), partial(_kernel_peers, name, size)
        )


def _kernel_peers(
    name: str, size: int, pytorch: ModuleType, device: str
) -> dict[str, Callable[[], Call]]:
    kernel = KERNELS[name]
    makers: dict[str, Callable[[], Call]] = pytorch.kernel_calls(
        name, partial(kernel.arrays, size), kernel.bytes(size), device
    )
    return makers


def _step_cases(plan: DevicePlan) -> Iterable[DeviceCase]:
    """Yield each task and batch of the plan.

    "work" is the multiply-adds of the step, "bytes" the size of weights, gradients and moments.
    """
    for name, task in plan.tasks.items():
        count = lower_bound.parameter_count(task)
        size = lower_bound.ADAM_ARRAYS * lower_bound.FLOAT_BYTES * count
        for batch in task.batches:
            work = lower_bound.multiply_adds(task, batch)
            yield DeviceCase(
                {"task": name, "batch": batch, "work": work, "bytes": size},
                partial(tasks.device_step, task, batch),
                partial(tasks.peer_steps, task, batch),
            )


# ------------------------------------------------------------------------------------ measurements
class Series:
    """The cases of one benchmark in increasing sizes, and the contenders that are still measured.

    A contender that fails at one size, or takes too much time or memory, is not measured at larger
    ones; `skipped` has the reason by name.
    """

    def __init__(
        self,
        name: str,
        devices: Mapping[str, Device],
        pytorch: ModuleType | None,
        plan: DevicePlan,
    ) -> None:
        self.name, self.devices, self.pytorch, self.plan = name, devices, pytorch, plan
        self.skipped: dict[str, str] = {}
        # Seconds per unit of work at the previous size, of the devices that are still measured.
        self.rates = dict.fromkeys(devices, 0.0)
        self.task: str | None = None  # of the previous training step

    def measure(self, repeats: int) -> list[dict[str, Any]]:
        """Return the cases that at least one device could run, with their samples."""
        plan, is_step = self.plan, self.name == STEP
        cases = list(_step_cases(plan) if is_step else _kernel_cases(self.name, plan))
        seconds = plan.step_seconds if is_step else plan.kernel_seconds
        results: list[dict[str, Any]] = []
        with progress_bar(self.name, len(cases)) as bar:
            for case in cases:
                calls = self._device_calls(case)
                calls |= self._peer_calls(case, calls)
                group = Group(
                    [case.fields],
                    {name: [call] for name, (call, _) in calls.items()},
                    seconds,
                    {name: wait for name, (_, wait) in calls.items()},
                )
                if calls:
                    results += measure(group, repeats, plan.rest_seconds, lambda: None)
                bar.update()
        return results

    def _device_calls(self, case: DeviceCase) -> dict[str, tuple[Call, Call]]:
        """Return (call, wait) by device, for the devices within the limits of memory and time."""
        calls: dict[str, tuple[Call, Call]] = {}
        work, limit = case.fields["work"], self.plan.max_call_seconds
        if case.fields.get("task") != self.task:
            # A larger task may be the more efficient one: its time is not predicted from another's.
            self.task, self.rates = case.fields.get("task"), dict.fromkeys(self.rates, 0.0)
        for name, rate in list(self.rates.items()):
            wait = self.devices[name].synchronize
            try:
                self._check_host_memory(name, case.fields["bytes"])
                # A call takes at least about half of what the smaller case predicts.
                seconds = rate * work / 2
                if seconds <= limit:
                    call = case.build_call(self.devices[name])
                    run_calls(call, 1, wait)  # The first call compiles.
                    seconds = run_calls(call, 1, wait)
                if seconds > limit:
                    raise _LimitExceededError(f"a larger case's call takes more than {limit} s")
            except _LimitExceededError as error:
                self.skipped[name] = str(error)
                del self.rates[name]
            except (MemoryError, OutOfMemoryError) as error:
                self.skipped[name] = error_line(error)
                del self.rates[name]
            else:
                self.rates[name] = seconds / work
                calls[name] = call, wait
        return calls

    def _check_host_memory(self, device: str, size: int) -> None:
        limit = self.plan.max_host_bytes
        if device != "cuda" and size > limit:
            raise _LimitExceededError(f"larger cases take more than {limit:,} bytes of memory")

    def _peer_calls(
        self, case: DeviceCase, devices: Container[str]
    ) -> dict[str, tuple[Call, Call]]:
        """Return (call, wait) by peer, for the peers of the devices that run the case."""
        calls: dict[str, tuple[Call, Call]] = {}
        if self.pytorch is None:
            return calls
        for device, pytorch_device in PYTORCH_DEVICES.items():
            if device not in devices:
                continue
            wait = self.pytorch.wait(pytorch_device)
            for name, make in case.peer_makers(self.pytorch, pytorch_device).items():
                if name in self.skipped:
                    continue
                try:
                    call = make()
                    run_calls(call, 2, wait)
                except Exception as error:  # A peer may be of any version, and raise anything.
                    self.skipped[name] = error_line(error)
                else:
                    calls[name] = call, wait
        return calls


class _LimitExceededError(Exception):
    """A case takes more time or memory than the plan allows."""
