"""`minigan sample --walk`: pictures of what lies between two samples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .parser import Parser

if TYPE_CHECKING:
    from ..training.sampler import Sampler

WALKS, FRAMES = 8, 30  # without --n and --frames
COLUMNS = 10  # images of a walk in the picture
MAX_WALKS, MAX_FRAMES = 256, 300  # in a picture and a GIF


def add_walk_options(parser: Parser) -> None:
    """Add the options of a walk between latents."""
    parser.add_argument(
        "--walk",
        action="store_true",
        help="draw samples along paths between latents, a row for each, and write a GIF that goes"
        " there and back; a path begins at a sample of --seed, ends at one of the next seed, and"
        " keeps its class",
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
        help="samples on a path, with both ends; of more than"
        f" {COLUMNS} the picture shows {COLUMNS} [{FRAMES}]",
    )


def check_walk_options(options: argparse.Namespace) -> None:
    """Set the defaults of a walk; ValueError where its options do not fit together."""
    from ..training.walk import INTERPOLATIONS
    from ..utils.names import choose

    for name in ("interpolation", "frames"):
        value = getattr(options, name)
        if value is not None and not options.walk:
            raise ValueError(f"--{name} {value} goes with --walk")
    if options.interpolation is not None:
        choose("interpolation", options.interpolation, INTERPOLATIONS)
    if options.frames is None:
        options.frames = FRAMES
    if options.frames < 2:
        raise ValueError(f"--frames {options.frames}: a path has at least its two ends")


def check_walk_size(options: argparse.Namespace) -> None:
    """Raise ValueError where a picture and a GIF would hold too much."""
    for name, limit in (("n", MAX_WALKS), ("frames", MAX_FRAMES)):
        value = getattr(options, name)
        if value > limit:
            raise ValueError(
                f"--{name} {value}: at most {limit} are drawn; --out FILE.npz writes arrays of more"
            )


def walk_name(options: argparse.Namespace) -> str:
    """Return the first words of the names of a walk's files."""
    kind = "walk" if options.interpolation is None else f"walk_{options.interpolation}"
    return kind if options.frames == FRAMES else f"{kind}_{options.frames}"


def save_walk(
    path: Path, run: Path, sampler: Sampler, options: argparse.Namespace, labels: Any
) -> list[Path]:
    """Write a picture of walks and a GIF, or for .npz their arrays; return the paths."""
    from ..training.samples import picture_metadata
    from ..training.walk_pictures import save_walk_gif, save_walk_picture
    from .sample import save_arrays

    walks = sampler.walk(options.n, options.frames, options.seed, labels, options.interpolation)
    if path.suffix == ".npz":
        save_arrays(path, walks, labels)
        return [path]
    metadata = picture_metadata(run, sampler.step, options.seed)
    save_walk_picture(walks, sampler, path, COLUMNS, labels, metadata)
    save_walk_gif(walks, sampler, path.with_suffix(".gif"), labels, metadata)
    return [path, path.with_suffix(".gif")]
