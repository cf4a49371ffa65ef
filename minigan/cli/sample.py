"""`minigan sample`: draw new samples from a trained run."""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.names import choose
from .options import add_code_options, add_step_option, named_code
from .parser import Parser
from .terminal import note, report
from .walk import (
    COLUMNS,
    DIRECTIONS,
    WALKS,
    add_walk_options,
    check_not_folder,
    check_walk_options,
    check_walk_size,
    directions_of,
    has_paths,
    one_class,
    save_walk,
    walk_name,
)

if TYPE_CHECKING:
    from ..training.sampler import Sampler

SAMPLES = 64  # without --n
MAX_NUMBERS = 2**28  # in the samples of one call, and in their latents, which take 1 GiB each
MAX_PIXELS = 2**23  # of a sheet: more are slow to open, and nobody looks at them all
LEAST_LIMIT = 64  # images on a sheet, however large they are
MAX_NAME = 40  # characters of class names in the name of a file


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--n",
        type=int,
        metavar="INT",
        help=f"number of samples [{SAMPLES}], of walks [{WALKS}],"
        f" or of directions [{DIRECTIONS}, or all codes of InfoGAN]",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="INT", help="seed of the latents [%(default)s]"
    )
    parser.add_argument(
        "--label",
        metavar="CLASS[,CLASS]",
        help="class, or classes in turn, of a conditional run, by name or number [all]",
    )
    add_step_option(parser)
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="a new file, .png (one sheet) or .npz (arrays), or a folder, DIR/, for single"
        " pictures, one for each seed from --seed on, such as DIR/seed_000007.png"
        " [RUN/sample_step_STEP_seed_SEED_n_N.png]; for a walk also FILE.gif is written",
    )
    parser.add_argument(
        "--truncation",
        type=float,
        metavar="LIMIT",
        help="limit of normal latents in standard deviations, such as 1.0: numbers beyond it are"
        " drawn again; less makes samples more alike, and often better [none]",
    )
    add_walk_options(parser)
    add_code_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write a picture, an archive or single pictures of samples, and print its path."""
    import numpy as np

    from ..training.run_folder import read_options

    check_walk_options(options)
    _check_count(options)
    folder = Path(options.run_folder)
    out = None if options.out is None else _check_out(options.out)
    data = str(read_options(folder).get("data"))
    if out is not None:
        is_folder = _is_folder(options.out)
        if is_folder:
            check_not_folder(options)
        check_not_of_run(f"--out {options.out}", out / "seed.png" if is_folder else out, data)
        if not is_folder:
            _check_new(options, out)
    sampler = _load(folder, options)
    cycle = _parse_labels(options.label, sampler, folder)
    if options.traverse:
        options.n, cycle = len(directions_of(sampler, options)), one_class(options.label, cycle)
    labels = None if cycle is None else np.resize(np.array(cycle, np.int64), options.n)
    path = folder / _default_name(options, sampler, cycle) if out is None else out
    paths = [path]
    try:
        if has_paths(options):
            _check_numbers(options.n, sampler, options.frames)
            if path.suffix == ".png":
                check_walk_size(options)
                _check_sheet(options.n, sampler, min(options.frames, COLUMNS))
            paths = save_walk(path, folder, sampler, options, labels)
        elif out is not None and _is_folder(options.out):
            _save_single(path, folder, sampler, options, labels)
        elif path.suffix == ".npz":
            save_arrays(path, _draw(sampler, options, labels), labels)
        else:
            _check_sheet(options.n, sampler)
            _save_sheet(path, folder, sampler, options, labels, len(cycle or [0]))
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"cannot write {path}: {reason}; --out names another file") from None
    for written in paths:
        report(written)
    return 0


def _check_count(options: argparse.Namespace) -> None:
    """Set the default of --n, but for a traversal, where it depends on the run; check it."""
    if options.n is None and not options.traverse:
        options.n = WALKS if options.walk else SAMPLES
    if options.n is not None and options.n < 1:
        raise ValueError(f"--n {options.n} is not a positive number of samples")


def _load(folder: Path, options: argparse.Namespace) -> Sampler:
    """Return the generator that the options name; a note says where it is an old one."""
    from ..evaluation.training_state import describe_age
    from ..training.load_sampler import load_sampler

    sampler = load_sampler(folder, options.step, code=named_code(options))
    if options.step is None and (age := describe_age(folder, sampler.step or 0)):
        note(age)
    return sampler


# ------------------------------------------------------------------------------------- the classes
def _parse_labels(text: str | None, sampler: Sampler, folder: Path) -> list[int] | None:
    """Return the labels that a text names; all if it is None, none for an unconditional run."""
    if not sampler.is_conditional:
        if text is None:
            return None
        raise ValueError(
            f"--label {text}: {folder} was trained without labels"
            " (--condition, or a preset such as cgan)"
        )
    if text is None:
        return list(range(sampler.classes))
    names = sampler.class_names or ()
    parts = [text] if text in names else [part.strip() for part in text.split(",")]
    return [_parse_label(part, text, sampler.classes, names) for part in parts]


def _parse_label(part: str, text: str, classes: int, names: tuple[str, ...]) -> int:
    """Return the label that is a class's name, or number; numbers that are names are names."""
    is_number = re.fullmatch(r"[+-]?\d{1,18}", part, re.ASCII) is not None
    if not names:
        if not is_number:
            raise ValueError(f"--label {text}: integers, joined by commas, are needed")
        if not 0 <= int(part) < classes:
            raise ValueError(f"label {int(part)} is not one of 0 .. {classes - 1}")
        return int(part)
    labels = {name: label for label, name in enumerate(names)}
    also = ""
    if not any(name.isdecimal() for name in names):
        also = f"or its number, 0 to {classes - 1}"
        if is_number and 0 <= int(part) < classes:
            return int(part)
    label: int = choose("class", part, labels, also)
    return label


