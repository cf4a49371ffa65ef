"""Write the tables of options into README files: `python -m minigan.training.readme`."""

from __future__ import annotations

from pathlib import Path

from ..translation.config import GROUP, TranslationConfig
from .config import Config
from .options import markdown_table

README = Path(__file__).with_name("README.md")
TRANSLATION = Path(__file__).parents[1] / "translation" / "README.md"
BEGIN, END = "<!-- options begin -->", "<!-- options end -->"


def with_options(text: str, table: str | None = None) -> str:
    """Return the text with what is between its two markers replaced by a table.

    Args:
        text: of the README.
        table: of the options; None: that of Config.

    Raises:
        ValueError: a marker is missing.
    """
    head, _, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise ValueError(f"the markers {BEGIN} and {END} are needed")
    return f"{head}{BEGIN}\n{markdown_table(Config) if table is None else table}{END}{tail}"


def translation_table() -> str:
    """Return the table of the options that images from images alone have."""
    return markdown_table(TranslationConfig, GROUP)


if __name__ == "__main__":
    README.write_text(with_options(README.read_text()))
    TRANSLATION.write_text(with_options(TRANSLATION.read_text(), translation_table()))
