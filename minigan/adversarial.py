"""Adversarial examples: inputs that are changed a little so that a network errs.

    x_fgsm = mg.adversarial.fgsm(net, x, labels, epsilon=0.1)
    x_pgd = mg.adversarial.pgd(net, x, labels, epsilon=0.1, steps=20)
    robust = mg.metrics.train_classifier(
        values, labels, 10, perturb=partial(mg.adversarial.pgd, epsilon=0.1, steps=5)
    )  # adversarial training

They have nothing to do with the game of a GAN, though both are called adversarial: the network that
is attacked is fixed, and no generator is trained. A change is small if no number of x moves further
than a radius (the L-infinity norm), and the result stays in the range [low, high] of the data.

*Units.* `epsilon` and `step_size` are fractions of the range. They are the numbers of the papers,
whose pixels are in [0, 1]: with epsilon = 0.1 a pixel of an image in [-1, 1] moves by at most 0.2.

The functions run on every device, and in a captured step; there, values outside of the range are
not noticed. They return a constant, without a graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import nn, ops
from .engine import random
from .engine.autograd import grad
from .engine.dtypes import INTEGERS, REALS
from .engine.grad_mode import set_grad_enabled
from .engine.op import require_floats
from .engine.recording import active_step
from .engine.tensor import Tensor, no_grad, require_tensors
from .ops.indexing import check_indices

__all__ = ["ascend", "fgsm", "pgd", "uniform_noise"]

Network = Callable[[Tensor], Tensor]


def fgsm(
    net: Network,
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    targeted: bool = False,
    low: float = -1.0,
    high: float = 1.0,
) -> Tensor:
    """Return clip(x + r sign(grad of the loss)): the fast gradient sign method, in one step.

    The loss is the cross-entropy of the net's logits and the labels, r = epsilon (high - low)
    (Goodfellow et al. 2015, section 4).

    Args, raises: as `pgd`.
    """
    objective = _objective("fgsm", net, x, labels, targeted)
    return _ascend("fgsm", objective, x, epsilon, 1, epsilon, False, 1, low, high)


def pgd(
    net: Network,
    x: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    steps: int = 10,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    targeted: bool = False,
    low: float = -1.0,
    high: float = 1.0,
) -> Tensor:
    """Return x after steps of projected gradient ascent on the loss (Madry et al. 2018, section 2).

        x <- project(x + s sign(grad of the loss))

    The loss is the cross-entropy of the net's logits and the labels, s = step_size (high - low).
    `project` clips each number to the data's range, and to within epsilon (high - low) of its
    first value.

    Args:
        net: maps (n, ...) to logits (n, classes), each sample by itself.
        x: (n, ...), float32 or float64, in [low, high].
        labels: (n,), int64: the classes of x; if `targeted`, those that the net shall answer.
        epsilon: the largest change, as a fraction of high - low, in [0, 1].
        steps: of ascent, at least 1.
        step_size: as a fraction of high - low; None: 2.5 epsilon / steps.
        random_start: begin at x + noise, uniform within epsilon, from the random stream "attack".
        restarts: begin so many times, and return for each sample the result of largest loss.
        targeted: descend the loss of the wanted labels (Kurakin et al. 2017, section 2.3).
        low, high: the range of the data.

    Raises:
        TypeError: x is no tensor of floats, labels are no tensor of integers, a number has another
            type.
        ValueError: a number is out of its range; labels do not have one number per sample; x is not
            in [low, high]; restarts without a random start; the net mixes the samples of a batch,
            as batch norm does in train mode, or gives something else than logits.
        IndexError: a label is no class of the net.
    """
    objective = _objective("pgd", net, x, labels, targeted)
    options = (steps, step_size, random_start, restarts, low, high)
    return _ascend("pgd", objective, x, epsilon, *options)


def ascend(
    objective: Network,
    x: Tensor,
    epsilon: float,
    *,
    steps: int = 10,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    low: float = -1.0,
    high: float = 1.0,
) -> Tensor:
    """Return x after steps of projected gradient ascent on a function of your own.

    This is `pgd` for what is not a classifier, and for an attack that also deceives a detector:

        def both(x):  # one number per sample
            return cross_entropy_per_sample(net(x), labels) - 0.5 * detector(x)[:, 0]

        x = mg.adversarial.ascend(both, x, 0.1)

    Args:
        objective: maps (n, ...) to one number per sample, each sample by itself.
        x, epsilon, steps, step_size, random_start, restarts, low, high: as of `pgd`.

    Raises:
        TypeError, ValueError: as `pgd`; the objective does not give one number per sample.
    """
    options = (steps, step_size, random_start, restarts, low, high)
    return _ascend("ascend", objective, x, epsilon, *options)


def uniform_noise(x: Tensor, epsilon: float, *, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Return x + noise within epsilon, clipped to the range: what an attack is compared with.

    The noise is uniform, from the random stream "attack": the start of `pgd`.

    Args, raises: as `pgd`.
    """
    _check("uniform_noise", x, epsilon, low, high)
    return _start(x, *_bounds(x, epsilon, low, high), epsilon * (high - low))


