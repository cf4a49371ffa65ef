"""`minigan train`: train a GAN in a folder, or go on with a run."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.names import choose
from ..utils.progress import announce_kernels
from . import train_translation
from .config_file import read_config_file
from .info import describe_data
from .options import add_train_options, config_options
from .parser import Parser
from .summary import print_summary, print_time
from .terminal import note, report

if TYPE_CHECKING:
    from ..training.config import Config
    from ..training.run import Run
    from ..training.trainer import Trainer
    from ..translation.config import TranslationConfig


def add_arguments(parser: Parser) -> None:
    """Add the options of Config, and those of the command itself."""
    add_train_options(parser)
    parser.add_argument(
        "--preset", metavar="NAME", help="options by name (`minigan presets`), or auto"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="options from a YAML file, or from the config.json of a run; options on the command"
        " line win",
    )
    parser.add_argument("--out", metavar="DIR", help="the run's folder [the next one in runs/]")
    parser.add_argument(
        "--seeds",
        metavar="LIST",
        help="train a run for each, say 0-9 or 0,3,5, in processes; then print the mean and the"
        " standard error over seeds of the quick measures of evaluate",
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
        " to 0; --data and --data-dir say where its data have moved; the other options that may"
        " change are the device, and what is written when",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write event files for TensorBoard too, in RUN/tensorboard; the package tensorboardX"
        " is needed (pip install -e '.[tensorboard]')",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be trained and how long it takes, from a few steps; write nothing",
    )


def run(options: argparse.Namespace) -> int:
    """Train, and print the paths of the results."""
    from ..training.event_files import check_tensorboard

    changes = config_options(options)
    if options.seeds is not None and (options.resume is not None or "seed" in changes):
        other = "--seed" if "seed" in changes else "--resume"
        raise ValueError(f"--seeds {options.seeds} makes new runs; {other} does not go with it")
    if options.seeds is not None and options.threads is not None:
        raise ValueError("--seeds trains in processes of one thread; --threads does not go with it")
    if options.tensorboard:
        check_tensorboard()
    if train_translation.is_asked_for(changes, options):
        return train_translation.run(changes, options)
    if options.resume is not None:
        return _resume(Path(options.resume), changes, options)
    return _start(changes, options)


def _start(changes: dict[str, Any], options: argparse.Namespace) -> int:
    from ..training.config import Config
    from ..training.own_code import load_named_code
    from ..training.run import Run
    from ..training.run_folder import check_free, locked, new_folder
    from ..training.trainer import Trainer

    values = {} if options.config is None else read_config_file(Path(options.config))
    if values and options.preset is not None:
        raise ValueError(f"--preset {options.preset} and --config {options.config}: give one")
    preset = {} if options.preset is None else _preset_options(options.preset, changes)
    given = {**preset, **values, **changes}
    nets = {} if given.get("init_from") is None else _nets_of(given["init_from"])
    config = load_named_code(Config(**{**nets, **given}), changes)
    for text in unused_options(config, changes):
        note(text)
    if options.seeds is not None:
        return _train_seeds(config, options)
    if options.out is not None:
        check_free(Path(options.out))
    announce_kernels(config.device)
    trainer = Trainer(config, progress=True)
    print_summary(trainer)
    if options.dry_run:
        return _dry_run(trainer, options)
    folder = new_folder(options.out, trainer.config)
    with locked(folder):
        return _train(Run(folder, trainer), options)


def _preset_options(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a preset by name; those of "auto" depend on the data."""
    from ..gan.auto_preset import AUTO, choose_by_data
    from ..gan.presets import PRESETS

    if name != AUTO:
        preset = choose("preset", name, {**PRESETS, AUTO: None}, listed_by="`minigan presets`")
        if preset.needs_data and "data" not in changes:
            raise ValueError(f"--preset {name} is for your own images: --data FOLDER names them")
        return preset.options
    choice = choose_by_data(changes)
    note(str(choice))
    return choice.options


def _nets_of(folder: str) -> dict[str, Any]:
    """Return the options of the nets of a run, which are the defaults of --init-from."""
    from ..training.initial import NETS
    from ..training.run_folder import read_config

    saved = read_config(Path(folder).expanduser())
    return {name: getattr(saved, name) for name in NETS}


def _dry_run(trainer: Trainer, options: argparse.Namespace) -> int:
    """Print how long a training takes; the steps that are timed change the trainer's state."""
    trainer.captured = not options.no_capture
    print_time(trainer)
    return 0


def unused_options(config: Config | TranslationConfig, changes: dict[str, Any]) -> list[str]:
    """Return a line for each option that has no effect on this config, or ends all effects."""
    from ..optim.schedules import SCHEDULES
    from ..training.config import Config

    unused = {"beta1": "rmsprop", "beta2": "sgd"}  # see OPTIMIZERS
    lines = [
        f"--{name} {changes[name]} has no effect: --optimizer {optimizer} does not use it"
        for name, optimizer in unused.items()
        if name in changes and config.optimizer == optimizer
    ]
    if isinstance(config, Config) and config.minibatch != "none" and config.batch == config.pack:
        lines.append(
            f"--minibatch {config.minibatch} has no effect: D has one input per batch, and no other"
            " to compare it with"
        )
    end = config.schedule_steps or config.steps
    if end < config.steps and SCHEDULES[config.schedule](1.0) == 0:
        lines.append(
            f"--schedule {config.schedule} of {end} steps: from there on its learning rates are 0,"
            f" and the last {config.steps - end} of {config.steps} steps change nothing"
        )
    return lines


