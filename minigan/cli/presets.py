"""`minigan presets`: list the presets of `minigan train`."""

from __future__ import annotations

import argparse

from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add no arguments."""


def run(options: argparse.Namespace) -> int:
    """Print a line for each preset: its name, data, description and paper."""
    from ..gan.auto_preset import AUTO
    from ..gan.presets import PRESETS

    print(f"{'name':<12}data")
    for name, preset in PRESETS.items():
        data = "your own" if preset.needs_data else preset.options.get("data", "glyphs")
        print(f"{name:<12}{data:<12}{preset.about} ({preset.paper})")
    print(
        f"{AUTO:<12}{'any':<12}one of these, by the data: points or images, number, size, classes"
    )
    return 0
