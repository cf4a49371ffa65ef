"""`minigan bench`: time kernels and steps beside their peers."""

from __future__ import annotations

import argparse
import sys

from ..utils.progress import announce_kernels
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="matmul (products, beside BLAS), step (training steps, beside PyTorch and JAX) [both];"
        " conv (convolutions, beside PyTorch), kernels (beside the machine's peaks and numpy),"
        " memory (of a training process, beside PyTorch), modes (mode coverage of GAN methods, an"
        " hour); with --devices: matmul, conv2d, leaky_relu, exp, add, sum, transpose, gather,"
        " normalize, normalize_grad, adam, normal, step [all]",
    )
    parser.add_argument(
        "--devices",
        metavar="NAMES",
        help="compare devices over sizes, say cpu,cuda; a GPU beside PyTorch",
    )
    parser.add_argument(
        "--repeats", type=int, default=9, metavar="INT", help="number of rounds [%(default)s]"
    )
    parser.add_argument("--threads", type=int, metavar="INT", help="threads for every contender")
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

    settings = {name: getattr(options, name) for name in ("names", "repeats", "threads")}
    settings |= {"output": sys.stdout, "json_path": options.json, "figure_path": options.figure}
    if options.devices is None:
        announce_kernels("cpu")
        bench.run(**settings)
        return 0
    names = [name.strip() for name in options.devices.split(",")]
    if not all(names):
        raise ValueError(f"--devices {options.devices!r} is not a list of names such as cpu,cuda")
    for name in names:
        announce_kernels(name)
    devices.run(names, **settings)
    return 0
