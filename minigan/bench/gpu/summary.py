"""Write summary.md: targets, parts, and tables of what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import device_code
from ..device_report import crossover, describe_crossover, format_speed
from ..kernels import KERNELS
from ..steps import EAGER
from ..table import format_markdown, format_number
from ..timing import Case, ratio
from . import targets
from .parts import TOOLS, read_json
from .settings import COMPILED_STEPS, QUICK_STEPS

MAX_FAILURES = 20  # the names of failed tests that are printed
EMULATED = (
    "**Tried on the emulator with tiny sizes: these times say nothing of a GPU.**"
    " PyTorch and JAX ran on the CPU."
)


def markdown(record: Mapping[str, Any], folder: Path) -> str:
    """Return the text of summary.md for the record of summary.json."""
    paragraphs = [
        f"# {record['device']}, {record['started']}",
        EMULATED if record["device"] == "cuda-emulator" else "",
        _machine(folder, record["device"]),
        "Ratios are the other's time / minigan's, medians and quartiles of interleaved rounds:"
        " above 1 minigan is faster.",
        "## Targets",
        format_markdown(
            ["target", "aim", "measured", "25..75 %", ""],
            [targets.describe(line) for line in record["targets"]],
        ),
        "## Parts",
        f"{record['seconds']:.0f} of {60 * record['minutes']:.0f} seconds.",
        format_markdown(["part", "", "seconds", "limit", "found"], _parts(record["parts"]), left=2),
        *_failures(record["parts"]),
        _skipped(record["parts"]),
        *_section("Kernels", _kernels(folder, record["device"])),
        *_section("Training steps, ms", _steps(folder, record["device"])),
        *_section("GPU against CPU", _crossovers(folder, record["device"])),
    ]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def _machine(folder: Path, device: str) -> str:
    result = read_json(folder / "machine.json")
    if result is None:
        return ""
    own = ", ".join(f"{k} {x}" for k, x in result["devices"][device].items())
    packages = ", ".join(f"{k} {x or 'not installed'}" for k, x in result["packages"].items())
    return (
        f"{own}; driver {result['driver'] or 'none'}; {result['processor']}, {result['threads']}"
        f" threads; Python {result['python']}, {packages}; kernels {result['kernels']}."
    )


# ------------------------------------------------------------------------------------------- parts
def _parts(parts: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            f"{name}: {part['about']}",
            part["state"],
            *("-" if part[key] is None else f"{part[key]:.0f}" for key in ("seconds", "limit")),
            "; ".join(filter(None, [part["reason"], found(name, part["result"])])),
        ]
        for name, part in parts.items()
    ]


def found(name: str, result: Mapping[str, Any] | None) -> str:
    """Return what a part has found, in words."""
    if result is None:
        return ""
    if name in TOOLS:
        errors = result["errors"]
        count = f"{len(result['reports'])} reports so far" if errors is None else f"{errors} errors"
        return f"{count}; {found('tests', result['tests'])}"
    if name == "tests":
        counts = ", ".join(f"{result[key]} {key}" for key in ("passed", "failed", "skipped"))
        selected = "an unknown number" if result["selected"] is None else result["selected"]
        return f"{counts} of {selected} tests"
    return f"{result['cases']} cases"


def _failures(parts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the first failed tests of each part that has any."""
    for name, part in parts.items():
        result = part["result"] or {}
        failures = result.get("tests", result).get("failures", [])
        if failures:
            lines = [f"    {x}" for x in failures[:MAX_FAILURES]]
            title = f"Failed tests of {name}, in the order of time ({name}.log has the errors):"
            yield "\n".join([title, "", *lines])


def _skipped(parts: Mapping[str, Any]) -> str:
    """Return a list of the contenders that were measured no further, with the reasons."""
    lines: dict[str, list[str]] = {}
    for name, part in parts.items():
        for series, reasons in ((part["result"] or {}).get("skipped", {}) or {}).items():
            for contender, reason in reasons.items():
                lines.setdefault(f"- {name}, {contender}: {reason}", []).append(series)
    if not lines:
        return ""
    texts = [f"{line} ({', '.join(series)})" for line, series in lines.items()]
    return "\n".join(["Measured no further, or not at all:", "", *texts])


# ----------------------------------------------------------------------------------------- results
def _series(folder: Path, part: str) -> dict[str, list[Case]]:
    series: dict[str, list[Case]] = (read_json(folder / f"{part}.json") or {}).get("series", {})
    return series


def _kernels(folder: Path, device: str) -> str:
    """Return a table with a row for each kernel and size.

    The prediction is for the largest size: the speed that the machine code allows at most.
    """
    predicted = (read_json(folder / "machine.json") or {}).get("predicted", "no machine.json")
    speeds = predicted if isinstance(predicted, dict) else {}
    rows = []
    for name, cases in _series(folder, "kernels").items():
        for case in cases:
            library = next((x for x in targets.LIBRARIES if x in case["seconds"]), None)
            row = [KERNELS[name].about, f"{case['size']:,}", KERNELS[name].unit]
            row.append(format_speed(case, device))
            row += [library or "-", *_beside(case, library, device)]
            row += _beside(case, "copy", device)
            is_largest = case is cases[-1] and name in speeds
            rows.append([*row, format_number(speeds[name]) if is_largest else "-"])
    heads = [*("kernel", "n", "unit", device, "library", "its", "ratio", "copy", "ratio")]
    table = format_markdown([*heads, "predicted"], rows)
    reason = "" if isinstance(predicted, dict) else f" ({predicted})"
    note = f"predicted: the most that the machine code allows, {device_code.NOTE}{reason}."
    return f"{table}\n\n{note}" if rows else ""


def _beside(case: Case, peer: str | None, device: str) -> list[str]:
    """Return two cells: the peer's speed, and the ratio."""
    if peer is None or not {peer, device} <= case["seconds"].keys():
        return ["-", "-"]
    return [format_speed(case, peer), format_number(ratio(case, peer, own=device).median)]


def _steps(folder: Path, device: str) -> str:
    """Return a table with a row for each task and batch, from all parts that measure steps."""
    names = (device, *QUICK_STEPS, *COMPILED_STEPS, "cpu")
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for part in ("sizes", "compiled", "steps"):  # The last one's times count.
        for case in _series(folder, part).get("step", []):
            cells = rows.setdefault((case["task"], case["batch"]), {})
            cells |= {name: format_speed(case, name) for name in case["seconds"]}
    lines = [
        [f"{task}, batch {batch}", *(cells.get(name, "-") for name in names)]
        for (task, batch), cells in rows.items()
    ]
    titles = [f"{device}, captured" if name == device else name for name in names]
    return format_markdown(["", *(x.replace(EAGER, f"{device}, eager") for x in titles)], lines)


def _crossovers(folder: Path, device: str) -> str:
    lines = [
        f"- {KERNELS[name].about}: {device} is faster than cpu"
        f" {describe_crossover(crossover(cases, 'cpu', device))}"
        for name, cases in _series(folder, "sizes").items()
        if name in KERNELS and cases
    ]
    return "\n".join(lines)
