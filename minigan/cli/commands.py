"""The command line: minigan train | sample | evaluate | check | bench | info | presets."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..utils.names import choose
from .options import add_train_options
from .terminal import announce_kernels, usable_streams

# What a user's input can raise: told in one line, with exit status 2.
USER_ERRORS = (ValueError, TypeError, OSError, RuntimeError, MemoryError)


class Parser(argparse.ArgumentParser):
    """Errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> Parser:
    parser = Parser(
        prog="minigan",
        description="Train a GAN on hand-written kernels, and look inside.",
        epilog="Start with `minigan train`: it draws digits in a minute or two and says where.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    train = _command(commands, "train", run_train, "train a GAN and leave a folder of pictures")
    add_train_options(train)
    train.add_argument("--preset", metavar="NAME", help="options by name (`minigan presets`)")
    train.add_argument("--out", metavar="DIR", help="the run's folder [the next one in runs/]")
    train.add_argument("--seeds", metavar="LIST",
                       help="a run for each, say 0-9 or 0,3,5, in processes; then the mean and"
                       " standard error over seeds of what evaluate measures")  # fmt: skip
    train.add_argument("--no-capture", action="store_true",
                       help="run every step's Python, no replays; same bits")  # fmt: skip
    train.add_argument("--resume", metavar="DIR",
                       help="go on with a run, same bits; --steps may extend it, unless its"
                       " schedule has come to 0")  # fmt: skip

    sample = _command(commands, "sample", run_sample, "draw new samples from a trained run")
    sample.add_argument("run", metavar="RUN", help="a run's folder")
    sample.add_argument("--n", type=int, default=64, metavar="INT", help="how many [64]")
    sample.add_argument("--seed", type=int, default=0, metavar="INT", help="of the latents [0]")
    sample.add_argument("--label", metavar="INT[,INT]",
                        help="class, or classes in turn, of a conditional run [all]")  # fmt: skip
    sample.add_argument("--out", metavar="FILE",
                        help="a .png or .npz [RUN/sample_seed_SEED.png]")  # fmt: skip

    evaluate = _command(commands, "evaluate", run_evaluate, "measure a run against held-out data")
    evaluate.add_argument("run", metavar="RUN", help="a run's folder")
    evaluate.add_argument("--projections", type=int, default=256, metavar="INT",
                          help="directions of the sliced Wasserstein distance [256]")  # fmt: skip
    evaluate.add_argument("--json", action="store_true", help="print JSON")

    check = _command(commands, "check", run_check, "check every op's gradients")
    check.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="reference, cpu, cuda or cuda-emulator [cpu]",
    )
    check.add_argument("--order", type=int, default=2, metavar="INT", help="highest order [2]")
    check.add_argument("--op", metavar="NAME", help="only this op")

    bench = _command(commands, "bench", run_bench, "time kernels and steps beside their peers")
    bench.add_argument("names", nargs="*", metavar="NAME", help="matmul, step [both], and what"
                       " takes longer: conv (beside PyTorch's), kernels (beside the machine's"
                       " peaks and numpy), memory (of a process, beside PyTorch's), modes (that"
                       " methods cover, an hour); with --devices"
                       " matmul, conv2d, leaky_relu, exp, add, sum, transpose, gather, normalize,"
                       " normalize_grad, adam, normal, step [all]")  # fmt: skip
    bench.add_argument("--devices", metavar="NAMES",
                       help="sweep sizes on each, say cpu,cuda, a GPU beside PyTorch")  # fmt: skip
    bench.add_argument("--repeats", type=int, default=9, metavar="INT", help="rounds [9]")
    bench.add_argument("--threads", type=int, metavar="INT", help="threads for every contender")
    bench.add_argument("--json", metavar="FILE", help="write machine and samples here")
    bench.add_argument("--figure", metavar="FILE",
                       help="a .png of kernels (a roofline), with no other NAME; with --devices:"
                       " of time against size")  # fmt: skip

    _command(commands, "info", run_info, "show versions, processor, devices, and what runs where")
    _command(commands, "presets", run_presets, "list the presets of `minigan train`")
    return parser


def _command(
    commands: Any, name: str, run: Callable[..., int], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run_command=run)
    return parser


@usable_streams()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    names = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    if words and not words[0].startswith("-") and words[0] not in names:
        _reject(parser, "command", words[0], names)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        of = names.get(options.command, parser)
        _reject(of, "option", unknown[0].split("=")[0], of._option_string_actions)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        status = options.run_command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\nminigan: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `minigan info | head`
        return 0
    except USER_ERRORS as error:
        if os.environ.get("MINIGAN_TRACEBACK"):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"minigan {options.command}: error: {text}", file=sys.stderr)
        return 2


