"""`minigan translate`: apply a run of images from images to pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_step_option
from .parser import Parser
from .terminal import note, report

if TYPE_CHECKING:
    import numpy as np


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run's folder, of minigan train --task")
    parser.add_argument(
        "pictures",
        metavar="PICTURE",
        nargs="+",
        help="image files of any size, or folders of them",
    )
    parser.add_argument(
        "--mask",
        metavar="PATH",
        help="of inpaint: a black picture of the same size with white holes, for all pictures, or a"
        " folder with one for each, of the same name",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        required=True,
        help="the folder to write to: a PNG for each picture, of the same name",
    )
    parser.add_argument(
        "--strip", action="store_true", help="write the picture before and after, side by side"
    )
    parser.add_argument("--device", metavar="NAME", help="device of the net [that of the training]")
    add_step_option(parser)


def run(options: argparse.Namespace) -> int:
    """Write what the net makes of each picture, and print the paths."""
    from ..translation.files import (
        find_pictures,
        read_mask,
        read_picture,
        write_picture,
    )
    from ..translation.saved import check_outline, load_translation
    from ..utils.progress import announce_kernels, progress_bar

    net = load_translation(Path(options.run_folder), step=options.step, device=options.device)
    has_masks = net.config.task == "inpaint"
    if has_masks and options.mask is None:
        raise ValueError("--mask is needed: it says where the holes are, white on black")
    if not has_masks and options.mask is not None:
        raise ValueError(f"--mask is for inpaint; this run's task is {net.config.task}")
    out = Path(options.out)
    jobs = find_pictures([Path(x) for x in options.pictures], out)
    masks = {path: _mask_of(path, Path(options.mask)) for path, _ in jobs} if has_masks else {}
    for path, _ in jobs:  # All are read once before the first is written.
        image, _ = read_picture(path, net)
        if has_masks:
            read_mask(masks[path], image.shape)
        if net.config.task == "outline":
            check_outline(str(path), image)
    announce_kernels(net.config.device)
    written = []
    with progress_bar(jobs, desc="pictures", delay=2) as bar:
        for path, target in bar:
            image, conversion = read_picture(path, net)
            if conversion:
                note(f"{path}: {conversion}")
            mask = read_mask(masks[path], image.shape) if has_masks else None
            made = net.translate(image, mask)
            columns: list[np.ndarray] = [image, made] if options.strip else [made]
            write_picture(target, columns, mask, net)
            written.append(target)
    for target in written:
        report(target)
    return 0


def _mask_of(picture: Path, mask: Path) -> Path:
    """Return the file of a picture's mask; ValueError where there is none."""
    if not mask.is_dir():
        if not mask.exists():
            raise ValueError(f"--mask {mask}: there is no such file")
        return mask
    found = sorted(x for x in mask.iterdir() if x.stem == picture.stem and x.is_file())
    if len(found) != 1:
        count = "no mask" if not found else f"{len(found)} masks"
        raise ValueError(f"--mask {mask}: holds {count} with the name of {picture.name}")
    return found[0]
