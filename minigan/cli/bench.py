"""`minigan bench`: time kernels and steps beside their peers."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

from ..utils.names import choose
from ..utils.progress import announce_kernels
from .parser import Parser

REPEATS = 9


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="matmul (products, beside BLAS), step (training steps, beside PyTorch and JAX) [both];"
        " conv (convolutions, beside PyTorch), kernels (beside the machine's peaks and numpy),"
        " memory (of a training process, beside PyTorch); with --devices: matmul, conv2d,"
        " leaky_relu, exp, add, sum, transpose, gather, normalize, normalize_grad, adam, normal,"
        " step [all]",
    )
    parser.add_argument(
        "--devices",
        metavar="NAMES",
        help="compare devices over sizes, say cpu,cuda; a GPU beside PyTorch",
    )
    parser.add_argument(
        "--op",
        metavar="NAME",
        help="time any op beside its numpy reference: a name, or FILE.py:NAME of your own; with"
        " --devices on these [cpu]",
    )
    parser.add_argument(
        "--tasks",
        metavar="NAMES",
        help="the GANs to measure where step is the only NAME, say MLP,DCGAN [all]",
    )
    parser.add_argument(
        "--device-code",
        action="store_true",
        help="predict the CUDA kernels' speed from their machine code, without a GPU; NAMEs are"
        " then families of kernels, say matmul elementwise [all]",
    )
    parser.add_argument(
        "--capability",
        metavar="X.Y",
        help="the compute capability that --device-code compiles for [9.0]",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the table of --device-code as Markdown"
    )
    parser.add_argument(
        "--repeats", type=int, default=REPEATS, metavar="INT", help="number of rounds [%(default)s]"
    )
    parser.add_argument("--threads", type=int, metavar="INT", help="threads for every contender")
    parser.add_argument(
        "--vector-bytes",
        type=int,
        metavar="INT",
        help="limit the vectors of every contender to 16 (SSE4.2), 32 (AVX2) or 64 bytes",
    )
    parser.add_argument("--json", metavar="FILE", help="write machine and samples to this file")
    parser.add_argument(
        "--figure",
        metavar="FILE",
        help="write a .png: with the one NAME kernels, a roofline plot; with --devices, time"
        " against size",
    )


def run(options: argparse.Namespace) -> int:
    """Run the benchmarks, and print their tables."""
    from .. import bench
    from ..bench import devices

    if options.device_code:
        return _read_device_code(options)
    for flag in ("--capability", "--markdown"):
        if getattr(options, flag.lstrip("-")):
            raise ValueError(f"{flag} goes with --device-code")
    if options.vector_bytes is not None:
        return _run_limited(options)
    settings = {name: getattr(options, name) for name in ("names", "repeats", "threads")}
    settings |= {"output": sys.stdout, "json_path": options.json, "figure_path": options.figure}
    if options.op is not None:
        return _time_op(options)
    tasks = _split_names("tasks", options.tasks, "MLP,DCGAN")
    if options.devices is None:
        announce_kernels("cpu")
        bench.run(**settings, tasks=tasks)
        return 0
    if tasks:
        raise ValueError("--tasks does not go with --devices")
    devices.run(_device_names(options.devices), **settings)
    return 0


def _read_device_code(options: argparse.Namespace) -> int:
    """Predict the CUDA kernels' speed from their machine code."""
    from ..bench import device_code

    unset = {"devices": None, "op": None, "tasks": None, "threads": None, "vector_bytes": None}
    for name, default in {**unset, "repeats": REPEATS}.items():
        if getattr(options, name) != default:
            flag = name.replace("_", "-")
            raise ValueError(f"--device-code runs nothing; it does not go with --{flag}")
    device_code.run(
        options.names,
        capability=options.capability or "9.0",
        output=sys.stdout,
        json_path=options.json,
        figure_path=options.figure,
        markdown=options.markdown,
    )
    return 0


def _run_limited(options: argparse.Namespace) -> int:
    """Run the same command in a process whose vectors are limited."""
    from ..bench.vectors import limited_environment
    from ..kernels.runtime.cpu.compiler import vector_bytes
    from ..kernels.runtime.files import search_path

    words = ["bench", *options.names]
    for name in ("devices", "op", "tasks", "repeats", "threads", "json", "figure"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name}", str(value)]
    environment = limited_environment(options.vector_bytes, vector_bytes())
    environment["PYTHONPATH"] = search_path()
    command = [sys.executable, "-P", "-m", "minigan", *words]
    code = subprocess.run(command, env=environment, check=False).returncode
    if code < 0:
        name = signal.Signals(-code).name
        size = options.vector_bytes
        raise RuntimeError(f"the process with vectors of {size} bytes was ended by {name}")
    return code


def _split_names(option: str, text: str | None, example: str) -> list[str]:
    """Return the names in a comma-separated list; none for None."""
    names = [] if text is None else [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(f"--{option} {text!r} is not a list of names such as {example}")
    return names


def _device_names(text: str) -> list[str]:
    """Return the device names in a comma-separated list, and announce what the devices compile."""
    names = _split_names("devices", text, "cpu,cuda")
    for name in names:
        announce_kernels(name)
    return names


def _time_op(options: argparse.Namespace) -> int:
    """Time one op on the devices."""
    from ..bench import own_ops
    from ..bench.machine import thread_count
    from ..engine.op import Op
    from .check import ops_of

    for flag in ("names", "--json", "--figure", "--tasks"):
        if getattr(options, flag.lstrip("-")):
            raise ValueError(f"--op times one op; it does not go with {flag}")
    if ".py" in options.op:
        ops = ops_of(options.op)
        if len(ops) > 1:
            raise ValueError(f"{options.op}: name one op: {', '.join(op.name for op in ops)}")
        op = ops[0]
    else:
        op = choose("op", options.op, Op.registry)
    with thread_count(options.threads):
        own_ops.run(op, _device_names(options.devices or "cpu"), repeats=options.repeats)
    return 0