def _reject(parser: argparse.ArgumentParser, what: str, word: str, accepted: Iterable[str]) -> None:
    """Exit 2 with the nearest accepted names."""
    try:
        choose(what, word, dict.fromkeys(name for name in accepted if name != "-h"))
    except ValueError as error:
        parser.error(str(error))


# -------------------------------------------------------------------------------------- commands
def run_train(options: argparse.Namespace) -> int:
    from ..gan.presets import PRESETS
    from ..training.config import Config
    from ..training.folder import check_free, locked, new_folder, read_config
    from ..training.run import Run, resume
    from ..training.trainer import Trainer

    given = {k: v for k, v in vars(options).items() if k not in _NOT_CONFIG}
    rate = given.pop("lr", None)
    if rate is not None:
        given = {"lr_g": rate, "lr_d": rate, **given}
    progress = sys.stderr.isatty() or not os.environ.get("CI")
    if options.seeds is not None and (options.resume is not None or "seed" in given):
        other = "--seed" if "seed" in given else "--resume"
        raise ValueError(f"--seeds {options.seeds} makes new runs; {other} does not go with it")
    if options.resume is not None:
        folder = Path(options.resume)
        before = read_config(folder).as_dict()
        changed = [k for k, v in given.items() if k != "steps" and before[k] != v]
        if changed or options.out or options.preset:
            listed = ", ".join(f"{k} = {before[k]!r} (not {given[k]!r})" for k in changed)
            raise ValueError(
                f"--resume {folder} goes on with that run's own options"
                + (f": {listed}" if listed else "; --out and --preset do not go with it")
            )
        _check_not_spent(folder, before, given.get("steps"))
        with locked(folder):
            announce_kernels(before["device"])
            run = resume(folder, given.get("steps"), progress)
            if run.trainer.step_count == run.config.steps:
                print(f"this run is at its last step, {run.config.steps}; --steps can extend it")
            return _train(run, progress, not options.no_capture)
    preset = choose("preset", options.preset, PRESETS).options if options.preset else {}
    config = Config(**{**preset, **given})
    if options.seeds is not None:
        return _train_seeds(config, options, progress)
    if options.out is not None:
        check_free(Path(options.out))
    announce_kernels(config.device)
    trainer = Trainer(config, progress=progress)
    folder = new_folder(options.out, trainer.config)
    with locked(folder):
        return _train(Run(folder, trainer), progress, not options.no_capture)


def _check_not_spent(folder: Path, before: dict[str, Any], steps: int | None) -> None:
    """ValueError where more steps would change nothing, as learning rates have fallen to 0."""
    from ..optim.schedules import SCHEDULES

    over = before["schedule_steps"]
    if steps and over and steps > over and SCHEDULES[before["schedule"]](1.0) == 0:
        raise ValueError(
            f"{folder} has a {before['schedule']} schedule of {over} steps: from there on its"
            f" learning rates are 0, and more steps change nothing; a new run with --steps {steps}"
            " is needed"
        )


_NOT_CONFIG = {"command", "run_command", "preset", "out", "resume", "seeds", "no_capture"}


def _train_seeds(config: Any, options: argparse.Namespace, progress: bool) -> int:
    from ..training.seed_runs import estimates, parse_seeds, train_seed_runs

    seeds = parse_seeds(options.seeds)
    out = None if options.out is None else Path(options.out)
    trainer, runs = train_seed_runs(config, seeds, out, not options.no_capture, progress)
    for run in runs:
        resume = f"minigan train --resume {shlex.quote(str(run.folder))}"
        end = f"  stopped by {run.stopped} and saved; go on with: {resume}" if run.stopped else ""
        print(f"seed {run.seed}: {run.folder}{end}")
    measured = estimates(runs)
    if measured:
        count = sum(run.measures is not None for run in runs)
        print(
            f"step {config.steps}, {count} seed{'s' * (count > 1)}, {len(trainer.held_out)} samples"
            " a draw, mean +- standard error over seeds"
        )
        _print_estimates(measured, trainer.data)
    return 130 if any(run.stopped for run in runs) else 0


def _train(run: Any, progress: bool, captured: bool) -> int:
    run.trainer.captured = captured
    stopped = run.train(progress)
    folder = shlex.quote(str(run.folder))
    if stopped:
        print(f"stopped by {stopped} and saved; go on with: minigan train --resume {folder}")
        return 130
    print(f"samples:  {run.samples_path()}")
    print(f"losses:   {run.folder / 'losses.png'}")
    print(f"measure:  minigan evaluate {folder}")
    return 0


