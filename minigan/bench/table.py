"""Text tables with aligned columns or as Markdown, and the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .timing import Quartiles


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table whose first `left` columns are aligned left and whose others right.

    Raises:
        ValueError: a row has another number of cells than the heads.
    """
    for row in rows:
        if len(row) != len(heads):
            raise ValueError(f"table: a row has {len(row)} cells, the heads {len(heads)}")
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def format_markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table, aligned as in `format_table`; "" without rows."""
    if not rows:
        return ""
    rule = ["---" if i < left else "---:" for i in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *rows])


def format_number(x: float) -> str:
    """Return three significant digits without an exponent: 0.0123, 1.23, 12.3, 123, 1234."""
    if x == 0 or not math.isfinite(x):
        return f"{x:.0f}"
    magnitude = math.floor(math.log10(abs(float(f"{x:.2e}"))))
    return f"{x:.{max(0, 2 - magnitude)}f}"


def format_quartiles(quartiles: Quartiles) -> list[str]:
    """Return two cells: the median, and the range between the quartiles."""
    low, high = format_number(quartiles.low), format_number(quartiles.high)
    return [format_number(quartiles.median), f"{low}..{high}"]
