"""`minigan train`: train a GAN in a folder, or go on with a run."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.names import choose
from ..utils.progress import announce_kernels
from .evaluate import print_estimates
from .options import add_train_options, config_options
from .parser import Parser
from .terminal import shows_progress

if TYPE_CHECKING:
    from ..training.config import Config
    from ..training.run import Run


def add_arguments(parser: Parser) -> None:
    """Add the options of Config, and those of the command itself."""
    add_train_options(parser)
    parser.add_argument("--preset", metavar="NAME", help="options by name (`minigan presets`)")
    parser.add_argument("--out", metavar="DIR", help="the run's folder [the next one in runs/]")
    parser.add_argument(
        "--seeds",
        metavar="LIST",
        help="train a run for each, say 0-9 or 0,3,5, in processes; then print the mean and the"
        " standard error over seeds of what evaluate measures",
    )
    parser.add_argument(
        "--no-capture",
        action="store_true",
        help="run the Python code of every step instead of replaying a captured one; same bits",
    )
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with a run, same bits; --steps may extend it, unless its schedule has come"
        " to 0",
    )


def run(options: argparse.Namespace) -> int:
    """Train, and print the paths of the results."""
    changes = config_options(options)
    if options.seeds is not None and (options.resume is not None or "seed" in changes):
        other = "--seed" if "seed" in changes else "--resume"
        raise ValueError(f"--seeds {options.seeds} makes new runs; {other} does not go with it")
    if options.resume is not None:
        return _resume(Path(options.resume), changes, options)
    return _start(changes, options)


def _start(changes: dict[str, Any], options: argparse.Namespace) -> int:
    from ..gan.presets import PRESETS
    from ..training.config import Config
    from ..training.run import Run
    from ..training.run_folder import check_free, locked, new_folder
    from ..training.trainer import Trainer

    preset = choose("preset", options.preset, PRESETS).options if options.preset else {}
    config = Config(**{**preset, **changes})
    if options.seeds is not None:
        return _train_seeds(config, options)
    if options.out is not None:
        check_free(Path(options.out))
    announce_kernels(config.device)
    trainer = Trainer(config, progress=shows_progress())
    folder = new_folder(options.out, trainer.config)
    with locked(folder):
        return _train(Run(folder, trainer), not options.no_capture)


def _train_seeds(config: Config, options: argparse.Namespace) -> int:
    from ..training.seed_runs import estimates, parse_seeds, train_seed_runs

    seeds = parse_seeds(options.seeds)
    out = None if options.out is None else Path(options.out)
    captured = not options.no_capture
    trainer, runs = train_seed_runs(config, seeds, out, captured, shows_progress())
    for run in runs:
        resume = f"minigan train --resume {shlex.quote(os.fspath(run.folder))}"
        end = f"  stopped by {run.stopped} and saved; go on with: {resume}" if run.stopped else ""
        print(f"seed {run.seed}: {run.folder}{end}")
    measures = estimates(runs)
    if measures:
        count = sum(run.measures is not None for run in runs)
        print(
            f"step {config.steps}, {count} seed{'s' * (count > 1)}, {len(trainer.held_out)} samples"
            " a draw, mean +- standard error over seeds"
        )
        print_estimates(measures, trainer.data)
    return 130 if any(run.stopped for run in runs) else 0


def _resume(folder: Path, changes: dict[str, Any], options: argparse.Namespace) -> int:
    from ..training.resume import resume
    from ..training.run_folder import locked, read_config

    saved = read_config(folder).as_dict()
    different = [name for name, x in changes.items() if name != "steps" and saved[name] != x]
    if different or options.out or options.preset:
        names = ", ".join(f"{n} = {saved[n]!r} (not {changes[n]!r})" for n in different)
        raise ValueError(
            f"--resume {folder} goes on with that run's own options"
            + (f": {names}" if names else "; --out and --preset do not go with it")
        )
    steps = changes.get("steps")
    _check_schedule(folder, saved, steps)
    with locked(folder):
        announce_kernels(saved["device"])
        run = resume(folder, steps, shows_progress())
        if run.trainer.step_count == run.config.steps:
            print(f"this run is at its last step, {run.config.steps}; --steps can extend it")
        return _train(run, not options.no_capture)


def _check_schedule(folder: Path, config: dict[str, Any], steps: int | None) -> None:
    """Raise ValueError where more steps have learning rates of 0 and would change nothing."""
    from ..optim.schedules import SCHEDULES

    end = config["schedule_steps"]
    if steps and end and steps > end and SCHEDULES[config["schedule"]](1.0) == 0:
        raise ValueError(
            f"{folder} has a {config['schedule']} schedule of {end} steps: from there on its"
            f" learning rates are 0, and more steps change nothing; a new run with --steps {steps}"
            " is needed"
        )


def _train(run: Run, captured: bool) -> int:
    run.trainer.captured = captured
    stopped_by = run.train(shows_progress())
    folder = shlex.quote(os.fspath(run.folder))
    if stopped_by:
        print(f"stopped by {stopped_by} and saved; go on with: minigan train --resume {folder}")
        return 130
    print(f"samples:  {run.samples_path()}")
    print(f"losses:   {run.folder / 'losses.png'}")
    print(f"measure:  minigan evaluate {folder}")
    return 0
