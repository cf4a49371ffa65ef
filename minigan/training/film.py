"""Join the pictures of a training into a film: film.gif, and film.mp4 where ffmpeg is."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from ..utils.animation import evenly, has_ffmpeg, is_own, shrink, write_gif, write_mp4
from ..utils.figures import GENERATOR
from ..utils.grids import caption_line
from ..utils.names import printable
from ..utils.progress import progress_bar
from .run_folder import SAMPLES, RunError, read_options, sample_pictures

HELD = 2000  # milliseconds that the last frame is shown in addition
BAR = 3  # pixels: height of the line that shows how much of the training is done


def make_film(folder: Path, out: Path | None, frames: int, fps: float) -> list[Path]:
    """Write the pictures of a run's samples as a GIF, and as an MP4 where ffmpeg is installed.

    The pictures of samples/ are shown in the order of their steps, each with its step. The GIF has
    at most 8 MB (see `write_gif`).

    Args:
        folder: the run's folder.
        out: the GIF to write, which must not exist; the MP4 has the same name with another suffix.
            None: film.gif in the run's folder, in place of an earlier film.
        frames: the most pictures that are shown, evenly chosen, with the first and the last.
        fps: pictures per second.

    Returns:
        The paths of the files that were written.

    Raises:
        RunError: the folder is no run, has no pictures, or one cannot be read or has another size.
        ValueError: a file with that name is not such a film, or ffmpeg fails.
    """
    if frames < 2:
        raise ValueError(f"frames = {frames}: a film has at least 2")
    if not 0.1 <= fps <= 50:
        raise ValueError(f"fps = {fps:g}: a number in [0.1, 50] of pictures per second is needed")
    read_options(folder)  # raises for a folder that is no run
    path = folder / "film.gif" if out is None else out
    if path.suffix != ".gif":
        raise ValueError(f"{path}: a name that ends in .gif is needed")
    paths = [path, *([path.with_suffix(".mp4")] if has_ffmpeg() else [])]
    for target in paths:
        _check_replaceable(target, is_named=out is not None)
    pictures = film_frames(folder, frames)
    duration = max(20, round(100 / fps) * 10)  # browsers slow down GIFs of less than 20 ms
    comment = f"a film of the run {printable(folder.resolve().name)}"
    for target, write in zip(paths, (write_gif, write_mp4), strict=False):
        write(pictures, target, duration, HELD, comment)
    return paths


def _check_replaceable(path: Path, is_named: bool) -> None:
    """Raise ValueError where a file would be replaced that is not an earlier film of the run."""
    if not os.path.lexists(path):
        return
    if is_named:
        raise ValueError(f"{path} exists already; another name is needed")
    try:
        if is_own(path):
            return
    except (OSError, ValueError):
        pass
    raise ValueError(f"{path} is not a film of minigan; --out names another file")


def film_frames(folder: Path, most: int) -> list[Image.Image]:
    """Return the frames of a film: RGB pictures of one size, each below a line with its step.

    Args:
        folder: the run's folder.
        most: the most pictures, evenly chosen, with the first and the last.

    Raises:
        RunError: there are no pictures, or one cannot be read or has another size.
    """
    found = list(sample_pictures(folder).items())
    if not found:
        raise RunError(f"{folder} has no pictures {SAMPLES}/step_*.png to make a film of")
    chosen = [found[i] for i in evenly(len(found), most)]
    frames: list[Image.Image] = []
    last, first_size = chosen[-1][0], None
    for step, path in progress_bar(chosen, desc="film", leave=False, delay=2):
        picture = _read(path)
        first_size = first_size or picture.size
        if picture.size != first_size:
            raise RunError(
                f"{path} has {picture.width}x{picture.height} pixels, and {chosen[0][1].name}"
                f" {first_size[0]}x{first_size[1]}: a film needs pictures of one size"
            )
        frames.append(_with_step(shrink(picture), step, last))
    return frames


def _read(path: Path) -> Image.Image:
    """Return the picture of a file; RunError where it is damaged."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.verify()  # compares the checksums, which decoding does not
        with Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            return picture
    except Exception as error:  # Pillow's decoder raises several kinds of errors.
        reason = "it is damaged" if "cannot identify" in str(error) else str(error)
        text = f"{path} cannot be read: {reason}; the film can be made without it"
        raise RunError(text) from None


def _with_step(picture: Image.Image, step: int, last: int) -> Image.Image:
    """Return the picture below a line with its step and a bar, which is full at the last step."""
    line = caption_line(f"step {step:,}", picture.width)
    frame = Image.new("RGB", (picture.width, line.height + BAR + picture.height))
    frame.paste(line, (0, 0))
    done = round(picture.width * step / max(last, 1))
    frame.paste(GENERATOR, (0, line.height, done, line.height + BAR))
    frame.paste(picture, (0, line.height + BAR))
    return frame
