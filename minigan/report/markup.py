"""Build HTML in which every text is escaped, unless it is HTML already.

tag("p", "a < b ", tag("b", "c"), class_="note")  # <p class="note">a &lt; b <b>c</b></p>
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..utils import strict_json
from ..utils.names import printable

VOID = {"br", "col", "hr", "img", "input", "link", "meta"}  # elements without an end tag
NONE = "-"  # in place of a number that there is not
MAX_TEXT = 2000  # characters of one text from a run folder


class Html(str):
    """Text that is HTML; `tag` escapes every other text."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return a value as escaped text, which is one line and has a bounded length."""
    if isinstance(value, Html):
        return value
    line = printable(str(value))
    if len(line) > MAX_TEXT:
        line = line[:MAX_TEXT] + " …"
    return Html(html.escape(line))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Return the parts, escaped where they are not HTML, one after another."""
    return Html(separator.join(map(text, parts)))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: of the element.
        children: its content; None is left out.
        attributes: by name, with "_" for "-" and a "_" behind Python's keywords (`class_`); True is
            an attribute without a value, None and False are no attribute.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        words.append(word if value is True else f'{word}="{text(value)}"')
    start = f"<{' '.join(words)}>"
    if name in VOID:
        return Html(start)
    return Html(f"{start}{join(x for x in children if x is not None)}</{name}>")


def table(
    caption: str,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    numbers: Sequence[int] = (),
) -> Html:
    """Return a table that scrolls within itself; the first cell of a row is its header.

    Args:
        caption: what it shows.
        head: the titles of the columns.
        rows: the cells.
        numbers: the indices of the columns of numbers, which are aligned right.
    """
    kinds = ["number" if i in numbers else None for i in range(len(head))]
    titles = [tag("th", x, scope="col", class_=k) for x, k in zip(head, kinds, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [tag("td", x, class_=k) for x, k in zip(others, kinds[1:], strict=True)]
        lines.append(tag("tr", tag("th", first, scope="row"), *cells))
    content = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *lines),
    )
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)


def definitions(items: Iterable[tuple[object, object]], class_: str | None = None) -> Html:
    """Return a list of terms with their descriptions."""
    rows = [tag("div", tag("dt", term), tag("dd", value)) for term, value in items]
    return tag("dl", *rows, class_=class_)


def note(*children: object) -> Html:
    """Return a note on what is missing or was changed."""
    return tag("p", *children, class_="note")


def script_data(value: Any) -> Html:
    """Return JSON for a <script> element: it holds no "<", so it cannot end the element."""
    return Html(strict_json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with a few significant digits, NONE for none."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    size = abs(value)
    if float(value).is_integer() and size < 1e15:
        return f"{int(value):,}"
    if not 1e-3 <= size < 1e7:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent):+d}"  # as the page's script writes it
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"


def plural(count: int, word: str) -> str:
    """Return a number of things: "1 step", "2,000 steps"."""
    return f"{count:,} {word}" + "s" * (count != 1)
