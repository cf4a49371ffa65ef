"""Images from images: repair, enlarge, denoise, fill outlines in, and translate between kinds."""

from .config import TranslationConfig
from .saved import SavedTranslation, load_translation
from .tasks import TASKS
from .train import train_translation
from .trainer import TranslationTrainer

__all__ = [
    "TASKS",
    "SavedTranslation",
    "TranslationConfig",
    "TranslationTrainer",
    "load_translation",
    "train_translation",
]
