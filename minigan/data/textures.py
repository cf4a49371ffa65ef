"""Generate colour textures: waves, checks, dots and bricks of two colours each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .dataset import Dataset, generators

SIDE = 32  # pixels of an image in a row and in a column
NUMBERS_PER_TEXTURE = 10  # random numbers for each image, of any kind
EDGE = 1.5  # how steeply one colour passes into the other, per pixel

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]


def textures(size: int, seed: int, split: str = "train", progress: bool = False) -> Dataset:
    """Return `size` images (3, 32, 32), labelled 0 waves, 1 checks, 2 dots, 3 bricks.

    Each has a period of 6 to 11 pixels, any direction and phase, and two colours that differ in
    brightness. Sample i depends on the seed, the split and i alone.
    """
    choices, numbers = generators(seed, 2, split)
    kinds = choices.integers(len(PATTERNS), size=size)
    # Row i of the stream belongs to image i, so that a longer set begins with the shorter one.
    u = numbers.random((size, NUMBERS_PER_TEXTURE), dtype=np.float32)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    images = np.empty((size, 3, SIDE, SIDE), np.uint8)
    for kind, pattern in enumerate(PATTERNS.values()):
        for rows in np.array_split(np.flatnonzero(kinds == kind), max(1, size // 2000)):
            a = u[rows][:, :, None, None]
            angle, period = 2 * np.pi * a[:, 0], 6 + 5 * a[:, 1]
            across = (x * np.cos(angle) + y * np.sin(angle)) / period + a[:, 2]
            along = (y * np.cos(angle) - x * np.sin(angle)) / period + a[:, 3]
            # The distance to the border between the colours in periods, in pixels then.
            mix = 0.5 + 0.5 * np.tanh(EDGE * pattern(across, along) * period)
            dark = 0.45 * a[:, 4:7]
            light = dark + 0.35 + (0.65 - dark) * a[:, 7:10]
            images[rows] = np.rint(255 * (dark + (light - dark) * mix[:, None]))
    return Dataset("textures", images, kinds, len(PATTERNS), class_names=tuple(PATTERNS))


def _wave(position: np.ndarray) -> np.ndarray:
    """Return the distance to the nearest border of stripes, positive inside, in periods."""
    return 0.25 - np.abs(np.mod(position, 1) - 0.5)


def _checks(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    first, second = _wave(across), _wave(along)
    return np.sign(first * second) * np.minimum(np.abs(first), np.abs(second))


def _dots(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    return 0.32 - np.hypot(np.mod(across, 1) - 0.5, np.mod(along, 1) - 0.5)


def _bricks(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    moved = across / 2 + 0.5 * (np.floor(along) % 2)
    to_side = 2 * (0.5 - np.abs(np.mod(moved, 1) - 0.5))
    to_edge = 0.5 - np.abs(np.mod(along, 1) - 0.5)
    return np.minimum(to_side, to_edge) - 0.1


# A function of the coordinates in periods, across and along: the distance to the border between the
# two colours, positive inside.
PATTERNS: dict[str, Pattern] = {
    "waves": lambda across, along: _wave(across),
    "checks": _checks,
    "dots": _dots,
    "bricks": _bricks,
}
