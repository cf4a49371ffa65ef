"""The rules of the doctor: 14 failures, their gauges and thresholds, and remedies to try.

Thresholds start from theory (at equilibrium D is right in half of all cases, and samples are as
diverse as the data) and leave a margin to the ten healthy runs of `cases/healthy.py`. No alarm on a
healthy run comes first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .changes import (
    balanced,
    calmer,
    projected,
    regularized,
    scheduled,
    slower,
    standardized,
    stronger,
    unsaturated,
    usual_penalty,
    without_momentum,
)
from .first_and_last import FAR_FROM_DATA, UNBOUNDED_CRITIC
from .rule import Rule, Test, no_changes
from .scope import (
    has_free_discriminator,
    has_penalty,
    is_conditional,
    is_late_and_conditional,
    is_late_and_unconditional,
    is_past_start,
    takes_logits,
)

# Samples are bad if their distance to held-out data is so many times that of real samples.
BAD_SAMPLES = Test("quality", above=True, threshold=3.0, start=0.5, reduce=np.min, lines=1)
# The diversity of samples rises from that of an untrained net: a short training has not collapsed.
NOT_RISING = Test("diversity_trend", above=False, threshold=1.1)
POOR_SAMPLES = Test("quality", above=True, threshold=2.0, start=0.5, reduce=np.min, lines=1)
OFF_CENTER = Test("off_center", above=True, threshold=1.0, lines=1)
# What a player does from line to line depends on log_every, and is noise in few lines.
MANY = 5  # lines in the last third


def _first(values: np.ndarray) -> float:
    return float(values[0])


def _offset(rule: Rule) -> Rule:
    """Return a rule on the scale of data as one for data on one side of 0: no scale mends that."""
    return replace(
        rule,
        why=f"{rule.why}; data that are farther from 0 than they are wide stay so at any scale",
        explanation="The data lie on one side of 0, farther from it than they are wide, and the"
        " generator's numbers do not reach them.",
        remedy="Subtract the mean of the data before the training: no option does, --standardize"
        " only divides. For images the right --value-range.",
        changes=no_changes,
        needs=(*rule.needs, OFF_CENTER),
    )


# ------------------------------------------------------------------------------------------- rules
_COLLAPSE_REMEDY = (
    "Let the discriminator keep up (--lr-g not above --lr-d), or show it several samples at once"
    " (--pack 2)."
)
_OSCILLATION_REMEDY = (
    "No momentum (--beta1 0), and learning rates divided by ten. A Wasserstein critic needs a"
    " gradient penalty instead (--penalty wgan-gp --n-critic 3, for points with"
    " --penalty-weight 0.1) without --clip-weights."
)
_CONSEQUENCES = ("weak-discriminator", "mode-collapse", "oscillation", "range-mismatch")
_WIDE_DATA = Rule(
    "range-mismatch",
    "Generated values have a different range from the data",
    Test("range_covered", above=False, threshold=0.02, start=0.0, reduce=_first, lines=1),
    "nets begin with numbers of about 0.3: data 50 times as wide are not in their unit",
    "At the start the generator's numbers reach less than a fiftieth of the range of the data:"
    " it spends its training on the scale.",
    "Scale the data: --standardize for points; for images the right --value-range.",
    standardized,
    needs=(POOR_SAMPLES,),
    hides=("vanishing-gradient", "memorizing-discriminator", *_CONSEQUENCES),
)
_RANGE = Rule(
    "range-mismatch",
    "Generated values have a different range from the data",
    Test("range_covered", above=False, threshold=0.6),
    "healthy runs reach at least 0.85; a generator that ends in a sigmoid half of [-1, 1]",
    "The generator's numbers do not reach those of the data.",
    "Scale the data: --standardize for points; for images the right --value-range, and a"
    " generator that ends in tanh.",
    standardized,
)
RULES: tuple[Rule, ...] = (
    UNBOUNDED_CRITIC,
    Rule(
        "exploding-values",
        "Values explode",
        Test("growth", above=True, threshold=100.0, reduce=np.max, lines=1),
        "weights and activations of healthy runs stay within a factor of 10",
        "Weights or activations grow without limit, until they are infinite.",
        "Divide the learning rates by ten, and limit the gradients (--clip-norm 10).",
        calmer,
        hides=(
            *("sigmoid-twice", "range-mismatch", "penalty-too-strong", "learning-rate-exhausted"),
            *("dead-units", "vanishing-gradient", "memorizing-discriminator", "ignored-labels"),
            *_CONSEQUENCES,
        ),
        or_diverged=True,
    ),
    Rule(
        "sigmoid-twice",
        "The discriminator ends in a sigmoid, and the loss applies another one",
        Test("outside", above=False, threshold=1e-6, start=0.0, reduce=np.max, lines=10),
        "logits have both signs; outputs that never leave [0, 1] are probabilities",
        "All outputs of the discriminator lie in [0, 1], but the loss takes logits. Its slope is"
        " then at most a quarter of the right one, and nearly 0 once the outputs are 0 and 1.",
        "Remove the sigmoid at the end of the discriminator.",
        needs=(Test("logit_high", above=True, threshold=0.25, start=0.0, reduce=np.max, lines=10),),
        applies=takes_logits,
        scope="losses of logits",
        hides=("vanishing-gradient", "learning-rate-exhausted", "dead-units", *_CONSEQUENCES),
    ),
    Rule(
        "dead-units",
        "Units are dead",
        Test("dead", above=True, threshold=0.65),
        "layers of ReLU in healthy runs have up to a third of their units at 0 for a batch",
        "Most units of a layer have the same output for all samples, so that their weights have no"
        " gradient.",
        "Divide the learning rates by a hundred, and use LeakyReLU.",
        slower(100),
        hides=_CONSEQUENCES,
    ),
    _offset(_WIDE_DATA),
    _WIDE_DATA,
    Rule(
        "penalty-too-strong",
        "The penalty keeps the discriminator from learning",
        Test("logit_deviation", above=False, threshold=0.01),
        "a logit of 0.01 moves the probability of a sample from 0.5 to 0.5025",
        "The discriminator's output is nearly the same for all samples, while they are still far"
        " from the data: the penalty outweighs the loss.",
        "Reduce --penalty-weight.",
        usual_penalty,
        needs=(POOR_SAMPLES,),
        applies=has_penalty,
        scope="a penalty",
        hides=_CONSEQUENCES,
    ),
    Rule(
        "learning-rate-exhausted",
        "The learning rates have run out",
        Test("learning_rate", above=False, threshold=0.02, start=0.7, reduce=np.max),
        "a linear schedule that ends with the training has 0.3 of its rate left at 70 % of it",
        "Both learning rates have been nearly 0 in the last 30 % of the training.",
        "Let the schedule end with the training (--schedule-steps), or use none.",
        scheduled,
        hides=_CONSEQUENCES,
    ),
    Rule(
        "vanishing-gradient",
        "The generator's gradient vanishes",
        Test("saturation", above=True, threshold=0.9),
        "where D is undecided, no sample is saturated",
        "The discriminator recognizes nearly all generated samples, and there the slope of the"
        " generator's loss is below a twentieth of its usual one.",
        "Use the loss nonsaturating, and one discriminator step per generator step.",
        unsaturated,
        hides=_CONSEQUENCES,
    ),
    Rule(
        "vanishing-gradient",
        "The generator's gradient vanishes",
        Test("gradient", above=False, threshold=1e-3),
        "gradients of healthy runs stay above a sixteenth of the first ones",
        "The norm of the generator's gradient has fallen to less than a thousandth of the first.",
        "Use the loss nonsaturating, and one discriminator step per generator step.",
        unsaturated,
        needs=(BAD_SAMPLES,),
        hides=_CONSEQUENCES,
    ),
    Rule(
        "memorizing-discriminator",
        "The discriminator memorizes the training samples",
        Test("memorization", above=True, threshold=0.67),
        "0.5 where it treats both alike; 32 held-out samples have a standard error of 0.06, and"
        " three of those are noise",
        "It gives training samples higher outputs than held-out ones: it has memorized them, and"
        " pushes the generator away from new samples.",
        "More data, or a penalty (--penalty r1), or for images --augment color,translation.",
        regularized,
        needs=(Test("memorization_errors", above=True, threshold=3.0),),
        hides=("weak-discriminator",),
    ),
    Rule(
        "ignored-labels",
        "The labels are ignored",
        Test("class_agreement", above=False, threshold=0.3),
        "0 for chance, 1 for real data",
        "Generated samples are no more often of the class that was asked for than by chance.",
        "Let the discriminator use the label: --condition projection, or the labels as an input of"
        " your own net.",
        projected,
        applies=is_conditional,
        scope="conditional",
        hides=("mode-collapse", "weak-discriminator"),
    ),
    Rule(
        "weak-discriminator",
        "The discriminator is too weak",
        Test("accuracy", above=False, threshold=0.6, start=0.5),
        "0.5 is chance, which is right at equilibrium, where samples are good",
        "It is right hardly more often than by chance, but the samples are still far from the data:"
        " it cannot tell the generator what is wrong.",
        "A discriminator with more units, a higher --lr-d, or more --n-critic steps.",
        stronger,
        needs=(
            Test("separation", above=False, threshold=0.3, start=0.5),
            Test("logit_deviation", above=False, threshold=0.1, start=0.5),
            BAD_SAMPLES,
        ),
        applies=has_free_discriminator,
        scope="no penalty, no critic",
        hides=("mode-collapse", "oscillation", "range-mismatch"),
    ),
    Rule(
        "mode-collapse",
        "Mode collapse: generated samples are too much alike",
        Test("diversity", above=False, threshold=0.5),
        "1 where the samples vary as the data do; healthy runs have at least 0.68",
        "A generated batch varies much less than the data: many latents lead to the same sample."
        " In a short training that may still mend itself: more steps show it.",
        _COLLAPSE_REMEDY,
        balanced,
        needs=(NOT_RISING,),
        applies=is_late_and_unconditional,
        scope="from step 1000, no condition",
        hides=("oscillation", "range-mismatch"),
    ),
    Rule(
        "mode-collapse",
        "Mode collapse within classes: the samples of a class are too much alike",
        Test("diversity", above=False, threshold=0.25),
        "1 where the samples of a class vary as the data's do; healthy runs have at least 0.5",
        "Two samples of a class differ much less than two real ones. In a short training that may"
        " still mend itself: more steps show it.",
        _COLLAPSE_REMEDY,
        balanced,
        needs=(NOT_RISING,),
        applies=is_late_and_conditional,
        scope="from step 1000, conditional",
        hides=("oscillation", "range-mismatch"),
    ),
    Rule(
        "mode-collapse",
        "Mode collapse: parts of the data are missed",
        Test("nearest", above=True, threshold=2.2),
        "1 where samples and data vary alike; healthy runs have at most 1.8",
        "Real samples are farther from the nearest generated one than generated samples from the"
        " nearest real one: the generator makes only some of the data.",
        _COLLAPSE_REMEDY,
        balanced,
        needs=(POOR_SAMPLES,),
        hides=("oscillation", "range-mismatch"),
    ),
    Rule(
        "oscillation",
        "Both networks rotate around the equilibrium",
        Test("drift", above=True, threshold=0.7, lines=MANY),
        "the mean of healthy runs moves by less than 0.3 deviations a line; the noise of MLPs on"
        " images by up to 1, but with a negative cosine",
        "All generated samples move together over several lines of metrics, by as much as the data"
        " are wide from one line to the next.",
        _OSCILLATION_REMEDY,
        without_momentum,
        needs=(Test("rotation_samples", above=True, threshold=0.0, lines=MANY), POOR_SAMPLES),
        applies=is_past_start,
        scope="from step 1000",
        hides=("range-mismatch",),
    ),
    Rule(
        "oscillation",
        "Both networks oscillate",
        Test("rotation_d", above=False, threshold=-0.5, lines=MANY),
        "independent positions around a mean have -0.5; healthy runs at least -0.3",
        "Each displacement of both players, from one line of metrics to the next, undoes the one"
        " before. With other steps between the lines (--log-every) it may not.",
        _OSCILLATION_REMEDY,
        without_momentum,
        needs=(Test("rotation_g", above=False, threshold=-0.5, lines=MANY), POOR_SAMPLES),
        applies=is_past_start,
        scope="from step 1000",
        hides=("range-mismatch",),
    ),
    _offset(_RANGE),
    _RANGE,
    *FAR_FROM_DATA,
)
NAMES = tuple(dict.fromkeys(rule.name for rule in RULES))
