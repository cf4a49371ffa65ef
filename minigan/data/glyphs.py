"""Generate images like MNIST's: digits of matplotlib's fonts, randomly distorted."""

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
from .checks import DataError
from .dataset import Dataset, generators
from .npz import Archive

SIDE = 28  # pixels of an image in a row and in a column
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STYLES = (None, "sans", "serif")
SANS = ("DejaVuSans", "cmss", "STIXSans")  # how the names of fonts without serifs begin
NUMBERS_PER_GLYPH = 17  # random numbers for each image, the same for every digit


def load_glyphs(
    size: int, seed: int, split: str = "train", progress: bool = False, style: str | None = None
) -> Dataset:
    """Return `size` images (1, 28, 28), light on dark, labelled 0 to 9.

    `style` is "sans" or "serif", for the fonts without and with serifs; None: all fonts. Sample i
    depends on the seed, the split, the style and i alone. The images are cached on disk: if a file
    cannot be read, its images are drawn again; if the cache cannot be written, it is not used.
    """
    path = _cache_path(size, seed, split, style)
    arrays = _read_cache(path, size) if path else None
    if arrays is None:
        arrays = draw_glyphs(size, seed, split, progress, style)
        _write_cache(path, *arrays)
    images, labels = arrays
    name = "glyphs" if style is None else f"glyphs-{style}"
    return Dataset(name, images[:, None], labels, 10)


# ------------------------------------------------------------------------------------- drawing
def draw_glyphs(
    size: int, seed: int, split: str = "train", progress: bool = False, style: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw images; return them as uint8 (size, 28, 28), and labels as int64 (size,)."""
    from matplotlib.backends.backend_agg import RendererAgg

    from ..utils.progress import progress_bar

    fonts = [font for font in digit_fonts() if style in (None, style_of(font))]
    # Each style has streams of its own: no image of one is distorted like one of the other.
    first = 2 * STYLES.index(style)
    choices, shapes = generators(seed, 2 * len(STYLES), split)[first : first + 2]
    picks = choices.integers(len(fonts) * 10, size=size)
    # Row i of the stream belongs to image i, so that a longer set begins with the shorter one.
    normals = shapes.standard_normal((size, NUMBERS_PER_GLYPH)).clip(-2, 2)
    images = np.empty((size, SIDE, SIDE), np.uint8)
    renderer = RendererAgg(2 * SIDE, 2 * SIDE, dpi=72)  # at 72 dpi a point is a pixel
    with progress_bar(total=size, desc="glyphs", show=progress) as bar:
        for pick in np.unique(picks):
            members = np.flatnonzero(picks == pick)
            outline = _outline(fonts[pick // 10], int(pick % 10))
            images[members] = _draw(renderer, outline, normals[members])
            bar.update(len(members))
    return images, picks % 10


@cache
def digit_fonts() -> tuple[str, ...]:
    """Return the paths of matplotlib's fonts that have all ten digits, in order of name.

    The names of a font's glyphs are checked, as some fonts map "0" to a box, a bracket or an
    infinity sign. Fonts whose zero has three contours are left out: it contains a dot or a slash,
    and looks like an eight when it is small and bold.
    """
    import matplotlib
    from matplotlib.ft2font import FT2Font
    from matplotlib.path import Path as Outline

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    paths = []
    for path in sorted(folder.glob("*.ttf")):
        font = FT2Font(str(path))
        glyphs = [font.get_char_index(ord("0") + digit) for digit in range(10)]
        if tuple(map(font.get_glyph_name, glyphs)) != DIGIT_NAMES:
            continue
        font.load_char(ord("0"))
        if np.count_nonzero(font.get_path()[1] == Outline.MOVETO) == 2:
            paths.append(str(path))
    if not paths:
        raise DataError(f"glyphs: no font with digits in {folder}")
    return tuple(paths)


def style_of(font: str) -> str:
    """Return "sans" or "serif" for the path of a font of matplotlib's, by its name."""
    name = Path(font).stem
    return "sans" if name.startswith(SANS) else "serif"


@cache
def _outline(font: str, digit: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the digit's points (P, 2) and path codes (P,), its box around 0 with longer side 1."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), str(digit), size=100, prop=FontProperties(fname=font))
    points, codes = np.array(path.vertices), np.array(path.codes)
    drawn = codes != Outline.CLOSEPOLY  # The points of CLOSEPOLY are (0, 0), and are not drawn.
    low, high = points[drawn].min(0), points[drawn].max(0)
    return (points - (low + high) / 2) / (high - low).max(), codes


def _distort(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return n distorted copies of an outline, (n, P, 2) in pixels.

    An outline is stretched, slanted and rotated, then bent by two waves; then its box is scaled to
    18 to 22 pixels and centred to within one, so that all of it is in the image.

    Args:
        points: (P, 2), the outline.
        normals: (n, 17), normal random numbers, clipped to [-2, 2].
    """
    n = normals.T[:, :, None]  # (17, n, 1): n[k] is the k-th number of every copy.
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
    """Return images, uint8 (n, 28, 28): drawn at twice that size, each pixel the mean of four."""
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import IdentityTransform

    points, codes = outline
    drawn = codes != Outline.CLOSEPOLY
    outlines = np.zeros((len(normals), *points.shape))
    outlines[:, drawn] = 2 * _distort(points[drawn], normals)
    fine = np.empty((len(normals), 2 * SIDE, 2 * SIDE), np.uint16)
    pen = renderer.new_gc()
    pen.set_snap(False)
    for vertices, weight, pixels in zip(outlines, normals[:, -1], fine, strict=True):
        pen.set_linewidth(1.15 + 0.55 * weight)
        renderer.clear()
        renderer.draw_path(pen, Outline(vertices, codes), IdentityTransform(), (0, 0, 0))
        pixels[:] = np.asarray(renderer.buffer_rgba())[..., 3]
    quads = fine.reshape(-1, SIDE, 2, SIDE, 2).sum((2, 4), dtype=np.uint16)
    return ((quads + 2) // 4).astype(np.uint8)


# -------------------------------------------------------------------------------------- cache
def _cache_path(size: int, seed: int, split: str, style: str | None) -> Path | None:
    source = Path(__file__).read_bytes()
    state = f"{version('matplotlib')} {version('numpy')} {seed} {size} {split} {style}"
    try:
        name = hashlib.sha256(source + state.encode()).hexdigest()[:16]
        return cache_root() / "data" / f"glyphs-{name}.npz"
    except RuntimeError:  # The user has no home folder.
        return None


def _read_cache(path: Path, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with Archive(path) as archive:
            images, labels = archive.read("images"), archive.read("labels")
    except Exception:  # Whatever is wrong with the file, the images can be drawn again.
        return None
    has_shapes = images.shape == (size, SIDE, SIDE) and labels.shape == (size,)
    has_dtypes = images.dtype == np.uint8 and labels.dtype == np.int64
    return (images, labels) if has_shapes and has_dtypes else None


def _write_cache(path: Path | None, images: np.ndarray, labels: np.ndarray) -> None:
    if path is None:
        return
    buffer = io.BytesIO()  # zipfile does not recover from a full disk.
    np.savez(buffer, images=images, labels=labels)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file: file.write(buffer.getbuffer()))
