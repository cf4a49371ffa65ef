"""Draw a folder of pictures: mixed sizes, colours, three classes. Needs Pillow and numpy only.

    python tests/photo_folder.py photos/       # 300 pictures: faces/, stars/, stripes/

The pictures are the same in every call. Each shows one thing near its middle, so that the largest
square in the middle has all of it.
"""

from __future__ import annotations

import colorsys
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Rng = np.random.Generator
Colour = tuple[int, ...]
SCALE = 3  # Pictures are drawn so many times larger and reduced, which smooths their edges.


def colour(rng: Rng, value: tuple[float, float], saturation: tuple[float, float]) -> Colour:
    """Return an RGB colour of any hue, with a value and a saturation from two ranges."""
    parts = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return tuple(round(255 * x) for x in parts)


def background(rng: Rng, width: int, height: int) -> Image.Image:
    """Return a picture with a gradient between two dark colours, in any direction."""
    first, last = (np.array(colour(rng, (0.1, 0.5), (0.2, 0.8))) for _ in range(2))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    t = (1 + (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2))[..., None] / 2
    return Image.fromarray((first + (last - first) * t).astype(np.uint8))


def disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Colour) -> None:
    """Draw a disc."""
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def place(rng: Rng, image: Image.Image) -> tuple[float, float, float]:
    """Return a center near the middle and a radius that keeps a thing in the middle square."""
    width, height = image.size
    side = min(width, height)
    x, y = rng.uniform(-0.08, 0.08, 2) * side
    return width / 2 + x, height / 2 + y, rng.uniform(0.3, 0.4) * side


def face(rng: Rng, image: Image.Image) -> Image.Image:
    """Draw a face of discs: a head, two eyes with pupils, a mouth that is open or smiles."""
    draw = ImageDraw.Draw(image)
    x, y, radius = place(rng, image)
    skin = colorsys.hsv_to_rgb(rng.uniform(0.04, 0.14), rng.uniform(0.3, 0.7), rng.uniform(0.7, 1))
    disc(draw, x, y, radius, tuple(round(255 * c) for c in skin))
    gap, eye = rng.uniform(0.36, 0.44) * radius, rng.uniform(0.18, 0.24) * radius
    iris = colour(rng, (0.1, 0.5), (0.3, 1))
    look = rng.uniform(-0.35, 0.35, 2) * eye
    for side in (-gap, gap):
        disc(draw, x + side, y - 0.25 * radius, eye, (250, 250, 250))
        disc(draw, x + side + look[0], y - 0.25 * radius + look[1], 0.6 * eye, iris)
    lips = (round(rng.uniform(130, 210)), 30, 50)
    wide, high = rng.uniform(0.3, 0.5) * radius, rng.uniform(0.12, 0.3) * radius
    box = (x - wide, y + 0.4 * radius - high, x + wide, y + 0.4 * radius + high)
    if rng.random() < 0.5:
        draw.ellipse(box, fill=lips)
    else:
        draw.chord(box, 0, 180, fill=lips)
    return image


def star(rng: Rng, image: Image.Image) -> Image.Image:
    """Draw a bright star with five points, rotated by any angle."""
    x, y, radius = place(rng, image)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(10) * np.pi / 5
    radii = radius * 1.15 * np.where(np.arange(10) % 2, rng.uniform(0.4, 0.5), 1.0)
    points = zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True)
    ImageDraw.Draw(image).polygon(list(points), fill=colour(rng, (0.85, 1), (0.5, 1)))
    return image


def stripes(rng: Rng, image: Image.Image) -> Image.Image:
    """Return a picture of the same size with stripes of two colours, in any direction."""
    width, height = image.size
    dark, light = (np.array(colour(rng, v, (0.4, 1))) for v in ((0.1, 0.4), (0.75, 1)))
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.2, 0.4) * min(width, height)
    y, x = np.mgrid[:height, :width]
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period + rng.random()
    t = np.clip(0.5 + 3 * np.sin(2 * np.pi * phase), 0, 1)[..., None]
    return Image.fromarray((dark + (light - dark) * t).astype(np.uint8))


KINDS = {"faces": face, "stars": star, "stripes": stripes}


def draw(kind: str, number: int) -> Image.Image:
    """Return picture `number` of a kind, 72 to 160 pixels wide and high."""
    rng = np.random.Generator(np.random.Philox([list(KINDS).index(kind), number]))
    width, height = (int(n) for n in rng.integers(72, 161, 2))
    large = background(rng, SCALE * width, SCALE * height)
    return KINDS[kind](rng, large).resize((width, height), Image.Resampling.BOX)


def draw_folder(folder: Path, per_class: int = 100) -> Path:
    """Write PNG and JPEG files by turns into folder/faces, folder/stars and folder/stripes."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            suffix = ".jpg" if number % 2 else ".png"
            draw(kind, number).save(folder / kind / f"{number:03}{suffix}")
    return folder


if __name__ == "__main__":
    draw_folder(Path(sys.argv[1]))