def cross_entropy_per_sample(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log softmax(logits)[label] of each sample, (n,), in nats.

    Args:
        logits: (n, classes). labels: (n,), int64.
    """
    column = labels.reshape(len(labels), 1)
    return -ops.gather(ops.log_softmax(logits, axis=1), column, axis=1).reshape(len(labels))


# ------------------------------------------------------------------------------------ the ascent
def _ascend(
    name: str,
    objective: Network,
    x: Tensor,
    epsilon: float,
    steps: int,
    step_size: float | None,
    random_start: bool,
    restarts: int,
    low: float,
    high: float,
) -> Tensor:
    _check(name, x, epsilon, low, high)
    _check_numbers(name, steps, step_size, random_start, restarts)
    radius = epsilon * (high - low)
    step = 2.5 * radius / steps if step_size is None else step_size * (high - low)
    bounds = _bounds(x, epsilon, low, high)
    best = largest = None
    for _ in range(restarts):
        moved = _start(x, *bounds, radius) if random_start else x.detach()
        for _ in range(steps):
            leaf = moved.detach() * 1.0
            leaf.requires_grad = True
            with set_grad_enabled(True):
                (gradient,) = grad(_values(name, objective, leaf).sum(), [leaf])
            moved = _project(moved + step * ops.sign(gradient), *bounds)
        if restarts == 1:
            return moved
        with no_grad():
            values = _values(name, objective, moved)
        if best is None or largest is None:
            best, largest = moved, values
        else:
            is_larger = ops.greater(values, largest)
            best = ops.where(is_larger.reshape(len(x), *(1,) * (x.ndim - 1)), moved, best)
            largest = ops.where(is_larger, values, largest)
    assert best is not None
    return best


def _bounds(x: Tensor, epsilon: float, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value that each number of x may take."""
    radius, x = epsilon * (high - low), x.detach()
    return ops.maximum(x - radius, low), ops.minimum(x + radius, high)


def _project(x: Tensor, smallest: Tensor, largest: Tensor) -> Tensor:
    return ops.minimum(ops.maximum(x, smallest), largest)


def _start(x: Tensor, smallest: Tensor, largest: Tensor, radius: float) -> Tensor:
    x = x.detach()
    noise = random.uniform(x.shape, -radius, radius, x.dtype, x.device, stream="attack")
    return _project(x + noise, smallest, largest)


def _values(name: str, objective: Network, x: Tensor) -> Tensor:
    values = objective(x)
    if values.size != len(x):
        raise ValueError(
            f"{name}: the objective gives {values.shape} for {len(x)} samples; one number per"
            " sample is needed"
        )
    return values.reshape(len(x))


def _objective(name: str, net: Any, x: Tensor, labels: Tensor, targeted: bool) -> Network:
    """Return the cross-entropy of each sample as a function of x, negative if targeted."""
    require_tensors(name, x, labels)
    if labels.dtype.kind != "i" or labels.shape != x.shape[:1]:
        raise (ValueError if labels.dtype.kind == "i" else TypeError)(
            f"{name}: labels are {labels.dtype} of shape {labels.shape} for x of shape {x.shape};"
            " one integer per sample, (n,), is needed"
        )
    if isinstance(net, nn.Module):
        mixing = sorted({type(layer).__name__ for layer in net.modules() if layer.mixes_batch})
        if mixing:
            raise ValueError(
                f"{name}: {', '.join(mixing)} makes a sample's logits depend on its batch; call"
                " net.eval() before an attack (it mends batch norm, not minibatch layers)"
            )

    def objective(x: Tensor) -> Tensor:
        logits = net(x)
        if logits.ndim != 2 or len(logits) != len(x):
            raise ValueError(
                f"{name}: the net gives {logits.shape} for {len(x)} samples; logits (n, classes)"
                " are needed"
            )
        check_indices(name, labels, logits.shape[1])
        losses = cross_entropy_per_sample(logits, labels)
        return -losses if targeted else losses

    return objective


# ----------------------------------------------------------------------------------------- checks
def _check(name: str, x: Tensor, epsilon: float, low: float, high: float) -> None:
    require_floats(name, x)
    for argument, number in ("epsilon", epsilon), ("low", low), ("high", high):
        if not isinstance(number, REALS) or isinstance(number, bool):
            raise TypeError(f"{name}: {argument} = {number!r} is not a number")
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(f"{name}: low = {low} and high = {high} are not a finite range")
    if not 0 <= epsilon <= 1:
        raise ValueError(
            f"{name}: epsilon = {epsilon}; a fraction of the range [{low}, {high}], in [0, 1], is"
            " accepted (8 of 255 grey levels are 8 / 255)"
        )
    if not x.ndim or not x.size:
        raise ValueError(f"{name}: x has shape {x.shape}; (n, ...) with n of at least 1 is needed")
    if active_step() is None:  # A step that is recorded must not read values.
        values = x.numpy()
        least, most = values.min(), values.max()
        if not (least >= low and most <= high):  # true for NaN
            raise ValueError(
                f"{name}: x is in [{least:.6g}, {most:.6g}], not in the range [{low}, {high}];"
                " low and high say what the range of the data is"
            )


def _check_numbers(
    name: str, steps: int, step_size: float | None, random_start: bool, restarts: int
) -> None:
    for argument, count in ("steps", steps), ("restarts", restarts):
        if not isinstance(count, INTEGERS) or isinstance(count, bool):
            raise TypeError(f"{name}: {argument} = {count!r} is not an integer")
        if count < 1:
            raise ValueError(f"{name}: {argument} = {count}; at least 1 is accepted")
    if step_size is not None and not (isinstance(step_size, REALS) and 0 <= step_size < math.inf):
        raise ValueError(f"{name}: step_size = {step_size!r} is not a number of at least 0")
    if restarts > 1 and not random_start:
        raise ValueError(
            f"{name}: restarts = {restarts} without a random start would all give the same result"
        )
