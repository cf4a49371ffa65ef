"""`minigan sample`: draw new samples from a trained run."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from .options import add_code_options, named_code
from .parser import Parser
from .terminal import report

MAX_NUMBERS = 2**28  # in the samples of one call, and in their latents, which take 1 GiB each


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--n", type=int, default=64, metavar="INT", help="number of samples [%(default)s]"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="INT", help="seed of the latents [%(default)s]"
    )
    parser.add_argument(
        "--label",
        metavar="INT[,INT]",
        help="class, or classes in turn, of a conditional run [all]",
    )
    add_code_options(parser)
    parser.add_argument("--out", metavar="FILE", help="a .png or .npz [RUN/sample_seed_SEED.png]")


def run(options: argparse.Namespace) -> int:
    """Write a picture or an archive of samples, and print its path."""
    import numpy as np

    from ..training.resume import load_sampler
    from ..training.run_folder import read_options
    from ..training.sampler import row_length
    from ..training.samples import save_picture

    if options.n < 1:
        raise ValueError(f"--n {options.n} is not a positive number of samples")
    path = _output_path(options)
    _check_not_of_run(path, str(read_options(Path(options.run_folder)).get("data")))
    cycle = None if options.label is None else _parse_labels(options.label)
    sampler = load_sampler(Path(options.run_folder), named_code(options))
    _check_size(options.n, max(math.prod(sampler.shape), sampler.latent_size))
    if not sampler.is_conditional:
        if cycle is not None:
            raise ValueError(
                f"--label {options.label}: {options.run_folder} was trained without labels"
                " (--condition, or a preset such as cgan)"
            )
    elif cycle is None:
        cycle = list(range(sampler.classes))
    labels = None if cycle is None else np.resize(np.array(cycle, np.int64), options.n)
    samples = sampler.sample(options.n, options.seed, labels)
    try:
        if path.suffix == ".npz":
            arrays = {"samples": samples} | ({} if labels is None else {"labels": labels})
            _save_arrays(path, arrays)
        else:
            title = f"seed {options.seed}"
            save_picture(samples, sampler.points, path, title, row_length(cycle))
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"cannot write {path}: {reason}; --out names another file") from None
    report(path)
    return 0


def _check_size(n: int, numbers: int) -> None:
    """Raise ValueError if n samples or latents, of this many numbers each, take too much memory."""
    limit = MAX_NUMBERS // numbers
    if n > limit:
        raise ValueError(
            f"--n {n}: at most {limit:,} samples of this run are drawn at once; another --seed"
            " draws others"
        )


def _output_path(options: argparse.Namespace) -> Path:
    """Return the path to write; ValueError unless its suffix is known and its folder exists."""
    suffix = "" if options.label is None else f"_label_{options.label.replace(',', '_')}"
    default = Path(options.run_folder) / f"sample_seed_{options.seed}{suffix}.png"
    path = Path(default if options.out is None else options.out)
    if path.suffix not in (".png", ".npz"):
        raise ValueError(f"--out {path}: a name that ends in .png or .npz is needed")
    if path.is_dir():
        raise ValueError(f"--out {path}: is a folder, not a file to write")
    if options.out is not None and not path.parent.is_dir():
        raise ValueError(f"--out {path}: there is no folder {path.parent}")
    return path


def _check_not_of_run(path: Path, data: str) -> None:
    """Raise ValueError where the path is a file of a run's training, or of the run's data."""
    from ..data import NAMES
    from ..data.scan import is_run
    from ..training.run_folder import LOSSES, SAMPLES

    file = path.resolve()
    folder = file.parent
    if is_run(folder.parent if folder.name == SAMPLES else folder):
        if folder.name == SAMPLES or file.name == LOSSES:
            raise ValueError(f"--out {path}: is a file of a training; another name is needed")
        return  # Runs are never data.
    try:
        source = Path(data).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # no path, so there is nothing
        return
    if data not in NAMES and (file == source or (path.suffix == ".png" and source in file.parents)):
        raise ValueError(f"--out {path}: is in the data of this run, {data}, which would change")


def _parse_labels(text: str) -> list[int]:
    import numpy as np

    try:
        return np.array([int(part) for part in text.split(",")], np.int64).tolist()
    except (OverflowError, ValueError):
        raise ValueError(f"--label {text}: integers, joined by commas, are needed") from None


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    import numpy as np

    from ..kernels.runtime.files import atomic_write

    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))
