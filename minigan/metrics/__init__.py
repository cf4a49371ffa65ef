"""Measures of how close generated samples are to real ones."""

from .assignment import wasserstein1
from .classifier import classify, train_classifier
from .mixture import MixtureQuality, mixture_quality
from .wasserstein import sliced_wasserstein

__all__ = [
    "MixtureQuality",
    "classify",
    "mixture_quality",
    "sliced_wasserstein",
    "train_classifier",
    "wasserstein1",
]
