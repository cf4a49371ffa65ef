"""`minigan doctor`: say what is wrong with runs, and what to try."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils import strict_json
from .parser import Parser
from .terminal import note

if TYPE_CHECKING:
    from ..doctor import Diagnosis

EPILOG = (
    "The exit status is 0 if nothing was found, 1 if something was, 2 for an error or for a run"
    " without gauges. Each finding is drawn into doctor.png in the run's folder."
    " minigan/doctor/README.md has all findings with their gauges and thresholds."
)


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("run_folders", metavar="RUN", nargs="+", help="a run's folder")
    parser.add_argument("--json", action="store_true", help="print JSON: a list with each run")
    parser.add_argument(
        "--remedy",
        metavar="DIR",
        help="write the configuration with the remedy of the first finding to DIR/config.json, for"
        " `minigan train --config`; nothing is overwritten",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="also list the gauges of all rules, with thresholds"
    )
    parser.add_argument("--no-figure", action="store_true", help="do not write doctor.png")


def run(options: argparse.Namespace) -> int:
    """Print the diagnosis of each run; return 1 if something was found, 2 without gauges."""
    from ..doctor import diagnose
    from ..doctor.remedy import choose, write

    folders = [Path(folder) for folder in options.run_folders]
    if options.remedy is not None and len(folders) > 1:
        raise ValueError(f"--remedy is for one run, not for {len(folders)}")
    diagnoses = [diagnose(folder) for folder in folders]
    if not options.no_figure:
        for diagnosis in diagnoses:
            _draw(diagnosis)
    if options.json:
        print(strict_json.dumps([diagnosis.as_dict() for diagnosis in diagnoses]))
    else:
        _print(diagnoses, options.verbose)
    if options.remedy is not None:
        finding = choose(diagnoses[0])
        path = write(diagnoses[0], finding, Path(options.remedy))
        command = f"minigan train --config {shlex.quote(os.fspath(path))}"
        text = f"remedy of {finding.name}: {command}"
        print(text, file=sys.stderr if options.json else sys.stdout)
    if any(diagnosis.findings for diagnosis in diagnoses):
        return 1
    return 0 if all(diagnosis.has_gauges for diagnosis in diagnoses) else 2


def _print(diagnoses: list[Diagnosis], verbose: bool) -> None:
    from ..doctor.text import BLOCKS, PLAIN, describe
    from ..training.run_folder import read_options

    try:
        BLOCKS.encode(sys.stdout.encoding or "utf-8")
        blocks = BLOCKS
    except UnicodeEncodeError:
        blocks = PLAIN
    for i, diagnosis in enumerate(diagnoses):
        if i:
            print()
        steps = read_options(diagnosis.folder)["steps"]
        print("\n".join(describe(diagnosis, steps, blocks, verbose)))


def _draw(diagnosis: Diagnosis) -> None:
    """Write the run's doctor.png; without findings, remove that of an earlier diagnosis."""
    from ..doctor.picture import PICTURE, draw

    path = diagnosis.folder / PICTURE
    try:
        if diagnosis.findings:
            draw(diagnosis, path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        note(f"{path} cannot be written: {error.strerror or error}")
