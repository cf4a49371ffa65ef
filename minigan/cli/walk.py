"""`minigan sample --walk` and `--traverse`: pictures of samples along paths of the latent space."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parser import Parser

if TYPE_CHECKING:
    from ..training.sampler import Sampler

WALKS, FRAMES = 8, 30  # without --n and --frames
DIRECTIONS = 5  # of a traversal, without --n
COLUMNS = 10  # images of a walk in the picture
MAX_WALKS, MAX_FRAMES = 256, 300  # in a picture and a GIF


def add_walk_options(parser: Parser) -> None:
    """Add the options of walks between latents and of traversals along directions."""
    parser.add_argument(
        "--walk",
        action="store_true",
        help="draw samples along paths between latents, a row for each, and write a GIF that goes"
        " there and back; a path begins at a sample of --seed, ends at one of the next seed, and"
        " keeps its class",
    )
    parser.add_argument(
        "--traverse",
        action="store_true",
        help="draw samples along directions, a row for each, all of one latent and class:"
        " InfoGAN's continuous codes, or the directions that the generator amplifies most; the"
        " latent's component goes from -2 to 2 standard deviations (uniform: -1 to 1)",
    )
    parser.add_argument(
        "--interpolation",
        metavar="NAME",
        help="lerp, a straight line, or slerp, an arc that keeps the norm of the latents"
        " [slerp; for uniform and decaying latents lerp]",
    )
    parser.add_argument(
        "--frames",
        type=int,
        metavar="INT",
        help="samples on a path or along a direction, with both ends; of more than"
        f" {COLUMNS} the picture shows {COLUMNS} [{FRAMES}]",
    )


def check_walk_options(options: argparse.Namespace) -> None:
    """Set the defaults of paths; ValueError where their options do not fit together."""
    from ..training.walk import INTERPOLATIONS
    from ..utils.names import choose

    if options.walk and options.traverse:
        raise ValueError("--walk and --traverse are two pictures; give one of them")
    if options.interpolation is not None and not options.walk:
        raise ValueError(f"--interpolation {options.interpolation} goes with --walk")
    if options.frames is not None and not has_paths(options):
        raise ValueError(f"--frames {options.frames} goes with --walk or --traverse")
    if options.truncation is not None and has_paths(options):
        kind = "walk" if options.walk else "traverse"
        raise ValueError(f"--truncation {options.truncation} goes without --{kind}")
    if options.interpolation is not None:
        choose("interpolation", options.interpolation, INTERPOLATIONS)
    if options.frames is None:
        options.frames = FRAMES
    if options.frames < 2:
        raise ValueError(f"--frames {options.frames}: a path has at least its two ends")


def has_paths(options: argparse.Namespace) -> bool:
    """Return whether the options ask for samples along paths, a row for each."""
    return bool(options.walk or options.traverse)


def check_walk_size(options: argparse.Namespace) -> None:
    """Raise ValueError where a picture and a GIF would hold too much."""
    for name, limit in (("n", MAX_WALKS), ("frames", MAX_FRAMES)):
        value = getattr(options, name)
        if value > limit:
            raise ValueError(
                f"--{name} {value}: at most {limit} are drawn; --out FILE.npz writes arrays of more"
            )


def walk_name(options: argparse.Namespace) -> str:
    """Return the first words of the names of a walk's or traversal's files."""
    kind = "traverse" if options.traverse else "walk"
    kind = kind if options.interpolation is None else f"{kind}_{options.interpolation}"
    return kind if options.frames == FRAMES else f"{kind}_{options.frames}"


def save_walk(
    path: Path, run: Path, sampler: Sampler, options: argparse.Namespace, labels: Any
) -> list[Path]:
    """Write a picture of walks and a GIF, or for .npz their arrays; return the paths.

    Args:
        path: a .png or .npz; the GIF has the same name.
        run: the run's folder.
        sampler: its generator.
        options: those of the command.
        labels: of the rows; None without labels.
    """
    from ..training.samples import picture_metadata
    from ..training.walk_pictures import (
        TRAVERSAL,
        WALK,
        row_captions,
        save_walk_gif,
        save_walk_picture,
    )
    from .sample import save_arrays

    if options.traverse:
        first = None if labels is None else labels[:1]
        directions = directions_of(sampler, options)
        walks = sampler.traverse(directions, 1, options.frames, options.seed, first)[:, 0]
    else:
        walks = sampler.walk(options.n, options.frames, options.seed, labels, options.interpolation)
    if path.suffix == ".npz":
        save_arrays(path, walks, labels)
        return [path]
    metadata = picture_metadata(run, sampler.step, options.seed)
    title = TRAVERSAL if options.traverse else WALK
    captions = row_captions(sampler, len(walks), labels, is_numbered=options.traverse)
    save_walk_picture(walks, sampler, path, COLUMNS, captions, metadata, title)
    save_walk_gif(walks, sampler, path.with_suffix(".gif"), captions, metadata, title)
    return [path, path.with_suffix(".gif")]


def directions_of(sampler: Sampler, options: argparse.Namespace) -> Any:
    """Return the directions of a traversal, --n of them: InfoGAN's codes, or else SeFa's."""
    codes = sampler.codes()
    if not len(codes):
        return sampler.directions(options.n or min(DIRECTIONS, sampler.latent_size))
    if options.n is not None and options.n > len(codes):
        raise ValueError(f"--n {options.n}: this run has codes = {len(codes)}")
    return codes[: options.n]


def one_class(text: str | None, cycle: list[int] | None) -> list[int] | None:
    """Return the class of a traversal, [label]: that of --label, or the first; None without."""
    if text is not None and cycle is not None and len(cycle) > 1:
        raise ValueError(f"--label {text}: a traversal is of one class")
    return None if cycle is None else cycle[:1]


def check_not_folder(options: argparse.Namespace) -> None:
    """Raise ValueError where paths are to be written as single pictures of a folder."""
    if has_paths(options):
        kind = "walk" if options.walk else "traversal"
        raise ValueError(
            f"--out {options.out}: a {kind} is a picture and a GIF; FILE.png is needed"
        )
