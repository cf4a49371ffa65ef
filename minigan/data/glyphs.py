"""An endless MNIST with no network: digits of matplotlib's own fonts, written a little askew."""

from __future__ import annotations

import contextlib
import hashlib
import io
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..kernels.runtime.files import atomic_write, cache_root
from .dataset import DataError, Dataset, from_bytes, generators

SIDE = 28
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUMBERS_PER_GLYPH = 17  # random numbers that one digit takes, whichever it is


def load_glyphs(size: int, seed: int, split: str = "train", progress: bool = False) -> Dataset:
    """`size` images (1, 28, 28), light on dark, labelled 0 to 9; sample i is known by (seed, i).

    Kept on disk as bytes. A kept file that cannot be read is made again, and a folder that
    cannot be written is none.
    """
    kept = _kept_file(size, seed, split)
    found = _read(kept, size) if kept else None
    if found is None:
        found = draw_glyphs(size, seed, split, progress)
        _keep(kept, *found)
    images, labels = found
    return Dataset("glyphs", from_bytes(images[:, None]), labels, 10)


# ------------------------------------------------------------------------------------- drawing
def draw_glyphs(
    size: int, seed: int, split: str = "train", progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (size, 28, 28), labels int64 (size,)), drawn now."""
    from matplotlib.backends.backend_agg import RendererAgg
    from tqdm import tqdm

    fonts = digit_fonts()
    choices, shapes = generators(seed, 2, split)
    picks = choices.integers(len(fonts) * 10, size=size)
    # Row i of the stream belongs to digit i: a longer set begins with the shorter one.
    normals = shapes.standard_normal((size, NUMBERS_PER_GLYPH)).clip(-2, 2)
    images = np.empty((size, SIDE, SIDE), np.uint8)
    renderer = RendererAgg(2 * SIDE, 2 * SIDE, dpi=72)  # at 72 dpi a point is a pixel
    with tqdm(total=size, desc="glyphs", unit="image", disable=not progress) as bar:
        for pick in np.unique(picks):
            members = np.flatnonzero(picks == pick)
            outline = _outline(fonts[pick // 10], int(pick % 10))
            images[members] = _draw(renderer, outline, normals[members])
            bar.update(len(members))
    return images, picks % 10


@cache
def digit_fonts() -> tuple[str, ...]:
    """The fonts bundled with matplotlib that have all ten digits, in order of name.

    A character map alone will not tell: some fonts map "0" to a box, a bracket or an infinity
    sign. What a font calls the glyph does. A zero of three contours has a programmer's dot in it,
    and makes, in bold and small, an eight.
    """
    import matplotlib
    from matplotlib.ft2font import FT2Font
    from matplotlib.path import Path as Outline

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    found = []
    for path in sorted(folder.glob("*.ttf")):
        font = FT2Font(str(path))
        glyph_of = [font.get_char_index(ord("0") + digit) for digit in range(10)]
        if tuple(map(font.get_glyph_name, glyph_of)) != DIGIT_NAMES:
            continue
        font.load_char(ord("0"))
        if np.count_nonzero(font.get_path()[1] == Outline.MOVETO) == 2:
            found.append(str(path))
    if not found:
        raise DataError(f"glyphs: no font with digits in {folder}")
    return tuple(found)


@cache
def _outline(font: str, digit: int) -> tuple[np.ndarray, np.ndarray]:
    """(points (P, 2), codes (P,)) of the digit, its box centred on 0 with a longer side of 1."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), str(digit), size=100, prop=FontProperties(fname=font))
    points, codes = np.array(path.vertices), np.array(path.codes)
    drawn = codes != Outline.CLOSEPOLY  # the points of those are a meaningless (0, 0)
    low, high = points[drawn].min(0), points[drawn].max(0)
    return (points - (low + high) / 2) / (high - low).max(), codes


def _handwriting(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """`points` (P, 2) of one outline written n times, by `normals` (n, 17): (n, P, 2) in pixels.

    Width, slant and rotation, then two gentle waves across the page, then the box of each result
    is scaled to 18 to 22 pixels and centred to within one, so that nothing can leave the page.
    """
    n = normals.T[:, :, None]  # each of the 17 numbers is a column over the copies
    x, y = points[:, 0] * (0.85 + 0.1 * n[0]), points[:, 1]
    x = x + 0.2 * n[1] * y
    cosine, sine = np.cos(0.12 * n[2]), np.sin(0.12 * n[2])
    x, y = cosine * x - sine * y, sine * x + cosine * y
    for wave in (n[3:8], n[8:13]):
        phase = 4 * (wave[0] * x + wave[1] * y)
        x, y = (
            x + 0.025 * wave[2] * np.sin(phase + 3 * wave[3]),
            y + 0.025 * wave[2] * np.sin(phase + 3 * wave[4]),
        )
    x, y = x - (x.max(1) + x.min(1))[:, None] / 2, y - (y.max(1) + y.min(1))[:, None] / 2
    extent = np.maximum(np.ptp(x, 1), np.ptp(y, 1))[:, None]
    scale = (20 + n[13]) / extent
    middle = SIDE / 2
    return np.stack([middle + scale * x + 0.5 * n[14], middle + scale * y + 0.5 * n[15]], -1)


def _draw(renderer: Any, outline: tuple[np.ndarray, np.ndarray], normals: np.ndarray) -> np.ndarray:
    """uint8 (n, 28, 28): drawn at twice the size, each pixel the mean of four."""
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import IdentityTransform

    points, codes = outline
    drawn = codes != Outline.CLOSEPOLY
    written = np.zeros((len(normals), *points.shape))
    written[:, drawn] = 2 * _handwriting(points[drawn], normals)
    fine = np.empty((len(normals), 2 * SIDE, 2 * SIDE), np.uint16)
    pen = renderer.new_gc()
    pen.set_snap(False)
    for vertices, weight, page in zip(written, normals[:, -1], fine, strict=True):
        pen.set_linewidth(1.15 + 0.55 * weight)
        renderer.clear()
        renderer.draw_path(pen, Outline(vertices, codes), IdentityTransform(), (0, 0, 0))
        page[:] = np.asarray(renderer.buffer_rgba())[..., 3]
    quads = fine.reshape(-1, SIDE, 2, SIDE, 2).sum((2, 4), dtype=np.uint16)
    return ((quads + 2) // 4).astype(np.uint8)


# ------------------------------------------------------------------------------ kept on disk
def _kept_file(size: int, seed: int, split: str) -> Path | None:
    source = Path(__file__).read_bytes()
    state = f"{version('matplotlib')} {version('numpy')} {seed} {size} {split}"
    try:
        name = hashlib.sha256(source + state.encode()).hexdigest()[:16]
        return cache_root() / "data" / f"glyphs-{name}.npz"
    except RuntimeError:  # the user has no home
        return None


def _read(kept: Path, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except Exception:  # whatever is wrong with it: it can be made again
        return None
    whole = images.shape == (size, SIDE, SIDE) and labels.shape == (size,)
    typed = images.dtype == np.uint8 and labels.dtype == np.int64
    return (images, labels) if whole and typed else None


def _keep(kept: Path | None, images: np.ndarray, labels: np.ndarray) -> None:
    if kept is None:
        return
    packed = io.BytesIO()
    np.savez(packed, images=images, labels=labels)
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(kept, lambda file: file.write(packed.getbuffer()))
