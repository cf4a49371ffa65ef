"""Layers, and the Module that they are."""

from .layers import Dense, Dropout, Flatten, LeakyReLU, ReLU, Reshape, Sigmoid, Tanh
from .module import Module, Sequential
from .stack import stacked

__all__ = [
    "Dense",
    "Dropout",
    "Flatten",
    "LeakyReLU",
    "Module",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "stacked",
]
