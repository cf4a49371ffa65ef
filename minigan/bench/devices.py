"""`minigan bench --devices`: kernels and training steps on several devices, over sizes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
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
from .steps import EAGER
from .timing import Call, Group, measure, run_calls

STEP = "step"
JAX = "JAX"
PEER_DEVICES = {"cuda": "cuda"}  # minigan's device: the peers' device measured beside it


@dataclass(frozen=True)
class DeviceCase:
    """One case, and the functions with which each contender runs it.

    Args:
        fields: the case for tables and JSON; "work" compares the cases of one series.
        build_call: returns the function that a device is timed with.
        peer_makers: `(a peer's module, its device)` returns by name the makers of peers' calls.
        build_eager: returns the same step uncaptured; None: a kernel, which is not captured.
    """

    fields: dict[str, Any]
    build_call: Callable[[Device], Call]
    peer_makers: Callable[[ModuleType, str], dict[str, Callable[[], Call]]]
    build_eager: Callable[[Device], Call] | None = None


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
    contenders: Collection[str] | None = None,
    peer_devices: Mapping[str, str] | None = None,
    keep_going: bool = False,
) -> dict[str, Any]:
    """Measure on every device, print tables, and return machine, plan and all samples.

    The JSON file is written after each case: a run may be cut off.

    Call it in a new process, like `bench.run`, which has the same arguments.

    Args:
        devices: the devices to compare, the first with each of the others.
        names: of `KERNELS` and "step"; none means all.
        figure_path: a PNG of time against size, kernel by kernel.
        contenders: what is measured beside the devices, by the name in the tables; None: what
            PyTorch has. Only named ones include "JAX" and "minigan, eager".
        peer_devices: the peers' device beside each of minigan's; None: a GPU's.
        keep_going: whether the others go on if a benchmark fails; the result names it in "failed".

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
    peer_devices = PEER_DEVICES if peer_devices is None else peer_devices
    # Peers are imported before numba starts its threads, see `bench.run`.
    has_peers = bool(peer_devices.keys() & by_name.keys())
    pytorch = load("pytorch_device") if has_peers else None
    jax = load("xla_device") if has_peers and JAX in (contenders or ()) else None
    with thread_count(threads, *filter(None, [pytorch])) as count, fork_rng():
        machine = {**describe(count), **describe_devices(by_name)}
        print(f"{header(machine)}\n{device_report.header(machine)}", file=output, flush=True)
        result: dict[str, Any] = {"machine": machine, "repeats": repeats, "plan": asdict(plan)}
        result |= {"devices": list(by_name), "series": {}, "skipped": {}, "failed": {}}
        for name in selected:
            modules = list(filter(None, [pytorch, jax if name == STEP else None]))
            series = Series(name, by_name, modules, plan, contenders, peer_devices)
            cases = result["series"][name] = []
            result["skipped"][name] = series.skipped
            try:
                for case in series.measure(repeats):
                    cases.append(case)
                    write_result(result, json_path)
            except Exception as error:
                if not keep_going:
                    raise
                result["failed"][name] = error_line(error)
                print(f"\n{name} failed: {error_line(error)}", file=output, flush=True)
            text = device_report.table(name, cases, list(by_name), series.skipped)
            print(f"\n{text}", file=output, flush=True)
            written = write_result(result, json_path)
    if figure_path is not None:
        device_report.draw(written, Path(figure_path))
    return written


def describe_devices(devices: Mapping[str, Device]) -> dict[str, Any]:
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
    name: str, size: int, peer: ModuleType, device: str
) -> dict[str, Callable[[], Call]]:
    kernel = KERNELS[name]
    makers: dict[str, Callable[[], Call]] = peer.kernel_calls(
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
                partial(tasks.device_step, task, batch, captured=False),
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
        peers: Sequence[ModuleType],
        plan: DevicePlan,
        contenders: Collection[str] | None = None,
        peer_devices: Mapping[str, str] = PEER_DEVICES,
    ) -> None:
        self.name, self.devices, self.peers, self.plan = name, devices, peers, plan
        self.contenders, self.peer_devices = contenders, peer_devices
        self.skipped: dict[str, str] = {}
        # Seconds per unit of work at the previous size, of the devices that are still measured.
        self.rates = dict.fromkeys(devices, 0.0)
        self.task: str | None = None  # of the previous training step

    def measure(self, repeats: int) -> Iterator[dict[str, Any]]:
        """Yield the cases that at least one device could run, with their samples."""
        plan, is_step = self.plan, self.name == STEP
        cases = list(_step_cases(plan) if is_step else _kernel_cases(self.name, plan))
        seconds = plan.step_seconds if is_step else plan.kernel_seconds
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
                    yield from measure(group, repeats, plan.rest_seconds, lambda: None)
                bar.update()

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
        """Return (call, wait) by contender, for those beside the devices that run the case."""
        calls: dict[str, tuple[Call, Call]] = {}
        for name, make, wait in self._peer_makers(case, devices):
            if name in self.skipped or not (self.contenders is None or name in self.contenders):
                continue
            try:
                call = make()
                run_calls(call, 2, wait)
            except Exception as error:  # A peer may be of any version, and raise anything.
                self.skipped[name] = error_line(error)
            else:
                calls[name] = call, wait
        return calls

    def _peer_makers(
        self, case: DeviceCase, devices: Container[str]
    ) -> Iterator[tuple[str, Callable[[], Call], Call]]:
        """Yield (name, maker of its call, wait); minigan's own eager step only if it is named."""
        for name, peer_device in self.peer_devices.items():
            if name not in devices:
                continue
            if case.build_eager is not None and self.contenders is not None:
                device = self.devices[name]
                yield EAGER, partial(case.build_eager, device), device.synchronize
            for peer in self.peers:
                wait = peer.wait(peer_device)
                for peer_name, make in case.peer_makers(peer, peer_device).items():
                    yield peer_name, make, wait


class _LimitExceededError(Exception):
    """A case takes more time or memory than the plan allows."""
