"""The frame that all sections share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..gather import RunReport
from ..markup import Html, tag


def section(slug: str, title: str, *children: object) -> Html:
    """Return a section with a title, to which the page's contents lead."""
    heading = tag("h2", title, id=f"{slug}-title")
    return tag("section", heading, *children, id=slug, aria_labelledby=f"{slug}-title")


def columns(runs: Sequence[RunReport], content: Callable[[RunReport], object]) -> Html:
    """Return the content of each run in a column of its own, or below each other on a phone."""
    parts = []
    for run in runs:
        heading = tag("h3", run.name) if len(runs) > 1 else None
        parts.append(tag("div", heading, content(run), class_="column"))
    return tag("div", *parts, class_=f"columns of-{min(len(runs), 4)}")
