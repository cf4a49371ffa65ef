"""`minigan export`: write the generator of a run for ONNX, PyTorch or numpy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_code_options, named_code
from .parser import Parser
from .sample import check_not_of_run
from .terminal import note, report

if TYPE_CHECKING:
    from ..export.source import Source

Write = Callable[["Source"], None]


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--onnx",
        metavar="FILE.onnx",
        help="a new file: the generator as an ONNX model, compared with minigan in onnxruntime",
    )
    parser.add_argument(
        "--torch",
        metavar="FILE.safetensors",
        help="a new file: the weights as PyTorch has them; FILE.py beside it loads them",
    )
    parser.add_argument(
        "--npz", metavar="FILE.npz", help="a new file: the weights by minigan's names"
    )
    parser.add_argument(
        "--step", type=int, metavar="INT", help="step of a snapshot of the run [the last step]"
    )
    parser.add_argument(
        "--no-average",
        action="store_true",
        help="the generator itself, not its moving average (option ema) [the average]",
    )
    add_code_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the files that are asked for, and print a line for each."""
    from ..export.source import describe
    from ..training.load_sampler import load_sampler
    from ..training.run_folder import read_options

    folder = Path(options.run_folder)
    if options.onnx is options.torch is options.npz is None:
        raise ValueError("give at least one of --onnx, --torch and --npz, each with a new file")
    writers = _writers(options, str(read_options(folder).get("data")))
    sampler = load_sampler(folder, options.step, code=named_code(options), device="cpu")
    if options.no_average and sampler.players.average is None:
        note(f"{folder} has no average of its generator (option ema), so --no-average does nothing")
    source = describe(sampler, not options.no_average, run=folder.resolve().name)
    if source.step is not None and source.steps is not None and source.step < source.steps:
        note(f"{folder} is exported at step {source.step:,} of {source.steps:,}")
    for path, write in writers:
        try:
            write(source)
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror or error}") from None
    return 0


def _writers(options: argparse.Namespace, data: str) -> list[tuple[Path, Write]]:
    """Return the file and the function of each export that is asked for.

    Raises:
        ValueError: a file exists, is one of a training or of its data, or cannot be written.
    """
    from ..export.arrays import check_torch_targets
    from ..export.source import check_target

    result: list[tuple[Path, Write]] = []
    if options.onnx is not None:
        path = check_target(options.onnx, ".onnx", "--onnx")
        result.append((path, partial(_write_onnx, path)))
    if options.torch is not None:
        paths = check_torch_targets(options.torch, "--torch")
        result.append((paths[0], partial(_write_torch, *paths)))
    if options.npz is not None:
        path = check_target(options.npz, ".npz", "--npz")
        result.append((path, partial(_write_npz, path)))
    for path, _ in result:
        check_not_of_run(f"--{_option(path)} {path}", path, data)
    return result


def _option(path: Path) -> str:
    return {".onnx": "onnx", ".npz": "npz"}.get(path.suffix, "torch")


def _write_onnx(path: Path, source: Source) -> None:
    from ..export.onnx_file import CHECKED_LATENTS, write_onnx

    export = write_onnx(source, path)
    if export.difference is None:
        checked = "not compared with minigan, as onnxruntime is not installed"
    else:
        checked = (
            f"largest difference to minigan {export.difference:.1g} over {CHECKED_LATENTS} latents"
            " in onnxruntime"
        )
    report(f"{path}: {_what(source)}, {export.size / 1e6:.1f} MB; {checked}")


def _write_torch(weights: Path, code: Path, source: Source) -> None:
    from ..export.arrays import write_torch

    write_torch(source, weights, code)
    report(f"{weights}: weights of {_what(source)}, for PyTorch")
    report(f"{code}: the code that loads them, and draws samples")


def _write_npz(path: Path, source: Source) -> None:
    from ..export.arrays import write_npz

    write_npz(source, path)
    report(f"{path}: weights of {_what(source)}, by minigan's names")


def _what(source: Source) -> str:
    """Return which generator it is: its step, and whether it is the average."""
    kind = "the generator's average" if source.is_averaged else "the generator"
    return kind if source.step is None else f"{kind} at step {source.step:,}"
