"""Optimizers, and what goes with them: averages of parameters."""

from .averages import ExponentialMovingAverage, HistoricalAverage
from .optimizers import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    adam,
    assign,
    load_tensors,
    rmsprop,
    sgd,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "ExponentialMovingAverage",
    "HistoricalAverage",
    "Optimizer",
    "RMSprop",
    "adam",
    "assign",
    "load_tensors",
    "rmsprop",
    "sgd",
]
