"""The trainings to which a rule of the doctor applies: functions of a record."""

from __future__ import annotations

from ..gan.losses import LOSSES
from .record import Record

EARLY = 1000  # steps in which the samples of a healthy run may still be alike


def takes_logits(record: Record) -> bool:
    """Return whether D's outputs are logits with a threshold of 0, whose optimum is unbounded."""
    loss = LOSSES.get(record.options["loss"])
    return loss is not None and loss.threshold == 0


def has_penalty(record: Record) -> bool:
    return record.options["penalty"] != "none"


def has_free_discriminator(record: Record) -> bool:
    """Return whether D's outputs have a scale of their own, and no penalty makes them flat.

    A critic's have none: only their differences count.
    """
    loss = LOSSES.get(record.options["loss"])
    return loss is not None and loss.threshold is not None and not has_penalty(record)


def is_conditional(record: Record) -> bool:
    """Return whether the nets are conditioned on the labels of the data."""
    return record.options["condition"] not in ("none", "infogan")


def is_past_start(record: Record) -> bool:
    """Return whether samples should differ by now: those of MLPs on images do from step 600 on."""
    return record.step >= EARLY


def is_late_and_conditional(record: Record) -> bool:
    return is_past_start(record) and is_conditional(record)


def is_late_and_unconditional(record: Record) -> bool:
    return is_past_start(record) and not is_conditional(record)