# ---------------------------------------------------------------------------------- where to write
def _is_folder(text: str) -> bool:
    return text.endswith(("/", os.sep)) or (text != "" and Path(text).is_dir())


def _check_out(text: str) -> Path:
    """Return the path of --out; ValueError unless it can be written."""
    path = Path(text)
    is_folder = _is_folder(text)
    if not is_folder and path.suffix not in (".png", ".npz"):
        raise ValueError(
            f"--out {text}: a name that ends in .png or .npz is needed, or a folder, {text}/"
        )
    if is_folder and path.exists() and not path.is_dir():
        raise ValueError(f"--out {text}: is a file, not a folder")
    if not path.parent.is_dir():
        raise ValueError(f"--out {text}: there is no folder {path.parent}")
    return path


def _check_new(options: argparse.Namespace, path: Path) -> None:
    """Raise ValueError where a file of --out exists."""
    for file in [path, *([path.with_suffix(".gif")] if has_paths(options) else [])]:
        if os.path.lexists(file):
            name = options.out if file == path else f"{options.out}: {file}"
            raise ValueError(f"--out {name}: exists already; another name is needed")


def check_not_of_run(option: str, path: Path, data: str) -> None:
    """Raise ValueError where the path is a file of a run's training, or of the run's data.

    `option` is the option that named the path, with its value.
    """
    from ..data import NAMES
    from ..data.scan import is_run
    from ..training.run_folder import LOSSES, REALS, SAMPLES, SNAPSHOTS

    file = path.resolve()
    folder = file.parent
    is_inner = folder.name in (SAMPLES, SNAPSHOTS)
    if is_run(folder.parent if is_inner else folder):
        if is_inner or file.name in (LOSSES, REALS):
            raise ValueError(f"{option}: is a file of a training; another name is needed")
        return  # Runs are never data.
    try:
        source = Path(data).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # no path, so there is nothing
        return
    if data not in NAMES and (file == source or (path.suffix == ".png" and source in file.parents)):
        raise ValueError(f"{option}: is in the data of this run, {data}, which would change")


def _default_name(options: argparse.Namespace, sampler: Sampler, cycle: list[int] | None) -> str:
    """Return the name of the sheet: it says all that the picture depends on."""
    kind = walk_name(options) if has_paths(options) else "sample"
    kind = kind if options.truncation is None else f"{kind}_truncation_{options.truncation}"
    name = f"{kind}_step_{sampler.step or 0:06d}_seed_{options.seed}_n_{options.n}"
    if options.label is not None and cycle is not None:
        text = "_".join(sampler.captions(cycle))
        name += f"_label_{file_name(text)}"
        if file_name(text) != text:  # Other labels may look the same, such as C++ and C#.
            name += f"_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return f"{name}.png"


