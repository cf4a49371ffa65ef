"""Measure one part: `python -m minigan.bench.gpu.measure PART DEVICE FILE.json`, for the runner."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ...engine.device import get_device
from ...utils.progress import announce_kernels
from .. import device_code, devices
from ..harness import write_result
from ..machine import describe, thread_count
from .settings import COMPILED_STEPS, KERNEL_ORDER, QUICK_STEPS, SETTINGS

# Programs whose output describes the machine, in the order in which they are asked.
PROGRAMS = {
    "nvidia-smi": ("nvidia-smi",),
    "nvcc": ("nvcc", "--version"),
    "compute-sanitizer": ("compute-sanitizer", "--version"),
    "lscpu": ("lscpu",),
}
PROGRAM_SECONDS = 10
PACKAGES = ("minigan", "cupy", "torch", "jax", "nvidia", "triton")  # first words of their names


def machine(device: str, path: Path) -> None:
    """Write the device, the versions of packages, and what programs print of the machine."""
    with thread_count(None) as threads:
        result = describe(threads)
    result |= devices.describe_devices({device: get_device(device)})
    result["installed"] = dict(
        sorted(
            (x.name, x.version)
            for x in metadata.distributions()
            if x.name.lower().startswith(PACKAGES)
        )
    )
    result["programs"] = {name: _output(command) for name, command in PROGRAMS.items()}
    result["predicted"] = _predictions(result["devices"][device].get("gpu", device))
    write_result(result, path)
    for name, text in (*result["installed"].items(), *result["programs"].items()):
        print(f"{name}: {text}")


def _predictions(gpu_name: str) -> dict[str, float] | str:
    """Return the speeds that `minigan bench --device-code` predicts, or why there are none."""
    try:
        return device_code.predict_benchmarks(gpu_name)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        return f"none: {error}"


def _output(command: Sequence[str]) -> str:
    """Return what a program prints, or why it prints nothing."""
    if shutil.which(command[0]) is None:
        return "not found"
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (process.stdout or process.stderr).strip()


def _run(
    names: Sequence[str], plan: str, contenders: Sequence[str] | None, cpu: bool = False
) -> Callable[[str, Path], None]:
    """Return a function that measures benchmarks on the device, beside the contenders."""

    def measure(device: str, path: Path) -> None:
        settings = SETTINGS[device]
        result = devices.run(
            [*["cpu"] * cpu, device],
            names,
            repeats=settings.repeats,
            json_path=path,
            plan=getattr(settings, plan),
            contenders=contenders,
            peer_devices={device: settings.peer_device},
            keep_going=True,
        )
        failed = [f"{name}: {error}" for name, error in result["failed"].items()]
        if failed:
            sys.exit(f"{len(failed)} of {len(names)} benchmarks failed: {'; '.join(failed)}")

    return measure


MEASUREMENTS: dict[str, Callable[[str, Path], None]] = {
    "machine": machine,
    "kernels": _run(KERNEL_ORDER, "kernels", None),
    "steps": _run([devices.STEP], "steps", QUICK_STEPS),
    "compiled": _run([devices.STEP], "steps", COMPILED_STEPS),
    "sizes": _run([*KERNEL_ORDER, devices.STEP], "sizes", None, cpu=True),
}


def main(part: str, device: str, path: str) -> Any:
    """Measure a part on a device, and write its file as it goes on."""
    announce_kernels(device)
    MEASUREMENTS[part](device, Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
