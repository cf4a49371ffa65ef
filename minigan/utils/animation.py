"""Write pictures of one size as an animated GIF, and as an MP4 where ffmpeg is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..kernels.runtime.files import atomic_write, open_regular
from .notices import Notice
from .progress import progress_bar

MAX_BYTES = 8_000_000  # of a GIF: what chats and issue trackers accept, and a page loads at once
MAX_SIDE = 720  # pixels of a frame
COLOURS = (256, 64)  # a GIF has at most 256 in a frame
PALETTE_FRAMES = 16  # those whose colours make the palette of all
MARK = "made by minigan"  # the comment in a file that may be replaced by a newer one
MARKED_BYTES = 1 << 20  # the comment is in the first bytes of a file


def write_gif(
    frames: Sequence[Image.Image], path: Path, milliseconds: int, held: int = 0, comment: str = ""
) -> None:
    """Write frames as an endless GIF of at most MAX_BYTES.

    A GIF that would be larger gets fewer colours, and then every second frame, until it fits. A
    Notice says so.

    Args:
        frames: RGB pictures of one size.
        path: the file to write.
        milliseconds: the time of a frame; a GIF counts in units of ten.
        held: the additional time of the last frame, in milliseconds.
        comment: a text in the file, after MARK.
    """
    texts = f"{MARK}: {comment}".encode()
    chosen, step = list(frames), 1
    for colours in COLOURS:
        content = _encode(chosen, colours, milliseconds, held, texts)
        if len(content) <= MAX_BYTES:
            break
    while len(content) > MAX_BYTES and len(chosen) > 2:
        step *= 2
        chosen = [frames[i] for i in evenly(len(frames), 1 + (len(frames) - 1) // step)]
        # A GIF counts in units of ten milliseconds; the whole takes as long as before.
        longer = round(milliseconds * len(frames) / len(chosen) / 10) * 10
        content = _encode(chosen, colours, longer, held, texts)
    if (colours, step) != (COLOURS[0], 1):
        warnings.warn(
            f"{path.name} has {colours} colours and {len(chosen)} of {len(frames)} frames, to be"
            f" at most {MAX_BYTES / 1e6:g} MB large",
            Notice,
            stacklevel=2,
        )
    atomic_write(path, lambda file: file.write(content))


def evenly(n: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0 ... n - 1, evenly spaced, with the first and last."""
    return [int(x) for x in np.unique(np.rint(np.linspace(0, n - 1, min(n, max(most, 2)))))]


def _encode(
    frames: Sequence[Image.Image], colours: int, milliseconds: int, held: int, comment: bytes
) -> bytes:
    """Return frames as a GIF with one palette, so that no colour flickers."""
    palette = _palette(frames, colours)
    # Without dithering: its noise moves, and takes most of the bytes.
    bar = progress_bar(frames, desc="GIF", leave=False, delay=2)
    images = [x.quantize(palette=palette, dither=Image.Dither.NONE) for x in bar]
    file = io.BytesIO()
    images[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=[milliseconds] * (len(images) - 1) + [milliseconds + held],
        loop=0,
        comment=comment,
    )
    return file.getvalue()


def _palette(frames: Sequence[Image.Image], colours: int) -> Image.Image:
    """Return a picture whose palette fits the colours of all frames."""
    chosen = [frames[i] for i in evenly(len(frames), PALETTE_FRAMES)]
    width, height = chosen[0].size
    sheet = Image.new("RGB", (width, height * len(chosen)))
    for i, frame in enumerate(chosen):
        sheet.paste(frame, (0, i * height))
    return sheet.quantize(colours, method=Image.Quantize.MEDIANCUT)


def shrink(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB whose sides have at most MAX_SIDE pixels."""
    factor = MAX_SIDE / max(picture.size)
    rgb = picture.convert("RGB")
    if factor >= 1:
        return rgb
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return rgb.resize((width, height), Image.Resampling.LANCZOS)


def has_ffmpeg() -> bool:
    """Return whether the program ffmpeg is on the PATH."""
    return shutil.which("ffmpeg") is not None


def write_mp4(
    frames: Sequence[Image.Image], path: Path, milliseconds: int, held: int = 0, comment: str = ""
) -> None:
    """Write frames as an MP4 by the program ffmpeg; the arguments are those of `write_gif`.

    Raises:
        ValueError: ffmpeg fails; the message has the last line of what it printed.
    """
    width, height = frames[0].size
    still = [frames[-1]] * round(held / milliseconds)
    pixels = b"".join(frame.tobytes() for frame in [*frames, *still])
    with tempfile.TemporaryDirectory(prefix="minigan-") as folder:
        target = Path(folder) / "film.mp4"
        command = [
            *("ffmpeg", "-nostats", "-loglevel", "error"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"),
            *("-r", f"{1000 / milliseconds:g}", "-i", "-"),
            # Players need sides of even length and this pixel format.
            *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"),
            *("-movflags", "+faststart", "-fflags", "+bitexact"),
            *("-metadata", f"comment={MARK}: {comment}", str(target)),
        ]
        result = subprocess.run(command, input=pixels, capture_output=True, check=False)
        if result.returncode:
            lines = result.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise ValueError(f"{path} cannot be made: ffmpeg failed: {lines[-1]}")
        content = target.read_bytes()
    atomic_write(path, lambda file: file.write(content))


def is_own(path: Path) -> bool:
    """Return whether a GIF or MP4 has the comment of `write_gif` or `write_mp4`.

    Raises:
        OSError, ValueError: it is not a regular file, or cannot be read.
    """
    with open_regular(path) as file:
        return MARK.encode() in file.read(MARKED_BYTES)
