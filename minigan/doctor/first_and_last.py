"""The rules before and after all others: a critic without a bound, and samples that stay bad."""

from __future__ import annotations

from typing import Any

from .changes import BATCH_NORM, gradient_penalty, slower
from .record import Record, is_own
from .rule import Options, Rule, Test
from .series import has_bound


def _is_unbounded_critic(record: Record) -> bool:
    """Return whether nothing bounds a critic; False for nets of the user's own, not known here."""
    options = record.options
    return options["loss"] == "wasserstein" and not (is_own(options) or has_bound(options))


def _with_penalty(options: Options) -> dict[str, Any]:
    """Return changes that bound the critic: a penalty, or clipping where D takes no penalty."""
    steps = {"n_critic": max(5, options["n_critic"])}
    if options["model"] in BATCH_NORM:
        return {"clip_weights": 0.01, **steps}
    return {**gradient_penalty(options), **steps}


UNBOUNDED_CRITIC = Rule(
    "unbounded-critic",
    "The Wasserstein critic has no Lipschitz constraint",
    Test("critic_bound", above=False, threshold=0.5, start=0.0, lines=1),
    "0 where no option and no layer bounds the slope; the loss is a distance only for slopes up"
    " to 1 (Arjovsky et al. 2017)",
    "The Wasserstein loss is a distance only if the slope of the critic is bounded (it is"
    " Lipschitz). Neither a penalty nor clipping does that here: its outputs grow without limit,"
    " and the generator's gradient says little.",
    "A gradient penalty (--penalty wgan-gp --n-critic 5, for points with --penalty-weight 0.1), or"
    " --clip-weights 0.01.",
    _with_penalty,
    applies=_is_unbounded_critic,
    scope="Wasserstein, nets of the library",
    or_diverged=True,
    hides=(
        *("exploding-values", "dead-units", "vanishing-gradient", "memorizing-discriminator"),
        *("mode-collapse", "oscillation", "range-mismatch"),
    ),
)


# ------------------------------------------------------------------------------------ the last one
def _is_past_half(record: Record) -> bool:
    return 2 * record.step >= record.options["steps"]


def _longer(options: Options) -> dict[str, Any]:
    """Return twice the steps, and a schedule that goes with them."""
    changes = {"steps": 2 * options["steps"]}
    if options["schedule"] != "constant" and options["schedule_steps"] is not None:
        changes["schedule_steps"] = 2 * options["schedule_steps"]
    return changes


_UNKNOWN = (
    "Their distance to held-out data is more than five times that of real samples, and no rule"
    " names a cause"
)
_FAR = Test("quality", above=True, threshold=5.0, lines=1)
_WHY = "healthy runs end below 3; 1 where samples are as near as real ones"
FAR_FROM_DATA = (
    Rule(
        "far-from-data",
        "Samples are still far from the data, but come nearer: the cause is not known",
        _FAR,
        _WHY,
        f"{_UNKNOWN}. The distance still falls.",
        "Train longer (more --steps); once the distance stays, divide the learning rates by ten.",
        _longer,
        needs=(Test("quality_trend", above=False, threshold=0.9, lines=1),),
        applies=_is_past_half,
        scope="from half of the steps, no other finding",
        is_last_resort=True,
    ),
    Rule(
        "far-from-data",
        "Samples are far from the data, and the cause is not known",
        _FAR,
        _WHY,
        f"{_UNKNOWN}. Nor does the distance clearly fall.",
        "Learning rates divided by ten; if that does not help, another loss or preset (--preset),"
        " or larger nets.",
        slower(10),
        applies=_is_past_half,
        scope="from half of the steps, no other finding",
        is_last_resort=True,
    ),
)
