"""Keep the results of the cases, and write them into README.md beside this file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...kernels.runtime.files import atomic_write
from ...utils import strict_json
from . import matrix, remedies
from .healthy import HEALTHY
from .matrix import Matrix
from .planted import PLANTED
from .remedies import Remedied
from .runs import Result, run_all, run_case

HERE = Path(__file__).parent
README, MEASURED, FIGURE = HERE / "README.md", HERE / "measured.json", HERE / "confusion.png"
BEGIN = "<!-- tables: written by `python -m minigan.doctor.cases` -->"
END = "<!-- tables end -->"


def measure(workers: int | None = None) -> tuple[Matrix, list[Remedied]]:
    """Train all cases and write measured.json; return the matrix and the remedies.

    The matrix has the planted runs of the remedies' three seeds, and two seeds of healthy runs.
    """
    helped = remedies.measure_remedies(workers)
    jobs = [partial(run_case, case, seed) for case in HEALTHY.values() for seed in matrix.SEEDS]
    results = iter(run_all(jobs, workers, "healthy"))
    healthy = {name: [next(results) for _ in matrix.SEEDS] for name in HEALTHY}
    document = {
        "planted": [
            {
                "name": x.name,
                "before": [result.as_dict() for result in x.before],
                "after": [result.as_dict() for result in x.after],
            }
            for x in helped
        ],
        "healthy": {name: [result.as_dict() for result in x] for name, x in healthy.items()},
    }
    text = strict_json.dumps(document, indent=1) + "\n"
    atomic_write(MEASURED, lambda file: file.write(text.encode()))
    return _matrix(helped, healthy), helped


def read() -> tuple[Matrix, list[Remedied]]:
    """Return the matrix and the remedies of measured.json."""
    document = json.loads(MEASURED.read_text())
    helped = [
        Remedied(x["name"], *(tuple(map(_result, x[when])) for when in ("before", "after")))
        for x in document["planted"]
    ]
    healthy = {name: [_result(x) for x in results] for name, results in document["healthy"].items()}
    return _matrix(helped, healthy), helped


def _result(values: dict[str, Any]) -> Result:
    return Result(**{**values, "findings": tuple(values["findings"]), "seconds": 0.0})


def _matrix(helped: Sequence[Remedied], healthy: dict[str, list[Result]]) -> Matrix:
    return Matrix({**{x.name: list(x.before) for x in helped}, **healthy})


def rewrite(results: Matrix, helped: Sequence[Remedied]) -> None:
    """Draw the figure, and replace the tables between the README's markers.

    Raises:
        ValueError: the README does not have each marker once, in order.
    """
    matrix.draw(results, FIGURE)
    text = README.read_text()
    if [text.count(BEGIN), text.count(END)] != [1, 1] or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{README}: one line {BEGIN!r} and one {END!r} below it are needed")
    new = text.split(BEGIN)[0] + block(results, helped) + text.split(END)[1]
    atomic_write(README, lambda file: file.write(new.encode()))


def block(results: Matrix, helped: Sequence[Remedied]) -> str:
    """Return the tables, markers included."""
    columns = ", ".join(f"{i + 1} {name}" for i, name in enumerate(PLANTED))
    cases = {**PLANTED, **HEALTHY}
    about = [[name, case.about] for name, case in cases.items()]
    parts = [
        BEGIN,
        _markdown(["run", "what was done"], about, left=2),
        f"Columns: {columns}. A number counts the runs with that finding: of three seeds of a"
        " planted failure, and of two of a healthy run.",
        _markdown(*matrix.rows(results), left=1),
        _markdown(*remedies.rows(helped), left=3),
        END,
    ]
    return "\n\n".join(parts)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *rows])
