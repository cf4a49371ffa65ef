"""Layers and their base class `Module`; the names are PyTorch's where it has them."""

from .conv import AvgPool2d, Conv2d, ConvTranspose2d, DepthToSpace, MaxPool2d, Upsample
from .layers import (
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    LeakyReLU,
    ReLU,
    Reshape,
    Sigmoid,
    Tanh,
)
from .minibatch import MinibatchDiscrimination, MinibatchStdDev
from .module import Module, Sequential, depends_on_batch, evaluating, shapes
from .norm import BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm2d, LayerNorm, has_batch_norm
from .spectral import SpectralNorm, spectral_norm

__all__ = [
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "DepthToSpace",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GroupNorm",
    "InstanceNorm2d",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2d",
    "MinibatchDiscrimination",
    "MinibatchStdDev",
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
    "has_batch_norm",
    "shapes",
    "spectral_norm",
]
