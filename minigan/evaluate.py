"""How good is a run's generator? Distances to held-out real data, beside their floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .metrics import mixture_quality, sliced_wasserstein
from .trainer import Trainer

REPEATS = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over repeated draws, with its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: list[float]) -> Estimate:
        spread = math.nan  # of one value, or where one is infinite
        if len(values) > 1 and all(map(math.isfinite, values)):
            spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return cls(float(np.mean(values)), spread)

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no NaN and no infinity: null stands for them."""
        return {name: x if math.isfinite(x) else None for name, x in vars(self).items()}

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if math.isnan(self.error) else f" +- {self.error:.4f}")


def evaluate(trainer: Trainer, projections: int = 256) -> dict[str, Estimate]:
    """Numbers by name; each over up to five draws, all of one sample size.

    `sliced_wasserstein`: generated samples against held-out real ones.
    `sliced_wasserstein_floor`: training samples against the same held-out ones: what two draws of
    the data themselves come to at this size. No generator can be expected below it.
    For mixtures of Gaussians also `modes`, `high_quality` and `reverse_kl` of 2,500 samples.

    Raises:
        ValueError: the run set no data aside, or has fewer training samples than held-out ones.
    """
    held_out, train = trainer.held_out.values, trainer.data.values
    n = len(held_out)
    if not n:
        raise ValueError(
            "the run held no data out (holdout 0), so there is nothing to compare with"
        )
    if len(train) < n:
        raise ValueError(f"{len(train)} training samples cannot be compared with {n} held-out ones")
    distances, floors = [], []
    order = np.random.Generator(np.random.Philox(0)).permutation(len(train))
    for k in range(REPEATS):
        fake = trainer.sample(n, seed=k)
        distances.append(sliced_wasserstein(fake, held_out, projections, seed=k))
        real = train[order[k * n : (k + 1) * n]]
        if len(real) == n:
            floors.append(sliced_wasserstein(real, held_out, projections, seed=k))
    found = {
        "sliced_wasserstein": Estimate.of(distances),
        "sliced_wasserstein_floor": Estimate.of(floors),
    }
    if trainer.data.modes is not None and trainer.data.sigma is not None:
        modes, sigma = trainer.data.modes, trainer.data.sigma
        draws = [
            mixture_quality(trainer.sample(2500, seed=k), modes, sigma) for k in range(REPEATS)
        ]
        for name in ("modes", "high_quality", "reverse_kl"):
            found[name] = Estimate.of([float(getattr(draw, name)) for draw in draws])
    return found
