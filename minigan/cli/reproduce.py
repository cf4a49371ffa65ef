"""`minigan reproduce`: measure a published table again."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..utils.names import choose
from ..utils.progress import announce_kernels
from .parser import Parser
from .terminal import note

DEFAULT_SEEDS = "0-9"


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="the experiment [list them, with their times]",
    )
    parser.add_argument(
        "--seeds",
        default=DEFAULT_SEEDS,
        metavar="LIST",
        help="say 0-9 or 0,3,5; two cores take two at a time [%(default)s]",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="a new folder for results.json, table.md and figure.png, or one where the same"
        " experiment was stopped: it goes on with the seeds that are not done [reproduced/NAME]",
    )


def run(options: argparse.Namespace) -> int:
    """Print the table of an experiment; return 1 if a goal was missed."""
    from ..reproduce import EXPERIMENTS, reproduce
    from ..reproduce.runner import FIGURE, RESULTS, TABLE
    from ..reproduce.table import text
    from ..training.seed_runs import parse_seeds

    if options.name is None:
        print(f"{'name':<14}minutes  what is reproduced")
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:<14}{experiment.minutes:>7g}  {experiment.about}")
        print("(ten seeds on two cores)")
        return 0
    experiment = choose("experiment", options.name, EXPERIMENTS)
    seeds = parse_seeds(options.seeds)
    folder = Path(options.out or Path("reproduced") / options.name)
    announce_kernels("cpu")
    document = reproduce(options.name, experiment, seeds, folder, say=note)
    print(text(experiment, document))
    print(", ".join(str(folder / file) for file in (RESULTS, TABLE, FIGURE)))
    return 1 if document["missed_goals"] else 0
