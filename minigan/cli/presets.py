"""`minigan presets`: list the presets of `minigan train`."""

from __future__ import annotations

import argparse

from .parser import Parser
from .terminal import announce_kernels


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--no-time", action="store_true", help="only list them")


def run(options: argparse.Namespace) -> int:
    """Print a line per preset: its name, its speed, its data, what it is."""
    from ..gan.presets import PRESETS, seconds

    if not options.no_time:
        announce_kernels("cpu")
    print(f"{'name':<12}{'s / 1,000 steps':>16}  data")
    for name, preset in PRESETS.items():
        duration = "" if options.no_time else f"{seconds(name):.1f}"
        data = preset.options.get("data", "glyphs")
        print(f"{name:<12}{duration:>16}  {data:<12}{preset.about} ({preset.paper})", flush=True)
    return 0
