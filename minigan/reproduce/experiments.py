"""The experiments of `minigan reproduce`, by name."""

from __future__ import annotations

from .adversarial import ADVERSARIAL
from .adversarial_detectors import DETECTORS
from .augmentation import AUGMENTATION
from .diffaugment import DIFFAUGMENT
from .dirac import DIRAC
from .experiment import Experiment
from .losses import LOSSES
from .mixtures import GRID, GRID_MODERN, RING
from .parzen import PARZEN
from .progressive import PROGRESSIVE
from .stacked import STACKED
from .translation import RESTORE, UNPAIRED
from .vae import VAE_AND_GAN

EXPERIMENTS: dict[str, Experiment] = {
    "ring": RING,
    "grid": GRID,
    "grid-modern": GRID_MODERN,
    "parzen": PARZEN,
    "stacked-100": STACKED,
    "dirac": DIRAC,
    "losses": LOSSES,
    "restore": RESTORE,
    "unpaired": UNPAIRED,
    "vae": VAE_AND_GAN,
    "progressive": PROGRESSIVE,
    "augmentation": AUGMENTATION,
    "diffaugment": DIFFAUGMENT,
    "adversarial": ADVERSARIAL,
    "adversarial-detectors": DETECTORS,
}
