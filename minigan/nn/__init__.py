"""Layers, and the Module that they are."""

from .conv import AvgPool2d, Conv2d, ConvTranspose2d, DepthToSpace, Upsample
from .layers import Dense, Dropout, Flatten, LeakyReLU, ReLU, Reshape, Sigmoid, Tanh
from .module import Module, Sequential, evaluating, shapes
from .norm import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm2d,
    LayerNorm,
    depends_on_batch,
)
from .spectral import SpectralNorm, spectral_norm
from .stack import stacked

__all__ = [
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "DepthToSpace",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "InstanceNorm2d",
    "LayerNorm",
    "LeakyReLU",
    "Module",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "SpectralNorm",
    "Tanh",
    "Upsample",
    "depends_on_batch",
    "evaluating",
    "shapes",
    "spectral_norm",
    "stacked",
]
