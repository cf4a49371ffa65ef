"""Interpolate between latents, linearly or along a great circle (White 2016)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

PARALLEL = 1e-12  # the sine of an angle below which two directions span no plane


def lerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return points on the straight line from each start to its end.

    Args:
        start, end: (n, d).
        t: (m,) in [0, 1]; 0 is the start and 1 the end, both to the bit.

    Returns:
        (n, m, d), in float64.
    """
    a, b, s = start.astype("f8")[:, None], end.astype("f8")[:, None], t[:, None]
    return np.where(s < 1, a + s * (b - a), b)


def slerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return points on the arc of a great circle from each start to its end.

    The direction moves along the arc at a constant speed (Shoemake 1985), and the norm changes
    linearly from that of the start to that of the end. For two vectors of one norm this is the
    formula of White 2016, "Sampling Generative Networks".

    Antipodal vectors have many arcs: the one is taken that leaves the start towards the coordinate
    axis that is most nearly perpendicular to it. A vector of zeros has no direction, and two
    antipodal numbers (d = 1) have no arc: there it is `lerp`.

    Args:
        start, end: (n, d).
        t: (m,) in [0, 1]; 0 is the start and 1 the end, both to the bit.

    Returns:
        (n, m, d), in float64.
    """
    straight = lerp(start, end, t)
    for i, (a, b) in enumerate(zip(start.astype("f8"), end.astype("f8"), strict=True)):
        norms = np.linalg.norm(a), np.linalg.norm(b)
        if min(norms) == 0:
            continue
        u, v = a / norms[0], b / norms[1]
        # The arctangent is exact at all angles; the arc cosine loses half of the digits near 0 and
        # near pi.
        angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
        w = _perpendicular(u, v)
        if w is None:
            continue
        inner = (t > 0) & (t < 1)
        s = t[inner, None]
        norm = norms[0] + s * (norms[1] - norms[0])
        straight[i, inner] = norm * (np.cos(s * angle) * u + np.sin(s * angle) * w)
    return straight


def _perpendicular(u: np.ndarray, v: np.ndarray) -> np.ndarray | None:
    """Return the unit vector perpendicular to u in the plane of u and v; None if d = 1.

    Where they span no plane, a coordinate axis stands for v.
    """
    if len(u) == 1:
        return None
    w = v - (u @ v) * u
    if np.linalg.norm(w) < PARALLEL:
        axis = np.zeros_like(u)
        axis[np.abs(u).argmin()] = 1
        w = axis - (u @ axis) * u
    return w / np.linalg.norm(w)


INTERPOLATIONS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "lerp": lerp,
    "slerp": slerp,
}
