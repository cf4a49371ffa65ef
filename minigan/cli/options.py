"""The options of `minigan train`, as the command line has them."""

from __future__ import annotations

import argparse
from typing import Any

# By group: option, type, help. The defaults are Config's, a preset's, or a resumed run's.
TRAIN_OPTIONS: dict[str, tuple[tuple[str, Any, str], ...]] = {
    "data": (
        ("data", str, "glyphs (built in), ring, grid, swiss-roll, mnist, fashion-mnist, a folder "
                      "of images, or an .npz file [glyphs]"),
        ("split", str, "train or test [train]"),
        ("data-dir", str, "where to look for MNIST's files, and nowhere else"),
        ("size", int, "how many samples to make or to draw [all]"),
        ("holdout", float, "share of the data set aside for `minigan evaluate` [0.1]"),
        ("standardize", bool, "show the nets points divided by their standard deviation [no]"),
    ),
    "nets": (
        ("model", str, "mlp, mlp-dropout, mlp-wide, dcgan, sngan, resnet (images); toy, toy-relu, "
                       "toy-wide (points) [mlp for images, toy for points]"),
        ("condition", str, "how nets are told labels: none, concat (cGAN), acgan, projection "
                           "[none]"),
        ("minibatch", str, "a layer of D that compares samples: none, discrimination, stddev "
                           "[none]"),
        ("pack", int, "samples that D judges as one, PacGAN [1]"),
        ("latent", str, "normal, uniform or laplace [normal]"),
        ("latent-size", int, "numbers per latent [100, for points 2, for resnet 128]"),
        ("ema", float, "decay of the generator's moving average, which then makes samples [0]"),
    ),
    "the game": (
        ("loss", str, "nonsaturating, minimax, leastsquares, hinge, wasserstein, relativistic or "
                      "relativistic-average [nonsaturating]"),
        ("generator-loss", str, "adversarial, or feature-matching of D's last layer [adversarial]"),
        ("smooth", float, "target for real samples, one-sided label smoothing [1.0]"),
        ("penalty", str, "on D's slope: wgan-gp, wgan-gp-one-sided, dragan, r1, r2, joined by + "
                         "[none]"),
        ("penalty-weight", float, "of each [10; for r1 and r2, where it is gamma / 2, 5]"),
        ("penalty-end", float, "the weight that it falls to, each step by the same factor [none]"),
        ("penalty-steps", int, "the steps in which it does [all]"),
        ("orthogonal", float, "weight of a penalty that keeps filters apart, say 1e-4 [0]"),
        ("historical", float, "weight of the distance to the parameters' average [0]"),
        ("augment", str, "DiffAugment: color, translation, cutout, joined by commas [none]"),
        ("instance-noise", float, "its deviation at the start, on all that D sees; falls to 0 [0]"),
        ("noise-steps", int, "the steps in which it does [all]"),
    ),
    "training": (
        ("steps", int, "training steps [12000]"),
        ("batch", int, "samples per batch [64]"),
        ("n-critic", int, "discriminator updates per step [1]"),
        ("n-generator", int, "generator updates per step [1]"),
        ("optimizer", str, "adam, adamw, rmsprop or sgd [adam]"),
        ("lr", float, "learning rate of both players [0.0002]"),
        ("lr-g", float, "learning rate of the generator"),
        ("lr-d", float, "learning rate of the discriminator (a larger one: TTUR)"),
        ("beta1", float, "Adam's first beta, SGD's momentum [0.5]"),
        ("beta2", float, "Adam's second beta, RMSprop's alpha [0.999]"),
        ("weight-decay", float, "of both players [0]"),
        ("schedule", str, "of both learning rates: constant, linear, late-linear, cosine, "
                          "exponential [constant]"),
        ("schedule-steps", int, "the steps in which it runs its course [all]"),
        ("warmup", int, "steps in which the learning rates rise to their height [0]"),
        ("clip-norm", float, "limit of the L2 norm of each player's gradient [0, none]"),
        ("clip-value", float, "limit of each element of the gradients [0, none]"),
        ("clip-weights", float, "limit of D's parameters, for a Wasserstein critic [0, none]"),
        ("seed", int, "of data, weights and noise [0]"),
        ("device", str, "reference, cpu, cuda or cuda-emulator [cpu]"),
    ),
    "files": (
        ("log-every", int, "steps between lines of metrics [50]"),
        ("sample-every", int, "steps between sample pictures [1000]"),
        ("checkpoint-every", int, "steps between checkpoints [1000]"),
    ),
}  # fmt: skip


def add_train_options(parser: argparse.ArgumentParser) -> None:
    """Each group under its title. An option that is not given leaves no attribute."""
    for title, options in TRAIN_OPTIONS.items():
        group = parser.add_argument_group(title)
        for option, kind, text in options:
            shape: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
            if kind is not bool:
                shape = {"type": kind, "metavar": kind.__name__.upper().replace("STR", "NAME")}
            group.add_argument(f"--{option}", help=text, default=argparse.SUPPRESS, **shape)
