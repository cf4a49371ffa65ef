"""`minigan check`: check every op's gradients, or the ops of a file and their kernels."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.names import choose
from ..utils.progress import announce_kernels
from .parser import Parser

if TYPE_CHECKING:
    from ..engine.op import Op


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    from ..engine.device import device_names
    from ..utils.names import list_names

    parser.add_argument(
        "target",
        nargs="?",
        metavar="FILE.py[:OP]",
        help="check the ops that this Python file makes, with their kernels [minigan's own ops]",
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help=f"{list_names(device_names())} [cpu; for a FILE cpu and cuda-emulator]",
    )
    parser.add_argument(
        "--order", type=int, default=2, metavar="INT", help="highest order [%(default)s]"
    )
    parser.add_argument("--op", metavar="NAME", help="only this op [all]")


def run(options: argparse.Namespace) -> int:
    """Print a line per op; return 1 if one fails."""
    if options.order < 1:
        raise ValueError(f"--order {options.order} is not a positive integer")
    if options.target is not None:
        return _check_file(options)
    return _check_gradients(options)


def ops_of(target: str) -> list[Op]:
    """Run a Python file, and return the ops that it makes, or the one of `FILE.py:OP`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it makes no op, or none of that name.
    """
    from ..engine.op import Op

    name, _, op = target.rpartition(":") if ".py:" in target else (target, "", "")
    path = Path(name).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise FileNotFoundError(
            f"{name}: there is no Python file of that name; FILE.py or FILE.py:OP is needed"
        )
    before = dict(Op.registry)
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))  # as `python FILE.py` does
    spec.loader.exec_module(module)
    made = {key: value for key, value in Op.registry.items() if before.get(key) is not value}
    if not made:
        raise ValueError(f"{name} makes no op: mg.Op(...) or mg.ops.elementwise_op(...) makes one")
    return [choose("op", op, made)] if op else list(made.values())


def _check_file(options: argparse.Namespace) -> int:
    """Check the ops of a file and their kernels; print a line for each."""
    from ..engine.check import CheckError
    from ..engine.kernel_check import check

    try:
        ops = ops_of(options.target)
    except CheckError as error:  # of an mg.check(...) in the file
        print(f"FAILS: {error}")
        return 1
    if options.op is not None:
        ops = [choose("op", options.op, {op.name: op for op in ops})]
    devices = None if options.device is None else [options.device]
    for device in devices or ("cpu", "cuda-emulator"):
        announce_kernels(device)
    failures = 0
    for op in ops:
        try:
            print(check(op, devices, order=options.order), flush=True)
        except CheckError as error:
            print(f"{op.name} FAILS: {error}", flush=True)
            failures += 1
    print(f"{len(ops) - failures} ops pass, {failures} fail")
    return 1 if failures else 0


def _check_gradients(options: argparse.Namespace) -> int:
    """Check the results and gradients of minigan's ops on one device; print a line for each."""
    from ..engine.check import check_op
    from ..engine.op import Op

    device = options.device or "cpu"
    ops = (
        [choose("op", options.op, Op.registry)]
        if options.op is not None
        else list(Op.registry.values())
    )
    announce_kernels(device)
    columns = "".join(f"{f'order {k}':>12}" for k in range(1, options.order + 1))
    print(f"{'op':<18}{'samples':>8}{columns}   error as a share of the tolerance, device {device}")
    failures = 0
    for op in ops:
        result = check_op(op, device, options.order)
        errors = "".join(f"{error:>12.1e}" for error in result.errors) or f"{'constant':>12}"
        print(f"{op.name:<18}{result.samples:>8}{errors}{result.failure}", flush=True)
        failures += bool(result.failure)
    print(f"{len(ops) - failures} ops pass, {failures} fail")
    return 1 if failures else 0
