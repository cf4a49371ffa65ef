"""`minigan train --task`: train nets that make images from images."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.config import Config
from ..training.options import options as options_of
from ..translation.config import GROUP, TranslationConfig
from ..utils.progress import announce_kernels
from .summary import describe_count, print_time
from .terminal import note, report

if TYPE_CHECKING:
    from ..training.run import Run
    from ..translation.trainer import TranslationTrainer


def is_asked_for(changes: dict[str, Any], namespace: argparse.Namespace) -> bool:
    """Return whether a command line is about images from images: by --task, or by its run.

    Raises:
        ValueError: it has options of such a training, but no task.
    """
    from ..translation.saved import is_translation

    if namespace.resume is not None:
        return is_translation(Path(namespace.resume))
    if "task" in changes:
        return True
    own = [name for name, x in options_of(TranslationConfig).items() if x.group == GROUP]
    given = [name for name in own if name in changes]
    if given:
        names = ", ".join(f"--{name}" for name in given)
        raise ValueError(f"{names}: for images from images; --task names what to make of an image")
    return False


def run(changes: dict[str, Any], namespace: argparse.Namespace) -> int:
    """Train, and print the paths of the results."""
    from ..training.own_code import load_named_code
    from .train import unused_options  # which imports this module

    for name in ("seeds", "preset", "config"):
        if getattr(namespace, name) is not None:
            value = getattr(namespace, name)
            raise ValueError(f"--{name} {value} does not go with --task or a run of it")
    unknown = [name for name in changes if name not in options_of(TranslationConfig)]
    if unknown:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unknown)
        verb = "is an option" if len(unknown) == 1 else "are options"
        raise ValueError(f"{names} {verb} of images from noise, not of --task")
    if namespace.resume is not None:
        return _resume(Path(namespace.resume), changes, namespace)
    config = load_named_code(TranslationConfig(**changes), changes)
    for text in unused_options(config, changes):
        note(text)
    return _start(config, namespace)


def _start(config: TranslationConfig, namespace: argparse.Namespace) -> int:
    from ..training.run import Run
    from ..training.run_folder import check_free, locked, new_folder
    from ..translation.trainer import TranslationTrainer

    if namespace.out is not None:
        check_free(Path(namespace.out))
    announce_kernels(config.device)
    trainer = TranslationTrainer(config, progress=True)
    print_summary(trainer)
    if namespace.dry_run:
        return _dry_run(trainer, namespace)
    folder = new_folder(namespace.out, trainer.config)
    with locked(folder):
        return _train(Run(folder, trainer), namespace)


def _resume(folder: Path, changes: dict[str, Any], namespace: argparse.Namespace) -> int:
    from ..training.run_folder import locked
    from ..translation.resume import (
        has_ended,
        load_translation_trainer,
        resume_translation,
    )

    if namespace.out is not None:
        raise ValueError(f"--resume {folder} goes on in that folder; --out does not go with it")
    announce_kernels(str(changes.get("device", Config.device)))
    if namespace.dry_run:
        trainer, _ = load_translation_trainer(folder, changes, progress=True)
        print_summary(trainer)
        return _dry_run(trainer, namespace)
    with locked(folder):
        run = resume_translation(folder, changes, progress=True)
        print_summary(run.trainer)
        if run.trainer.step_count == run.config.steps:
            end = (
                "its learning rates have come to 0"
                if has_ended(run.trainer.config)
                else "--steps goes on"
            )
            report(f"this run is at its last step, {run.config.steps}; {end}")
        return _train(run, namespace)


def _dry_run(trainer: TranslationTrainer, namespace: argparse.Namespace) -> int:
    trainer.captured = not namespace.no_capture
    print_time(trainer)
    return 0


def print_summary(trainer: TranslationTrainer) -> None:
    """Print lines on the images and the nets of a training on stderr."""
    images, config = trainer.images, trainer.config
    height, width = images.size
    parts = [(images.data, images.held_out), (images.other, images.other_held_out)]
    counts = [
        f"{len(train):,} to train on, {len(held_out):,} held out"
        for train, held_out in parts
        if train is not None and held_out is not None
    ]
    kinds = f"{images.input_channels(config.task)} channels to {images.channels}"
    print(f"data: {' and '.join(counts)}; {width}x{height}, {kinds}", file=sys.stderr)
    if not len(images.held_out):
        note("--holdout 0: the pictures show training images, and nothing is measured")
    players = trainer.players
    sizes = [
        describe_count(sum(p.size for p in net.parameters()))
        for net in (players.generators, players.discriminators)
    ]
    steps = f"{config.steps:,} steps of {config.batch} images on {config.device}"
    text = f"nets: {config.task}, G {sizes[0]} and D {sizes[1]} parameters; {steps}"
    print(text, file=sys.stderr, flush=True)


def _train(run: Run, namespace: argparse.Namespace) -> int:
    run.trainer.captured, run.tensorboard = not namespace.no_capture, namespace.tensorboard
    stopped_by = run.train(True)
    folder = shlex.quote(os.fspath(run.folder))
    if stopped_by:
        report(f"stopped by {stopped_by} and saved; go on with: minigan train --resume {folder}")
        return 130
    report(f"images:   {run.pictures.samples_path}")
    report(f"losses:   {run.folder / 'losses.png'}")
    last = run.rows[-1] if run.rows else {}
    values = [f"{name} {last[name]:.4g}" for name in run.measures.names if name in last]
    if values:
        report(f"measured: {', '.join(values)}")
        report(f"measure:  minigan evaluate {folder}")
    mask = " --mask MASK" if run.config.label == "inpaint" else ""
    report(f"apply:    minigan translate {folder} PICTURES{mask} --out DIR")
    return 0
