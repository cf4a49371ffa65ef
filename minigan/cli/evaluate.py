"""`minigan evaluate`: measure a run against held-out data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils import strict_json
from .options import add_code_options, named_code
from .parser import Parser

if TYPE_CHECKING:
    from ..data import Dataset
    from ..training.evaluate import Estimate

# The labels of the measures in the printed table; {modes} is the number of modes of the data.
LABELS = {
    "sliced_wasserstein": "sliced Wasserstein, generated to held-out",
    "sliced_wasserstein_floor": "its floor, training to held-out",
    "modes": "modes covered, of {modes}",
    "high_quality": "share within 3 sigma (a real draw: 0.9889)",
    "reverse_kl": "reverse KL of the modes (nats)",
    "label_agreement": "samples that a classifier gives their label",
    "label_agreement_permuted": "the same, labels shuffled: chance",
    "classifier_accuracy": "held-out real samples that it gets right",
}
OF_G = "  the same of G itself, without its average"  # measures of runs with --ema


def add_arguments(parser: Parser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--projections",
        type=int,
        default=256,
        metavar="INT",
        help="directions of the sliced Wasserstein distance [%(default)s]",
    )
    add_data_options(parser)
    add_code_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_data_options(parser: Parser) -> None:
    """Add the options that name the new path of a run's data."""
    parser.add_argument(
        "--data", metavar="PATH", help="where the same data are now [where they were]"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where the files of MNIST are now [where they were]"
    )


def run(options: argparse.Namespace) -> int:
    """Print the measures, as a table or as JSON."""
    from ..training.evaluate import evaluate
    from ..training.resume import load_trainer

    paths = {"data": options.data, "data_dir": options.data_dir}
    trainer = load_trainer(Path(options.run_folder), **paths, code=named_code(options))
    estimates = evaluate(trainer, options.projections, True)
    if options.json:
        print(strict_json.dumps({name: x.as_dict() for name, x in estimates.items()}))
        return 0
    n = len(trainer.held_out)
    print(f"step {trainer.step_count}, {n} samples a draw, mean +- standard error over draws")
    print_estimates(estimates, trainer.data)
    return 0


def print_estimates(estimates: Mapping[str, Estimate], data: Dataset) -> None:
    """Print a line for each measure of samples of these data."""
    from ..training.evaluate import WITHOUT_AVERAGE

    modes = 0 if data.modes is None else len(data.modes)
    order = list(LABELS)
    # The sort is stable: a measure of G itself comes after that of its average.
    for name in sorted(estimates, key=lambda x: order.index(x.removesuffix(WITHOUT_AVERAGE))):
        label = LABELS[name].format(modes=modes) if name in LABELS else OF_G
        print(f"  {label:<48} {estimates[name]}")