def file_name(text: str) -> str:
    """Return the text as a part of a file's name, without separators, blanks and dots."""
    return re.sub(r"[^\w-]+", "_", text)[:MAX_NAME]


def _check_numbers(n: int, sampler: Sampler, frames: int = 1) -> None:
    """Raise ValueError if n samples, or walks, or their latents, take too much memory."""
    limit = MAX_NUMBERS // max(math.prod(sampler.shape), sampler.latent_size)
    if n * frames > limit:
        given = f"--n {n}" if frames == 1 else f"--n {n} times --frames {frames}"
        raise ValueError(
            f"{given}: at most {limit:,} samples of this run are drawn at once; another --seed"
            " draws others" + ", and --out DIR/ writes single pictures" * (frames == 1)
        )


def _check_sheet(n: int, sampler: Sampler, columns: int = 1) -> None:
    """Raise ValueError if n images, or rows of walks, make too large a sheet."""
    from ..utils.grids import cell_scale

    if sampler.points is not None:
        return
    _, height, width = sampler.shape
    cell = cell_scale(height) ** 2 * (height + 1) * (width + 1)
    limit = max(LEAST_LIMIT, MAX_PIXELS // cell)
    kind, others = "images", "--out DIR/ writes single pictures, --out FILE.npz an array of all"
    if columns > 1:
        limit = max(WALKS, limit // columns)
        kind, others = "walks", "--out FILE.npz writes an array of all"
    if n > limit:
        raise ValueError(f"--n {n}: a sheet holds at most {limit:,} {kind} of this run; {others}")


# ----------------------------------------------------------------------------------------- writing
def _draw(sampler: Sampler, options: argparse.Namespace, labels: Any) -> Any:
    _check_numbers(options.n, sampler)
    return sampler.sample(options.n, options.seed, labels, truncation=options.truncation)


def save_arrays(path: Path, samples: Any, labels: Any) -> None:
    import numpy as np

    from ..kernels.runtime.files import atomic_write

    arrays: dict[str, Any] = {"samples": samples} | ({} if labels is None else {"labels": labels})
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))


def _save_sheet(
    path: Path, run: Path, sampler: Sampler, options: argparse.Namespace, labels: Any, cycle: int
) -> None:
    from ..training.samples import picture_metadata, save_picture

    samples = _draw(sampler, options, labels)
    metadata = picture_metadata(run, sampler.step, options.seed)
    save_picture(samples, sampler, path, f"seed {options.seed}", labels, cycle, metadata)


def _save_single(
    folder: Path, run: Path, sampler: Sampler, options: argparse.Namespace, labels: Any
) -> None:
    """Write a picture for each seed: the first sample of `sample(1, seed)`."""
    from PIL import Image

    from ..training.samples import picture_metadata
    from ..utils.figures import to_pixels
    from ..utils.grids import write_png
    from ..utils.progress import progress_bar

    if sampler.points is not None:
        raise ValueError(f"--out {folder}/: points have no single pictures; --out FILE.npz")
    seeds = range(options.seed, options.seed + options.n)
    captions = [""] * options.n if labels is None else sampler.captions(labels)
    names = [f"_{file_name(text)}" if text else "" for text in captions]
    paths = [folder / f"seed_{s:06d}{name}.png" for s, name in zip(seeds, names, strict=True)]
    existing = [path.name for path in paths if os.path.lexists(path)]
    if existing:
        raise ValueError(
            f"--out {folder}/: {existing[0]} exists already"
            + (f", and {len(existing) - 1} more; " if existing[1:] else "; ")
            + "another folder or --seed is needed"
        )
    folder.mkdir(exist_ok=True)
    bar = progress_bar(paths, desc=folder.name)
    for i, path in enumerate(bar):
        label = None if labels is None else labels[i : i + 1]
        sample = sampler.sample(1, seeds[i], label, truncation=options.truncation)
        (pixels,) = to_pixels(sample)
        metadata = picture_metadata(run, sampler.step, seeds[i])
        metadata |= {"label": captions[i]} if captions[i] else {}
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        write_png(picture, path, metadata)
