"""`minigan evaluate`: measure runs against held-out data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_code_options, add_step_option, named_code
from .parser import Parser
from .terminal import note

if TYPE_CHECKING:
    from ..evaluation.evaluate import Evaluation


PROJECTIONS = 256  # without --projections


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "run_folders", metavar="RUN", nargs="+", help="a run's folder, or several for one table"
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help="measures to take, joined by commas, such as sliced_wasserstein,frechet; quick: those"
        " that take little time and no classifier; none is stored [all that fit the data, stored in"
        " RUN/evaluation.json]",
    )
    parser.add_argument(
        "--projections",
        type=int,
        metavar="INT",
        help=f"directions of the sliced Wasserstein distance [{PROJECTIONS}]",
    )
    add_step_option(parser)
    add_data_options(parser)
    add_code_options(parser)
    parser.add_argument(
        "--target", metavar="PATH", help="of images from images: where the target is now"
    )
    formats = parser.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        parser.add_argument(
            f"--{name}", action="store_true", group=formats, help=f"print {name.upper()}"
        )


def add_data_options(parser: Parser) -> None:
    """Add the options that name the new path of a run's data."""
    parser.add_argument(
        "--data", metavar="PATH", help="where the same data are now [where they were]"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where the files of MNIST are now [where they were]"
    )


def run(options: argparse.Namespace) -> int:
    """Print the measures, as a table, JSON or CSV, and write them into the runs."""
    from ..evaluation.evaluate import choose_measures
    from ..evaluation.files import as_csv, as_json
    from ..evaluation.table import one_run, several_runs
    from ..training.run_folder import CHECKPOINT, RunError, read_options

    if any(map(_is_translation, options.run_folders)):
        return _evaluate_translations(options)
    only = None if options.only is None else [x.strip() for x in options.only.split(",")]
    choose_measures(only)
    folders = [Path(name) for name in options.run_folders]
    for i, folder in enumerate(folders):
        if folder in folders[:i]:
            raise RunError(f"{folder} is named twice")
        read_options(folder)  # before the first is measured for a minute
        if not (folder / CHECKPOINT).exists():
            raise RunError(f"there is no checkpoint {folder / CHECKPOINT}")
    found = {str(folder): _evaluate(folder, options, only) for folder in folders}
    if options.json:
        print(as_json(found))
    elif options.csv:
        sys.stdout.write(as_csv(found))
    else:
        print(one_run(*found.values()) if len(found) == 1 else several_runs(found))
    return 0


def _evaluate(folder: Path, options: argparse.Namespace, only: list[str] | None) -> Evaluation:
    """Return the evaluation of a run, and write it into its folder."""
    from ..data import NAMES
    from ..evaluation.evaluate import evaluate
    from ..evaluation.files import write_evaluation
    from ..evaluation.training_state import describe_age, with_divergence
    from ..training.load_sampler import load_sampler
    from ..training.resume import load_trainer
    from ..training.run_folder import EVALUATION, read_options

    # Of several runs, some may have data that are generated or downloaded by their name.
    is_named = len(options.run_folders) > 1 and read_options(folder).get("data") in NAMES
    data, code = None if is_named else options.data, named_code(options)
    trainer = load_trainer(folder, data=data, data_dir=options.data_dir, code=code)
    sampler = None
    if options.step is None and (age := describe_age(folder, trainer.step_count)):
        note(age)
    if options.step is not None:
        sampler = load_sampler(folder, options.step, code=code)
    try:
        directions = PROJECTIONS if options.projections is None else options.projections
        evaluation = evaluate(trainer, directions, True, only, sampler)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    evaluation = with_divergence(evaluation, folder)
    if only is None and sampler is None:
        try:
            write_evaluation(folder / EVALUATION, evaluation)
        except OSError as error:
            note(f"cannot write {folder / EVALUATION}: {error.strerror or error}")
    return evaluation


# ---------------------------------------------------------------------------- images from images
def _is_translation(folder: str) -> bool:
    from ..translation.saved import is_translation

    return is_translation(Path(folder))


def _evaluate_translations(options: argparse.Namespace) -> int:
    """Print the measures of runs of `minigan train --task`, each in a table of its own."""
    from ..translation.resume import evaluate_folder
    from ..utils import strict_json

    others = [name for name in options.run_folders if not _is_translation(name)]
    if others:
        raise ValueError(f"{others[0]} makes images from noise; measure it by a command of its own")
    for name in ("only", "csv", "model", "loss", "projections"):
        if getattr(options, name):
            raise ValueError(f"--{name} is not for runs of images from images")
    if len({*options.run_folders}) < len(options.run_folders):
        raise ValueError("a run is named twice")
    names = ("data", "target", "data_dir")
    changes = {name: getattr(options, name) for name in names}
    found = {
        name: evaluate_folder(Path(name), changes, options.step, progress=True)
        for name in options.run_folders
    }
    if options.json:
        print(strict_json.dumps({name: x.as_dict() for name, x in found.items()}, indent=2))
    else:
        print("\n\n".join(f"{name}\n{x}" for name, x in found.items()))
    return 0
