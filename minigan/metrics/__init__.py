"""How close generated samples are to real ones, as numbers."""

from .mixture import MixtureQuality, mixture_quality
from .wasserstein import sliced_wasserstein

__all__ = ["MixtureQuality", "mixture_quality", "sliced_wasserstein"]
