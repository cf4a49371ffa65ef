"""Layers and their base class `Module`; the names are PyTorch's where it has them."""

from . import functional, init
from .activations import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .containers import ModuleList, Sequential
from .conv import (
    AvgPool2d,
    Conv2d,
    ConvAvgPool2d,
    ConvTranspose2d,
    DepthToSpace,
    MaxPool2d,
    Upsample,
    UpsampleConv2d,
)
from .equalized import EqualizedLR, equalized_lr
from .foreign import load_torch
from .inspection import depends_on_batch, evaluating, observing, shapes
from .layers import Dropout, Embedding, Flatten, GaussianNoise, Identity, Reshape
from .linear import Dense, Linear
from .minibatch import MinibatchDiscrimination, MinibatchStdDev
from .module import Module
from .norm import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm2d,
    LayerNorm,
    PixelNorm,
    has_batch_norm,
)
from .spectral import SpectralNorm, spectral_norm

__all__ = [
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvAvgPool2d",
    "ConvTranspose2d",
    "Dense",
    "DepthToSpace",
    "Dropout",
    "Embedding",
    "EqualizedLR",
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
    "PixelNorm",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "SpectralNorm",
    "Tanh",
    "Upsample",
    "UpsampleConv2d",
    "depends_on_batch",
    "equalized_lr",
    "evaluating",
    "has_batch_norm",
    "load_torch",
    "observing",
    "shapes",
    "spectral_norm",
]
