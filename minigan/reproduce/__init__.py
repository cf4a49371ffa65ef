"""Published tables of GANs, measured again: `minigan reproduce`."""

from .experiment import Case, CaseResult, Experiment, Goal, Measure, Outcome
from .experiments import EXPERIMENTS
from .runner import reproduce

__all__ = [
    "EXPERIMENTS",
    "Case",
    "CaseResult",
    "Experiment",
    "Goal",
    "Measure",
    "Outcome",
    "reproduce",
]
