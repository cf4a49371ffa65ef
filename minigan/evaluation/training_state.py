"""Say how the training of a run stands where its checkpoint is older than that."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..doctor.record import DIVERGENCE, read_record
from ..training.run_folder import RunError
from .evaluate import Evaluation


def with_divergence(evaluation: Evaluation, folder: Path) -> Evaluation:
    """Return the evaluation of a run with the step at which its training diverged."""
    try:
        record = read_record(folder)
    except RunError:  # Its metrics are damaged, which is no reason not to measure its samples.
        return evaluation
    diverged = record.step if record.state == DIVERGENCE else None
    return dataclasses.replace(evaluation, diverged=diverged)


def describe_age(folder: Path, step: int) -> str:
    """Return a sentence on a checkpoint that is older than the last step, or "".

    Args:
        folder: the run's folder. step: of the checkpoint.
    """
    try:
        record = read_record(folder)
    except RunError as error:
        return f"the age of the checkpoint of step {step} is not known: {error}"
    if record.step <= step:
        return ""
    text = f"these are samples of the checkpoint of {folder}, of step {step}; its training"
    if record.state == DIVERGENCE:
        return f"{text} diverged at step {record.step}"
    return (
        f"{text} is at step {record.step} (`minigan train --checkpoint-every` sets how often a"
        " checkpoint is written)"
    )
