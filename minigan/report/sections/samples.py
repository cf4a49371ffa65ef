"""Pictures: samples over time, real samples, nearest training images, a walk between latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..gather import RunReport
from ..markup import Html, join, note, number, plural, tag
from ..pictures import Picture
from ..trained import Walk
from .layout import columns, section

STROKES = ("a", "b", "c", "e", "f")  # the colours' classes of the walks of points
SIZE, EDGE = 360, 12  # of a plot of points, in its own units
FAR = 9999  # A renderer need not draw what is farther from the plot, in its units.


def samples_section(runs: Sequence[RunReport]) -> Html:
    """Return the samples over time, with a slider for all runs, beside real samples."""
    steps = sorted({picture.step for run in runs for picture in run.content.album.samples})
    text = (
        "At every step the generator gets the same random numbers, so each sample can be followed"
        " from noise to its last form."
    )
    slider = _slider(steps) if steps else None
    return section("samples", "Samples over time", tag("p", text), slider, columns(runs, _film))


def _slider(steps: Sequence[int]) -> Html:
    last = f"{steps[-1]:,}"
    field = tag(
        "input",
        type="range",
        id="step",
        min=0,
        max=len(steps) - 1,
        value=len(steps) - 1,
        step=1,
        aria_valuetext=f"step {last}",
        data_steps=" ".join(map(str, steps)),
        autocomplete="off",
    )
    label = tag("label", "Training step", for_="step")
    now = tag("output", last, for_="step", id="step-now")
    play = tag("button", "Play", type="button", id="play", aria_pressed="false")
    without = tag("noscript", note("Without JavaScript the last step is shown."))
    return tag("div", label, now, field, play, without, class_="player")


def _film(run: RunReport) -> Html:
    album = run.content.album
    if not album.samples:
        return note("This run has no pictures of samples yet: `minigan train` draws the first one.")
    shapes = {(picture.width, picture.height) for picture in album.samples}
    images = [_step_image(run, picture, picture is album.samples[-1]) for picture in album.samples]
    last = album.samples[-1].step
    caption = tag("span", f"step {last:,}", class_="at")
    sheet = tag(
        "figure",
        tag("div", *images, class_="stack"),
        tag("figcaption", "Generated, ", caption, aria_live="polite"),
        class_="film",
    )
    real = None
    if album.reals is not None:
        image = _image(album.reals, f"Real samples of the data of {run.name}", class_=_pixels(run))
        real = tag("figure", image, tag("figcaption", "Real samples"))
    parts = [tag("div", sheet, real, class_="pair"), _album_text(run, len(shapes) > 1)]
    return join(parts)


def _album_text(run: RunReport, sizes_differ: bool) -> Html:
    """Return what is said about the pictures: how many there are, and what was done to them."""
    album = run.content.album
    shown = len(album.samples)
    text = (
        plural(shown, "picture") if shown == album.total else f"{shown} of {album.total} pictures"
    )
    text += ", evenly chosen" if shown < album.total else ""
    text += f"; its sample_every is {number(every)}" if (every := _every(run)) else ""
    text += "; compressed with losses, to keep this file small" if album.lossy else ""
    text += "; their sizes differ" if sizes_differ else ""
    trained = run.trained
    if trained is not None and trained.sampler.points is not None:
        text += ". Grey points are real, blue ones generated"
    return tag("p", f"{text}.", class_="help")


def _every(run: RunReport) -> int | None:
    value = run.content.options.get("sample_every")
    return value if type(value) is int and value > 0 else None


def _step_image(run: RunReport, picture: Picture, is_last: bool) -> Html:
    label = f"Samples that {run.name} generated at step {picture.step:,}"
    return _image(picture, label, data_step=picture.step, hidden=not is_last, class_=_pixels(run))


def _image(picture: Picture, label: str, **attributes: object) -> Html:
    size = {"width": picture.width, "height": picture.height}
    if picture.scale > 1:
        attributes |= {"class_": "pixels"}
    return tag("img", src=Html(picture.uri), alt=label, **size, **attributes)


def _pixels(run: RunReport) -> str | None:
    """Return the class of pictures whose pixels stay sharp when they are enlarged: not of plots."""
    is_image = run.trained is not None and run.trained.sampler.points is None
    return "pixels" if is_image else None


# ------------------------------------------------------------------------- nearest training samples
def nearest_section(runs: Sequence[RunReport]) -> Html:
    """Return generated images above the training images that are nearest to them."""
    text = (
        "A generator that has learned makes samples that are new; one that has memorised returns"
        " training samples. Then the distances of its samples to the training data are much smaller"
        " than those of real samples that it never met."
    )
    return section("nearest", "Nearest training samples", tag("p", text), columns(runs, _nearest))


def _nearest(run: RunReport) -> Html:
    nearest = run.nearest
    if nearest is None:
        return note("Not shown: ", run.reasons["nearest"], ".")
    items = []
    for picture, distance in nearest.pairs:
        label = f"A generated image above its nearest training image, distance {distance:.2f}"
        caption = tag("span", f"{distance:.2f}", aria_hidden="true")
        items.append(tag("li", _image(picture, label, class_="pixels"), caption))
    pairs = tag("ul", *items, class_="pairs") if items else None
    parts = (
        ["Each column: a generated image, below it the nearest training image. "] if items else []
    )
    parts.append(f"Median distance to the nearest training sample: {number(nearest.generated, 3)}")
    parts.append(" for generated samples")
    if nearest.held_out is not None:
        parts.append(f", {number(nearest.held_out, 3)} for held-out real ones")
    parts.append(" (root mean square over the numbers of a sample")
    if nearest.searched < nearest.total:
        parts.append(f"; {nearest.searched:,} of {nearest.total:,} training samples were compared")
    return join([pairs or "", tag("p", *parts, ").", class_="help")])


# ------------------------------------------------------------------------------------- latent walk
def walk_section(runs: Sequence[RunReport]) -> Html:
    """Return samples on the way between random latents."""
    text = (
        "Each row, or line, goes from one random latent to another in equal steps. Where the"
        " generator has learned, all samples on the way look real and change smoothly."
    )
    return section("walk", "A walk between latents", tag("p", text), columns(runs, _walk))


def _walk(run: RunReport) -> Html:
    walk = run.walk
    if walk is None:
        return note("Not shown: ", run.reasons["walk"], ".")
    if walk.picture is not None:
        label = f"Samples of {run.name} on the way between random latents"
        image = _image(walk.picture, label, class_="pixels")
        rows = f"A class in each row: {', '.join(walk.rows)}." if walk.rows else None
        return tag("figure", image, tag("figcaption", rows) if rows else None, class_="wide")
    return tag("figure", _point_walk(walk), tag("figcaption", _point_text(walk)), class_="wide")


def _point_text(walk: Walk) -> str:
    _, paths = _walk_places(walk)
    text = (
        f"Grey: real points. Each of the {len(paths)} lines is the way of a generated point,"
        " from an open circle to a dot."
    )
    outside = int(((paths < 0) | (paths > SIZE)).any(-1).sum())
    count = f"{outside:,} of {paths.shape[0] * paths.shape[1]:,} generated points"
    return f"{text} {count} lie outside of the picture." if outside else text


def _walk_places(walk: Walk) -> tuple[np.ndarray, np.ndarray]:
    """Return where the real points (n, 2) and the walks (lines, steps, 2) are in the drawing.

    The real points fill it. Walks of one dimension are drawn over their steps.
    """
    assert walk.paths is not None
    assert walk.reals is not None
    reals, paths = walk.reals[:, :2], walk.paths[:, :, :2]
    if reals.shape[1] == 1:  # the second number is the place on the way, or random
        ways = np.linspace(-1, 1, paths.shape[1]) * np.abs(reals).max()
        offsets = np.linspace(-1, 1, len(reals))[:, None] * np.abs(reals).max()
        reals = np.concatenate([reals, offsets], 1)
        paths = np.concatenate([paths, np.broadcast_to(ways[:, None], paths.shape)], 2)
    limit = 1.15 * float(np.abs(reals).max()) or 1.0

    def place(points: np.ndarray) -> np.ndarray:
        shares = (points * [1, -1] / limit + 1) / 2
        return np.clip(EDGE + shares * (SIZE - 2 * EDGE), -FAR, FAR)

    return place(reals), place(paths)


def _point_walk(walk: Walk) -> Html:
    """Return a drawing of walks of points among real ones, which its edges cut off."""
    reals, paths = _walk_places(walk)
    dots = [tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=1.6) for x, y in reals]
    parts = [tag("g", *dots, class_="reals")]
    for points, colour in zip(paths, STROKES, strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        (x, y), (u, v) = points[0], points[-1]
        parts.append(tag("polyline", points=line, class_=f"way {colour}"))
        parts.append(tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=4, class_=f"begin {colour}"))
        parts.append(tag("circle", cx=f"{u:.1f}", cy=f"{v:.1f}", r=3, class_=f"end {colour}"))
    label = "Generated points on the way between random latents, among real points"
    size = f"0 0 {SIZE} {SIZE}"
    return tag("svg", *parts, viewBox=size, class_="points", role="img", aria_label=label)
