"""Put the sections of a report together into one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from .gather import RunReport
from .markup import Html, script_data, tag
from .sections.findings import findings_section
from .sections.measures import measures_section
from .sections.options import options_section, repeat_section
from .sections.overview import header, overview_section, page_title
from .sections.samples import nearest_section, samples_section, walk_section
from .sections.training import training_section

GENERATOR = "minigan report"  # by which a file that this library wrote is recognized
CONTENTS = {
    "overview": "At a glance",
    "samples": "Samples",
    "nearest": "Nearest",
    "walk": "Walk",
    "curves": "Curves",
    "measures": "Measures",
    "doctor": "Diagnosis",
    "options": "Configuration",
    "repeat": "Repeat",
}


def build_page(runs: Sequence[RunReport]) -> str:
    """Return the report of these runs as HTML."""
    style, script = _asset("page.css"), _asset("page.js")
    curves, data = training_section(runs)
    findings, more = findings_section(runs)
    body = tag(
        "body",
        tag("a", "Skip to the samples", href="#samples", class_="skip"),
        header(runs),
        _contents(),
        tag(
            "main",
            overview_section(runs),
            samples_section(runs),
            nearest_section(runs),
            walk_section(runs),
            curves,
            measures_section(runs),
            findings,
            options_section(runs),
            repeat_section(runs),
        ),
        tag("footer", "Written by minigan. This file loads nothing from the network."),
        tag("script", script_data({"charts": data | more}), type="application/json", id="data"),
        tag("script", script),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="generator", content=GENERATOR),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{page_title(runs)} - minigan report"),
        tag("style", style),
    )
    return Html("<!doctype html>\n") + tag("html", head, body, lang="en") + "\n"


def _contents() -> Html:
    links = [tag("li", tag("a", title, href=f"#{slug}")) for slug, title in CONTENTS.items()]
    return tag("nav", tag("ul", *links), aria_label="Contents")


def _asset(name: str) -> Html:
    return Html(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """Return the policy that lets a browser load nothing, and run this style and script only."""
    style_hash, script_hash = _hash(style), _hash(script)
    return (
        f"default-src 'none'; img-src data:; style-src '{style_hash}'; script-src '{script_hash}';"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
