"""The beginning of a report: what it is, in plain words, and the state of each run."""

from __future__ import annotations

from collections.abc import Sequence

from ...doctor import Diagnosis
from ...doctor.record import DIVERGENCE, TRAINING
from ..gather import RunReport
from ..markup import Html, definitions, join, note, number, tag
from .layout import columns, section
from .options import show

CHANNELS = {1: "grey", 3: "colour"}


def page_title(runs: Sequence[RunReport]) -> str:
    """Return the title of the report."""
    if len(runs) == 1:
        return runs[0].name
    return f"{', '.join(run.name for run in runs[:-1])} and {runs[-1].name}"


def header(runs: Sequence[RunReport]) -> Html:
    """Return the title, and two sentences for who meets such a report for the first time."""
    kind = "Training report" if len(runs) == 1 else f"Training reports of {len(runs)} runs"
    who = "A generator" if len(runs) == 1 else "In each run a generator"
    text = (
        f"{who} learned to make {_things(runs)} from random numbers, while a discriminator learned"
        " to tell them from real ones and so showed it how to make better ones. This page shows"
        " what it makes, how the training went, and how near the result comes to real data."
    )
    return tag(
        "header",
        tag("p", kind, class_="kind"),
        tag("h1", page_title(runs)),
        tag("p", text, class_="lead"),
    )


def _things(runs: Sequence[RunReport]) -> str:
    """Return what the generators make: "images like those of glyphs"."""
    names = list(dict.fromkeys(_data_name(run) for run in runs))
    kinds = {len(run.trained.sampler.shape) for run in runs if run.trained is not None}
    kind = {frozenset([3]): "images", frozenset([1]): "points"}.get(frozenset(kinds), "samples")
    return f"{kind} like those of “{names[0]}”" if len(names) == 1 else kind


def _data_name(run: RunReport) -> str:
    """Return the name of the data, without the folders of a path."""
    return str(run.content.options.get("data", "unknown data")).rstrip("/").split("/")[-1]


def overview_section(runs: Sequence[RunReport]) -> Html:
    """Return the state of each run, and notes on what could not be read."""

    def state(run: RunReport) -> Html:
        notes = [note(text) for text in run.content.notes]
        if run.trained is None:
            notes.append(note("Its checkpoint cannot be used: ", run.reasons["trained"], "."))
        return join([definitions(_facts(run), class_="facts"), *notes])

    return section("overview", "At a glance", columns(runs, state))


def _facts(run: RunReport) -> list[tuple[object, object]]:
    facts: list[tuple[object, object]] = [("Training", _progress(run)), ("Data", _data(run))]
    if run.trained is not None:
        facts.append(("Nets", _nets(run)))
    quality = run.content.quality[-1:]
    if quality:
        distance, floor = quality[0]["distance"], quality[0]["floor"]
        text = number(distance, 3)
        if floor:
            text += f", {distance / floor:.1f} times that of real samples ({number(floor, 3)})"
        facts.append(("Distance to data", text))
    best = None if run.trained is None else run.trained.best
    if best is not None:
        text = f"{best.step:,}, of the lowest {best.measure} ({number(best.value, 3)})"
        facts.append(("Best step", text))
    if run.diagnosis is not None:
        facts.append(("Diagnosis", _findings(run.diagnosis)))
    return facts


def _progress(run: RunReport) -> Html:
    steps, step = run.steps, run.step
    state = None if run.diagnosis is None else run.diagnosis.state
    if state == DIVERGENCE:
        assert run.diagnosis is not None
        return tag("strong", f"diverged at step {run.diagnosis.step:,}")
    if steps is None:
        return join([f"{step:,} steps"])
    if step >= steps:
        return join([f"finished, {steps:,} steps"])
    what = "it is being trained" if state == TRAINING else "it was interrupted"
    return tag("strong", f"step {step:,} of {steps:,}: {what}")


def _data(run: RunReport) -> str:
    text = _data_name(run)
    if run.trained is None or not run.trained.data:
        return text
    data = run.trained.data
    shape = data["shape"]
    if len(shape) == 3:
        kind = CHANNELS.get(shape[0], f"{shape[0]}-channel")
        text += f", {data['samples']:,} {kind} images of {shape[2]}x{shape[1]} pixels"
    else:
        text += f", {data['samples']:,} points of {shape[0]} numbers"
    sampler = run.trained.sampler
    if data["labels"] and data["classes"]:
        text += f" in {data['classes']} classes"
        text += "" if sampler.players.config.needs_labels else ", which are not used"
    return text


def _nets(run: RunReport) -> str:
    assert run.trained is not None
    config, sizes = run.trained.config, run.trained.sizes
    text = f"{show(config.model)}, generator {sizes[0]:,} and discriminator {sizes[1]:,} parameters"
    if run.trained.sampler.players.average is not None:
        text += f"; samples are of its average ({show(config.ema)})"
    return text


def _findings(diagnosis: Diagnosis) -> Html | str:
    findings = diagnosis.findings
    if not findings:
        return "no alarm" if diagnosis.has_gauges else "not possible: there are no gauges"
    return tag("a", ", ".join(finding.title for finding in findings), href="#doctor")
