"""`minigan export`: write the generator of a run for ONNX, PyTorch or numpy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_code_options, add_step_option, named_code
from .parser import Parser
from .sample import check_not_of_run
from .terminal import note, report

if TYPE_CHECKING:
    from ..export.source import Source


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
    add_step_option(parser)
    parser.add_argument(
        "--no-average",
        action="store_true",
        help="the generator itself, not its moving average (option ema) [the average]",
    )
    add_code_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the files that are asked for, all or none, and print a line for each."""
    from ..export.files import write_files
    from ..export.source import describe
    from ..training.load_sampler import load_sampler
    from ..training.run_folder import read_options

    folder = Path(options.run_folder)
    targets = _targets(options, str(read_options(folder).get("data")))
    sampler = load_sampler(folder, options.step, code=named_code(options), device="cpu")
    if options.no_average and sampler.players.average is None:
        note(f"{folder} has no average of its generator (option ema): --no-average changes nothing")
    source = describe(sampler, not options.no_average, run=folder.resolve().name)
    step, steps = source.step or 0, source.steps or 0
    if options.step is None and 0 < step < steps:
        note(f"{folder} was interrupted at step {step:,} of {steps:,}")
    files: dict[Path, bytes] = {}
    lines: list[str] = []
    for kind, paths in targets.items():
        contents, texts = MAKERS[kind](source, *paths)
        files |= zip(paths, contents, strict=True)
        lines += [f"{path}: {text}" for path, text in zip(paths, texts, strict=True)]
    write_files(files)
    report("\n".join(lines))
    return 0


def _targets(options: argparse.Namespace, data: str) -> dict[str, tuple[Path, ...]]:
    """Return the paths to write, by the name of the option.

    Raises:
        ValueError: none is asked for; or one exists, is one of a training or of its data, or does
            not have the name of its kind.
    """
    from ..export.files import check_target, check_torch_targets

    result: dict[str, tuple[Path, ...]] = {}
    for kind in MAKERS:
        path = getattr(options, kind)
        if path is None:
            continue
        option = f"--{kind}"
        if kind == "torch":
            result[kind] = check_torch_targets(path, option)
        else:
            result[kind] = (check_target(path, f".{kind}", option),)
        check_not_of_run(f"{option} {path}", result[kind][0], data)
    if not result:
        raise ValueError("give at least one of --onnx, --torch and --npz, each with a new file")
    return result


def _make_onnx(source: Source, path: Path) -> Made:
    from ..export.onnx_file import CHECKED_LATENTS, onnx_bytes

    data, difference = onnx_bytes(source)
    checked = "not compared with minigan, as onnxruntime is not installed"
    if difference is not None:
        checked = (
            f"largest difference to minigan {difference:.1g} over {CHECKED_LATENTS} latents in"
            " onnxruntime"
        )
    return [data], [f"{_describe(source)}, {len(data) / 1e6:.1f} MB; {checked}"]


def _make_torch(source: Source, weights: Path, code: Path) -> Made:
    from ..export.arrays import torch_bytes

    text = f"weights of {_describe(source)}, for PyTorch"
    return list(torch_bytes(source, weights.name)), [text, "the code that loads them"]


def _make_npz(source: Source, path: Path) -> Made:
    from ..export.arrays import npz_bytes

    return [npz_bytes(source)], [f"weights of {_describe(source)}, by minigan's names"]


# By option, functions that return the contents of the files, and a line on each.
Made = tuple[list[bytes], list[str]]
MAKERS: dict[str, Callable[..., Made]] = {
    "onnx": _make_onnx,
    "torch": _make_torch,
    "npz": _make_npz,
}


def _describe(source: Source) -> str:
    """Return which generator it is: its step, and whether it is the average."""
    kind = "the generator's average" if source.is_averaged else "the generator"
    return kind if source.step is None else f"{kind} at step {source.step:,}"
