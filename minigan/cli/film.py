"""`minigan film`: join the pictures of a run into a film."""

from __future__ import annotations

import argparse
from pathlib import Path

from .parser import Parser
from .terminal import note, report

FRAMES, FPS = 100, 10.0  # without --frames and --fps


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--frames",
        type=int,
        default=FRAMES,
        metavar="INT",
        help="the most pictures of RUN/samples that are shown, evenly chosen [%(default)s]",
    )
    parser.add_argument(
        "--fps",
        type=float,
        default=FPS,
        metavar="FLOAT",
        help="pictures per second; the last one is held two seconds longer [%(default)g]",
    )
    parser.add_argument(
        "--out",
        metavar="FILE.gif",
        help="a new file; FILE.mp4 is written beside it where ffmpeg is installed [RUN/film.gif]",
    )


def run(options: argparse.Namespace) -> int:
    """Write the film, and print the paths of its files."""
    from ..training.film import make_film

    out = None if options.out is None else Path(options.out)
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"--out {options.out}: there is no folder {out.parent}")
    paths = make_film(Path(options.run_folder), out, options.frames, options.fps)
    for path in paths:
        report(path)
    if len(paths) == 1:
        mp4 = paths[0].with_suffix(".mp4")
        text = f"{mp4.name} stays as it was" if mp4.exists() else f"no {mp4.name}"
        note(f"{text}: the program ffmpeg is not on the PATH")
    return 0
