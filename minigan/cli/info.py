"""`minigan info`: describe a run, or versions, the processor, and which kernel runs where."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.device import get_device
from ..engine.op import Op
from ..engine.update import Update
from ..kernels.runtime.files import cache_root
from ..utils.names import printable, shorten
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "run_folder", metavar="RUN", nargs="?", help="a run's folder to describe [this machine]"
    )


def run(options: argparse.Namespace) -> int:
    """Print the description of a run, or of this machine."""
    print(describe() if options.run_folder is None else describe_run(Path(options.run_folder)))
    return 0


def describe_run(folder: Path) -> str:
    """Return a run's data, progress and options, as several lines."""
    from ..training.best import read_best
    from ..training.config import Config
    from ..training.resume import read_run
    from ..training.run_folder import BEST
    from ..training.snapshots import snapshot_steps

    config, (_, info) = read_run(folder)
    data = info.get("data")
    text = config.data
    if data is not None:
        text = describe_data(config.data, data, data["classes"])
    default = Config().as_dict()
    options = [f"{k} = {x}" for k, x in config.as_dict().items() if x != default[k] and k != "data"]
    best = f"{read_best(folder / BEST)} ({BEST})" if (folder / BEST).exists() else "none"
    lines = [
        f"run            {folder.absolute()}",
        f"data           {text}",
        f"trained        {info['step']} of {config.steps} steps",
        f"snapshots      {', '.join(map(str, snapshot_steps(folder))) or 'none'}",
        f"best           {best}",
        f"options        {', '.join(options)}; all others at their defaults",
    ]
    return "\n".join(map(printable, lines))


def describe_data(name_or_path: str, digest: Mapping[str, Any], classes: int) -> str:
    """Return the name or path of data, the number of samples, and the classes."""
    text = f"{name_or_path}, {digest['samples']:,} samples of shape {tuple(digest['shape'])}"
    if classes:
        text += f", {classes} classes"
    names = digest["class_names"]
    return printable(f"{text} ({shorten(names)})" if names else text)


def describe() -> str:
    """Return versions, processor, caches, devices, and a table of ops, as several lines."""
    from ..engine.cpu import CpuDevice
    from ..engine.cuda import CudaDevice
    from ..kernels.runtime.cpu.compiler import compiled_folder, vector_bytes
    from ..kernels.runtime.cpu.thread_pool import threads

    cpu, emulator = get_device("cpu"), get_device("cuda-emulator")
    assert isinstance(cpu, CpuDevice)
    assert isinstance(emulator, CudaDevice)
    compiled = compiled_folder()
    bits = 8 * vector_bytes()
    packages = ", ".join(map(_installed, ("numpy", "numba", "matplotlib", "safetensors")))
    lines = [
        f"{_installed('minigan')} on Python {sys.version.split()[0]}, {packages}",
        f"processor      {processor()}",
        f"kernel cache   {compiled or 'none can be written; kernels are compiled in each process'}",
        f"data cache     {_cache('data')}",
        "",
        "device         runs on",
        "reference      numpy",
        f"cpu            numba, {bits}-bit vectors, {threads()} threads",
        f"cuda           {_launcher('cuda')}",
        f"cuda-emulator  {_launcher('cuda-emulator')}; cache {_cache('emulator')}",
        "",
        f"{'op or update':<22}{'reference':<12}{'cpu':<24}cuda, cuda-emulator",
    ]
    for name in [*Op.registry, *Update.registry]:
        lines.append(
            f"{name:<22}{'numpy':<12}{cpu.kernel_kind(name):<24}{emulator.kernel_kind(name)}"
        )
    return "\n".join(lines)


def _installed(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


def _cache(part: str) -> str:
    try:
        return str(cache_root() / part)
    except RuntimeError as error:
        return f"none: {error}"


def _launcher(name: str) -> str:
    """Return a description of the GPU or the emulator, or why the device is not available."""
    from ..kernels.runtime.cuda.launcher import KernelError

    try:
        properties = get_device(name).launcher.describe()  # type: ignore[attr-defined]
    except KernelError as error:
        return f"not here: {error}"
    return ", ".join(f"{key} {value}" for key, value in properties.items())


def processor() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = (
                next(line for line in file if line.startswith("model name")).split(":")[1].strip()
            )
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name} ({platform.machine()}), {cores} cores"
