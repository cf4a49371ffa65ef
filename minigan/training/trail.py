"""Follow a vector over a training: its positions at the last two logged steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .gauge_functions import cosine

MAX_NUMBERS = 4096  # of a vector that are followed


@dataclass(frozen=True)
class Step:
    """A displacement, and the cosine of the angle between it and the one before.

    None stands for what needs more positions.
    """

    vector: np.ndarray | None = None
    cosine: float | None = None


class Trail:
    """The last two positions of some numbers of a vector, which are chosen once, at random.

    A random choice of k numbers gives the cosine of two vectors up to about 1 / sqrt(k), 0.016.

    Args:
        size: the length of the vector.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        generator = np.random.Generator(np.random.Philox(0))
        chosen = generator.choice(size, min(size, MAX_NUMBERS), replace=False)
        self.chosen = np.sort(chosen)
        self.positions: list[np.ndarray] = []

    def select(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the chosen numbers of the vector that arrays make one after the other."""
        ends = np.cumsum([x.size for x in parts])
        pieces = np.split(self.chosen, np.searchsorted(self.chosen, ends[:-1]))
        starts = [0, *ends[:-1]]
        return np.concatenate(
            [x.reshape(-1)[i - start] for x, i, start in zip(parts, pieces, starts, strict=True)]
        ).astype(np.float32)

    def push(self, position: np.ndarray) -> Step:
        """Add a position, and return the last displacement."""
        self.positions = [*self.positions[-2:], position]
        moves = [b - a for a, b in zip(self.positions, self.positions[1:], strict=False)]
        self.positions = self.positions[-2:]
        if not moves:
            return Step()
        return Step(moves[-1], cosine(moves[-2], moves[-1]) if len(moves) > 1 else None)

    def state(self) -> np.ndarray:
        """Return the positions, (0 to 2, numbers) float32."""
        return np.array(self.positions, np.float32).reshape(-1, len(self.chosen))

    def load_state(self, positions: np.ndarray) -> None:
        """Restore the positions that `state` returned.

        Raises:
            ValueError: they are no such positions.
        """
        shape = positions.shape
        if positions.dtype != np.float32 or len(shape) != 2 or shape[1] != len(self.chosen):
            raise ValueError(f"positions are {positions.dtype} of shape {shape}")
        self.positions = list(positions[-2:])