def _train_seeds(config: Config, options: argparse.Namespace) -> int:
    from ..evaluation.table import over_seeds
    from ..training.seed_runs import NOT_BEGUN, parse_seeds, train_seed_runs
    from ..training.trainer import Trainer

    seeds = parse_seeds(options.seeds)
    out = None if options.out is None else Path(options.out)
    modes = {"captured": not options.no_capture, "tensorboard": options.tensorboard}
    if options.dry_run:
        announce_kernels(config.device)
        trainer = Trainer(config.replace(seed=seeds[0]), progress=True)
        print_summary(trainer)
        print(f"runs: {len(seeds)}, each as follows where a core is free", file=sys.stderr)
        return _dry_run(trainer, options)
    _, runs = train_seed_runs(config, seeds, out, True, print_summary, **modes)
    for run in runs:
        resume = f"minigan train --resume {shlex.quote(os.fspath(run.folder))}"
        end = f"  stopped by {run.stopped} and saved; go on with: {resume}" if run.stopped else ""
        if run.stopped == NOT_BEGUN:
            end = f"  not begun; train it with --seed {run.seed} --out {run.folder}"
        report(f"seed {run.seed}: {run.folder}{end}")
    evaluations = [run.evaluation for run in runs if run.evaluation is not None]
    if evaluations:
        print(over_seeds(evaluations))
    return 130 if any(run.stopped for run in runs) else 0


def _resume(folder: Path, changes: dict[str, Any], options: argparse.Namespace) -> int:
    from ..training.event_files import EVENTS
    from ..training.own_code import load_code_of_run
    from ..training.resume import load_trainer, resume
    from ..training.run_folder import locked, read_config
    from ..training.state import MAY_DIFFER
    from ..utils.code_files import is_code

    code = {name: changes.pop(name) for name in ("model", "loss") if is_code(changes.get(name))}
    load_code_of_run(folder, code, ("model", "loss"))
    saved = read_config(folder).as_dict()
    paths = _data_paths(saved, changes)
    allowed = MAY_DIFFER - {"data", "data_dir"}
    new = {name: x for name, x in changes.items() if name not in paths and saved[name] != x}
    different = [name for name in new if name not in allowed]
    others = (options.out, options.preset, options.config)
    if different or any(x is not None for x in others):
        names = ", ".join(f"{n} = {saved[n]!r} (not {new[n]!r})" for n in different)
        raise ValueError(
            f"--resume {folder} goes on with that run's own options"
            + (f": {names}" if names else "; --out, --preset and --config do not go with it")
        )
    _check_schedule(folder, saved, new.get("steps"))
    if "device" in new:
        note(
            f"{folder} began on {saved['device']} and continues on {new['device']}: they round"
            " differently, so the later numbers are not those of a run on one device"
        )
    if not options.tensorboard and (folder / EVENTS).is_dir():
        note(f"{folder / EVENTS} ends where it does now; with --tensorboard it goes on")
    announce_kernels(new.get("device", saved["device"]))
    if options.dry_run:
        trainer = load_trainer(folder, progress=True, **{**paths, **new})
        print_summary(trainer)
        return _dry_run(trainer, options)
    with locked(folder):
        run = resume(folder, progress=True, code=code, **{**paths, **new})
        print_summary(run.trainer)
        if run.trainer.step_count == run.config.steps:
            report(f"this run is at its last step, {run.config.steps}; --steps can extend it")
        return _train(run, options)


def _data_paths(saved: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the options that name a new path of the run's own data, which are compared."""
    from ..data import NAMES

    paths: dict[str, Any] = {
        name: changes[name] for name in ("data", "data_dir") if name in changes
    }
    if {saved["data"], paths.get("data")} & set(NAMES):  # a name is not a path
        paths.pop("data", None)
    return paths


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


def _train(run: Run, options: argparse.Namespace) -> int:
    from ..training.seed_runs import can_be_measured

    run.trainer.captured, run.tensorboard = not options.no_capture, options.tensorboard
    stopped_by = run.train(True)
    folder = shlex.quote(os.fspath(run.folder))
    trainer = run.trainer
    data = describe_data(trainer.config.data, trainer.data_digest, trainer.data.classes or 0)
    report(f"data:     {data}")
    if stopped_by:
        report(f"stopped by {stopped_by} and saved; go on with: minigan train --resume {folder}")
        return 130
    report(f"samples:  {run.pictures.samples_path}")
    report(f"losses:   {run.folder / 'losses.png'}")
    for line in _describe_measures(run):
        report(line)
    if options.tensorboard:
        report(f"events:   tensorboard --logdir {folder}")
    if can_be_measured(trainer):
        report(f"measure:  minigan evaluate {folder}")
    return 0


def _describe_measures(run: Run) -> list[str]:
    """Return lines on the quick measures of the last step, and on the best step."""
    last = run.rows[-1] if run.rows else {}
    values = [f"{name} {last[name]:.4g}" for name in run.measures.names if name in last]
    lines = [f"measured: {', '.join(values)}"] if values else []
    best = run.best.found
    if best is not None:
        at = "the last step" if best.step == run.trainer.step_count else f"{best}"
        # The last step is a candidate only where a longer training would measure it too.
        is_better = last.get(best.measure, best.value) < best.value
        note = f", of every {run.config.evaluate_every:,} steps; the last one is better"
        lines.append(f"best:     {at} ({run.best.path.name}){note if is_better else ''}")
    return lines
