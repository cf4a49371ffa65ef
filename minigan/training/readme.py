"""Write the table of options into README.md: `python -m minigan.training.readme`."""

from __future__ import annotations

from pathlib import Path

from .config import Config
from .options import markdown_table

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- options begin -->", "<!-- options end -->"


def with_options(text: str) -> str:
    """Return the text with the table between its two markers replaced.

    Raises:
        ValueError: a marker is missing.
    """
    head, _, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise ValueError(f"the markers {BEGIN} and {END} are needed")
    return f"{head}{BEGIN}\n{markdown_table(Config)}{END}{tail}"


if __name__ == "__main__":
    README.write_text(with_options(README.read_text()))
