"""Measures of how close generated samples are to real ones, of their diversity, and of copies."""

from .assignment import wasserstein1
from .classifier import classify, train_classifier
from .copying import Memorization, memorization
from .diversity import Birthday, birthday
from .features import FeatureNet, feature_net
from .frechet import frechet_distance
from .histogram import jensen_shannon
from .inception import inception_score
from .intervals import Interval, bootstrap
from .kernel import kernel_distance, kernel_distance_blocks
from .manifold import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    expected_coverage,
    precision_recall,
)
from .matching import matched_agreement
from .mixture import MixtureQuality, mixture_quality
from .neighbours import nearest_distances
from .parzen import parzen_bandwidth, parzen_log_likelihood
from .restoration import psnr, sharpness
from .roc import roc_auc
from .value_range import out_of_range
from .wasserstein import sliced_wasserstein

__all__ = [
    "Birthday",
    "DensityCoverage",
    "FeatureNet",
    "Interval",
    "Memorization",
    "MixtureQuality",
    "PrecisionRecall",
    "birthday",
    "bootstrap",
    "classify",
    "density_coverage",
    "expected_coverage",
    "feature_net",
    "frechet_distance",
    "inception_score",
    "jensen_shannon",
    "kernel_distance",
    "kernel_distance_blocks",
    "matched_agreement",
    "memorization",
    "mixture_quality",
    "nearest_distances",
    "out_of_range",
    "parzen_bandwidth",
    "parzen_log_likelihood",
    "precision_recall",
    "psnr",
    "roc_auc",
    "sharpness",
    "sliced_wasserstein",
    "train_classifier",
    "wasserstein1",
]
