"""Write the kept results into README.md: `python -m minigan.reproduce.readme [NAME DIR]`.

With a name and the folder of a finished `minigan reproduce NAME` its results.json and figure.png
are first kept beside the README, as results/NAME.json and figures/NAME.png.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import atomic_write
from ..utils import strict_json
from ..utils.names import choose
from .experiment import Experiment
from .experiments import EXPERIMENTS
from .runner import FIGURE, RESULTS
from .table import markdown, minutes

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results of {}: `python -m minigan.reproduce.readme` -->", "<!-- end of {} -->"


def with_results(text: str, folder: Path) -> str:
    """Return the text with the tables between its markers replaced.

    Args:
        text: has a line BEGIN and below it a line END for each experiment.
        folder: that of the README, with results/ and figures/.

    Raises:
        ValueError: a marker is missing, or there are results of an unknown experiment.
    """
    for path in sorted((folder / "results").glob("*.json")):
        choose("experiment", path.stem, EXPERIMENTS)
    for name in EXPERIMENTS:
        begin, end = BEGIN.format(name), END.format(name)
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        if len(re.findall(pattern, text, re.S)) != 1:
            raise ValueError(f"one line {begin!r} and one {end!r} below it are needed")
        path = folder / "results" / f"{name}.json"
        part = _part(name, strict_json.loads(path.read_bytes())) if path.exists() else ""
        block = "\n".join(filter(None, [begin, part, end]))
        text = text.replace(re.findall(pattern, text, re.S)[0], block)
    return text


def _part(name: str, document: Mapping[str, Any]) -> str:
    experiment, machine = EXPERIMENTS[name], document["machine"]
    python, packages = machine["python"], machine["packages"]
    seeds = max((case["seeds"] for case in document["cases"].values()), key=len)
    setting = (
        f"{_seeds(experiment, seeds)}. {_time(minutes([document]))} on two cores, one thread per"
        f" seed, of {machine['processor']}; Python {python}, numpy {packages['numpy']}, numba"
        f" {packages['numba']}."
    )
    picture = f"![{experiment.about}](figures/{name}.png)\n\n*{experiment.caption}*"
    return "\n\n".join([markdown(experiment, document), setting, picture])


def _time(minutes: float) -> str:
    return f"{minutes:.1f} minutes" if minutes >= 1 else f"{60 * minutes:.0f} seconds"


def _seeds(experiment: Experiment, seeds: Sequence[int]) -> str:
    """Return over what the numbers are means."""
    if all(case.seeds == 1 for case in experiment.cases.values()):
        return "One computation; nothing is random"
    if len(seeds) == 1:
        return f"Seed {seeds[0]} alone"
    is_range = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    names = f"{seeds[0]} to {seeds[-1]}" if is_range else ", ".join(map(str, seeds))
    return f"Mean ± standard error over seeds {names}"


def keep(name: str, source: Path, folder: Path) -> None:
    """Copy results.json and figure.png of a finished experiment to the README's folder.

    Raises:
        ValueError: they are results of another experiment.
        FileNotFoundError: it is not finished.
    """
    choose("experiment", name, EXPERIMENTS)
    content = (source / RESULTS).read_bytes()
    if strict_json.loads(content).get("experiment") != name:
        raise ValueError(f"{source / RESULTS} has results of another experiment than {name}")
    figure = (source / FIGURE).read_bytes()
    atomic_write(folder / "results" / f"{name}.json", lambda file: file.write(content))
    atomic_write(folder / "figures" / f"{name}.png", lambda file: file.write(figure))


def main(arguments: Sequence[str]) -> None:
    """Keep results if a name and a folder are given; rewrite the README."""
    try:
        if len(arguments) not in (0, 2):
            raise ValueError(f"{len(arguments)} arguments; none, or NAME and DIR, are needed")
        if arguments:
            keep(arguments[0], Path(arguments[1]), README.parent)
        text = with_results(README.read_text(), README.parent)
        atomic_write(README, lambda file: file.write(text.encode()))
    except (ValueError, OSError) as error:
        sys.exit(f"python -m minigan.reproduce.readme: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
