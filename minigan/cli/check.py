"""`minigan check`: check every op's gradients."""

from __future__ import annotations

import argparse

from ..utils.names import choose
from ..utils.progress import announce_kernels
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    from ..engine.device import device_names
    from ..utils.names import list_names

    parser.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help=f"{list_names(device_names())} [%(default)s]",
    )
    parser.add_argument(
        "--order", type=int, default=2, metavar="INT", help="highest order [%(default)s]"
    )
    parser.add_argument("--op", metavar="NAME", help="only this op [all]")


def run(options: argparse.Namespace) -> int:
    """Print a line per op; return 1 if one fails."""
    from ..engine.check import check_op
    from ..engine.op import Op

    if options.order < 1:
        raise ValueError(f"--order {options.order} is not a positive integer")
    ops = (
        [choose("op", options.op, Op.registry)]
        if options.op is not None
        else list(Op.registry.values())
    )
    announce_kernels(options.device)
    columns = "".join(f"{f'order {k}':>12}" for k in range(1, options.order + 1))
    print(
        f"{'op':<18}{'samples':>8}{columns}   error as a share of the tolerance, device"
        f" {options.device}"
    )
    failures = 0
    for op in ops:
        result = check_op(op, options.device, options.order)
        errors = "".join(f"{error:>12.1e}" for error in result.errors) or f"{'constant':>12}"
        print(f"{op.name:<18}{result.samples:>8}{errors}{result.failure}", flush=True)
        failures += bool(result.failure)
    print(f"{len(ops) - failures} ops pass, {failures} fail")
    return 1 if failures else 0
