"""`minigan report`: write one HTML file that shows a run, or several beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from .evaluate import add_data_options
from .options import add_code_options, named_code
from .parser import Parser
from .terminal import report


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folders", metavar="RUN", nargs="+", help="the folders of runs")
    parser.add_argument(
        "--out",
        metavar="FILE.html",
        help="the file; a report that is there is replaced, another file is not [RUN/report.html;"
        " of several runs report.html]",
    )
    parser.add_argument(
        "--without-data",
        action="store_true",
        help="do not load the data, and show no nearest training samples",
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="measure the runs that `minigan evaluate` has not measured, which may take minutes",
    )
    add_data_options(parser)
    add_code_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the report, and print its path."""
    from ..report import write_report
    from ..report.gather import Sources

    if options.evaluate and options.without_data:
        raise ValueError("--evaluate needs the data that --without-data does not load")
    paths = options.data, options.data_dir
    sources = Sources(*paths, named_code(options), not options.without_data, options.evaluate)
    out = None if options.out is None else Path(options.out)
    report(write_report([Path(x) for x in options.run_folders], out, sources))
    return 0
