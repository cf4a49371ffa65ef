"""Optimizers, averages of parameters, clipping, and learning rate schedules."""

from ..engine.assign import assign
from . import schedules
from .averages import ExponentialMovingAverage, HistoricalAverage
from .clipping import clip_grad_norm, clip_grad_value, clip_weights
from .optimizers import (
    OPTIMIZERS,
    SGD,
    Adam,
    AdamW,
    Optimizer,
    RMSprop,
    adam,
    rmsprop,
    sgd,
)

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "ExponentialMovingAverage",
    "HistoricalAverage",
    "Optimizer",
    "RMSprop",
    "adam",
    "assign",
    "clip_grad_norm",
    "clip_grad_value",
    "clip_weights",
    "rmsprop",
    "schedules",
    "sgd",
]