def run_sample(options: argparse.Namespace) -> int:
    import numpy as np

    from ..kernels.runtime.files import atomic_write
    from ..training.run import draw, load_trainer
    from ..training.trainer import row_length

    if options.n < 1:
        raise ValueError(f"--n {options.n} is not a positive number of samples")
    folder = Path(options.run)
    which = "" if options.label is None else f"_label_{options.label.replace(',', '_')}"
    path = Path(options.out or folder / f"sample_seed_{options.seed}{which}.png")
    if path.suffix not in (".png", ".npz"):
        raise ValueError(f"--out {path}: a name that ends in .png or .npz is needed")
    if not path.parent.is_dir():
        raise ValueError(f"--out {path}: there is no folder {path.parent}")
    turn = None if options.label is None else _labels(options.label)
    trainer = load_trainer(folder)
    if not trainer.players.labelled:
        if turn is not None:
            raise ValueError(
                f"--label {options.label}: {folder} was trained without labels (--condition, or a"
                " preset such as cgan)"
            )
    elif turn is None:
        turn = list(range(trainer.data.classes or 0))
    labels = None if turn is None else np.resize(np.array(turn, np.int64), options.n)
    samples = trainer.sample(options.n, options.seed, labels)
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {"samples": samples}
        arrays |= {} if labels is None else {"labels": labels}
        atomic_write(path, lambda file: np.savez_compressed(file, **arrays))
    else:
        draw(samples, trainer.data.values, path, f"seed {options.seed}", row_length(turn))
    print(path)
    return 0


def _labels(text: str) -> list[int]:
    import numpy as np

    try:
        return np.array([int(part) for part in text.split(",")], np.int64).tolist()
    except (OverflowError, ValueError):
        raise ValueError(f"--label {text}: integers, joined by commas, are needed") from None


def run_evaluate(options: argparse.Namespace) -> int:
    from ..training.evaluate import evaluate
    from ..training.run import load_trainer

    trainer = load_trainer(Path(options.run))
    progress = sys.stderr.isatty() or not os.environ.get("CI")
    found = evaluate(trainer, options.projections, progress)
    if options.json:
        print(json.dumps({name: value.as_dict() for name, value in found.items()}))
        return 0
    n = len(trainer.held_out)
    print(f"step {trainer.step_count}, {n} samples a draw, mean +- standard error over draws")
    _print_estimates(found, trainer.data)
    return 0


def _print_estimates(estimates: dict[str, Any], data: Any) -> None:
    labels = {
        "sliced_wasserstein": "sliced Wasserstein, generated to held-out",
        "sliced_wasserstein_floor": "its floor, training to held-out",
        "modes": f"modes covered, of {0 if data.modes is None else len(data.modes)}",
        "high_quality": "share within 3 sigma (a real draw: 0.9889)",
        "reverse_kl": "reverse KL of the modes (nats)",
        "label_agreement": "samples that a classifier gives the label asked for",
        "label_agreement_permuted": "the same, labels shuffled: chance",
        "classifier_accuracy": "held-out real samples that it is right on",
    }
    for name, value in estimates.items():
        print(f"  {labels[name]:<48} {value}")


def run_check(options: argparse.Namespace) -> int:
    from ..engine.check import check_op
    from ..engine.op import Op

    if options.order < 1:
        raise ValueError(f"--order {options.order} is not a positive integer")
    ops = [choose("op", options.op, Op.registry)] if options.op else list(Op.registry.values())
    announce_kernels(options.device)
    orders = range(1, options.order + 1)
    columns = "".join(f"{f'order {k}':>12}" for k in orders)
    print(f"{'op':<18}{'samples':>8}{columns}   error as a share of the tolerance, device"
          f" {options.device}")  # fmt: skip
    failed = 0
    for op in ops:
        result = check_op(op, options.device, options.order)
        errors = "".join(f"{e:>12.1e}" for e in result.errors) or f"{'constant':>12}"
        print(f"{op.name:<18}{result.samples:>8}{errors}{result.failure}", flush=True)
        failed += bool(result.failure)
    print(f"{len(ops) - failed} ops pass, {failed} fail")
    return 1 if failed else 0


def run_bench(options: argparse.Namespace) -> int:
    from .. import bench
    from ..bench import devices

    given = {name: getattr(options, name) for name in ("names", "repeats", "threads")}
    given |= {"output": sys.stdout, "json_path": options.json, "figure_path": options.figure}
    if options.devices is None:
        announce_kernels("cpu")
        bench.run(**given)
        return 0
    names = [name.strip() for name in options.devices.split(",")]
    if not all(names):
        raise ValueError(f"--devices {options.devices!r} is no list of names, say cpu,cuda")
    for name in names:
        announce_kernels(name)
    devices.run(names, **given)
    return 0


def run_info(options: argparse.Namespace) -> int:
    from .info import describe

    print(describe())
    return 0


def run_presets(options: argparse.Namespace) -> int:
    from ..gan.presets import PRESETS

    print(f"{'name':<12}data")
    for name, preset in PRESETS.items():
        data = preset.options.get("data", "glyphs")
        print(f"{name:<12}{data:<12}{preset.about} ({preset.paper})")
    return 0
