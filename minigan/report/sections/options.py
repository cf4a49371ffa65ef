"""The options of a run, and how to repeat it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...gan.models import MODELS
from ...training.config import IMAGE_MODEL, POINT_MODEL, Config
from ...training.options import options
from ...utils.code_files import FROM_PYTHON
from ..gather import RunReport
from ..markup import Html, definitions, join, note, table, tag
from .layout import columns, section

PACKAGES = ("minigan", "numpy", "numba")


def options_section(runs: Sequence[RunReport]) -> Html:
    """Return the options that differ between runs, and those of each run."""
    parts = [_differences(runs)] if len(runs) > 1 else []

    def content(run: RunReport) -> Html:
        return _options(run, has_help=len(runs) == 1)

    return section("options", "Configuration", *parts, columns(runs, content))


def _differences(runs: Sequence[RunReport]) -> Html:
    """Return a table of the options in which the runs differ."""
    names = dict.fromkeys(name for run in runs for name in run.content.options)
    values = {name: [show(run.content.options.get(name)) for run in runs] for name in names}
    rows = [(tag("code", name), *x) for name, x in values.items() if len(set(x)) > 1]
    if not rows:
        return tag("p", "All options of these runs are equal.")
    return table("Options that differ", ("option", *(run.name for run in runs)), rows)


def _options(run: RunReport, has_help: bool) -> Html:
    """Return the options of a run, with or without what each does, those at defaults folded."""
    given = run.content.options
    changed = changed_options(run)
    helps = options(Config)
    width = 3 if has_help else 2
    own = [
        (tag("code", name), show(x), helps[name].help if name in helps else "unknown here")[:width]
        for name, x in changed.items()
    ]
    others = [
        (tag("code", name), show(value)) for name, value in given.items() if name not in changed
    ]
    head = ("option", "value", "what it does")[:width]
    first = table("Options that differ from the defaults", head, own) if own else None
    if first is None:
        first = tag("p", "All options have their default values.")
    folded = tag(
        "details",
        tag("summary", f"The other {len(others)} options, at their defaults"),
        table("Options at their defaults", ("option", "value"), others),
    )
    return join([first, folded])


def show(value: Any) -> str:
    """Return the value of an option as text."""
    names = {None: "none", True: "yes", False: "no"}
    if value is None or isinstance(value, bool):
        return names[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def changed_options(run: RunReport) -> dict[str, Any]:
    """Return the options that differ from their defaults, those of this data included."""
    defaults = Config().as_dict()
    given = run.content.options
    if run.trained is not None:
        is_image = len(run.trained.sampler.shape) == 3
        model = IMAGE_MODEL if is_image else POINT_MODEL
        steps = dict.fromkeys(
            ("schedule_steps", "penalty_steps", "noise_steps"), given.get("steps")
        )
        defaults |= {name: x for name, x in steps.items() if given.get(name) is not None}
        own = given.get("model")
        defaults |= {"model": model, "evaluate_every": given.get("sample_every")}
        if isinstance(own, str) and own in MODELS:
            defaults["latent_size"] = MODELS[own].latent_size
    missing = object()
    return {k: x for k, x in given.items() if x != defaults.get(k, missing)}


# ----------------------------------------------------------------------------------- how to repeat
def repeat_section(runs: Sequence[RunReport]) -> Html:
    """Return the command that repeats each run, and what its bits depend on."""
    text = (
        "The same command gives the same numbers to the last bit, on the same kind of device, for"
        " any number of threads, however often it was stopped and resumed."
    )
    return section("repeat", "How to repeat it", tag("p", text), columns(runs, _repeat))


def _repeat(run: RunReport) -> Html:
    given, data = run.content.options, {} if run.trained is None else run.trained.data
    if run.content.config is None:
        return note("Options that this version does not accept cannot be repeated with it.")
    parts: list[Html] = []
    if str(given.get("data", "")).startswith(FROM_PYTHON):
        parts.append(note("Its data came from a Python program, which mg.train needs again."))
        command: object = f"mg.train(mg.Config({', '.join(_arguments(run))}), data)"
    else:
        command = command_line(changed_options(run))
    parts.append(tag("pre", tag("code", command)))
    items: list[tuple[object, object]] = [
        ("Seed", show(given.get("seed"))),
        ("Device", show(given.get("device"))),
    ]
    if data:
        shape = " x ".join(map(str, data["shape"]))
        items.append(("Data", f"{data['samples']:,} samples of shape {shape}"))
        items.append(("SHA-256 of the data", tag("code", data["values"], class_="digest")))
        if data["labels"]:
            items.append(("SHA-256 of the labels", tag("code", data["labels"], class_="digest")))
    items.append(("This report was written with", _versions()))
    return join([*parts, definitions(items, class_="facts")])


def command_line(values: Mapping[str, Any]) -> Html:
    """Return the command that trains with these options; a line ends between two of them."""
    parts = [shlex.join(option_words({name: value})) for name, value in values.items()]
    words = ["minigan train", *filter(None, parts)]
    return join([tag("span", word, class_="word") for word in words], " ")


def option_words(values: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that set these options."""
    words: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            text = repr(value) if isinstance(value, float) else str(value)
            # An argument that begins with a dash would be read as an option.
            words += [f"--{option}={text}"] if text.startswith("-") else [f"--{option}", text]
    return words


def _arguments(run: RunReport) -> list[str]:
    changed = changed_options(run)
    return [f"{name}={value!r}" for name, value in changed.items() if name != "data"]


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} (not installed)")
    return ", ".join(found)
