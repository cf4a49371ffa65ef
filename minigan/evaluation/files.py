"""Write and read RUN/evaluation.json, and other texts of evaluations."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import atomic_write, read_bounded
from ..utils import strict_json
from .evaluate import Evaluation, Measured

MAX_BYTES = 1 << 20  # of evaluation.json: a hundred times what it takes
FIELDS = tuple(field.name for field in dataclasses.fields(Measured))


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation in JSON types: "inf" and "-inf" for infinite numbers, None for NaN."""
    values = dataclasses.asdict(evaluation)
    values["measures"] = [{k: _text(x) for k, x in m.items()} for m in values["measures"]]
    values["left_out"] = [{"name": name, "reason": why} for name, why in evaluation.left_out]
    result: dict[str, Any] = strict_json.with_null(values)
    return result


def _text(value: Any) -> Any:
    return str(float(value)) if isinstance(value, float) and math.isinf(value) else value


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write an evaluation to a file; on a failure the file stays as it was.

    Raises:
        OSError: it cannot be written.
    """
    text = strict_json.dumps(as_dict(evaluation), indent=2) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))


def read_evaluation(path: Path) -> dict[str, Any] | None:
    """Return what an evaluation.json holds, checked; None where there is none.

    Returns:
        a dict with "step" and "measures", a list of dicts with the fields of `Measured`, and the
        other fields of `Evaluation`; infinite numbers are floats again.

    Raises:
        ValueError: it cannot be read, or is no such file.
    """
    try:
        values = strict_json.loads(read_bounded(path, MAX_BYTES))
        if not isinstance(values, dict) or type(values["step"]) is not int:
            raise TypeError("it has no step")
        values["measures"] = [_read_measured(measured) for measured in values["measures"]]
    except FileNotFoundError:
        return None
    except (KeyError, OSError, TypeError, ValueError) as error:
        text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} cannot be read: {text}; `minigan evaluate` writes it") from None
    return values


def _read_measured(measured: Any) -> dict[str, Any]:
    """Return a measure with floats for infinite numbers.

    Raises:
        KeyError, TypeError: it has not the fields of `Measured`.
    """
    values: dict[str, Any] = dict(measured)
    for name in FIELDS:
        is_text = name in ("name", "label", "better")
        value = values[name]
        if not is_text and value in ("inf", "-inf"):
            value = values[name] = float(value)
        if value is not None and not isinstance(value, str if is_text else int | float):
            raise TypeError(f"{name} of a measure is {str(value)[:40]!r}")
    return values


def as_csv(evaluations: Mapping[str, Evaluation]) -> str:
    """Return a line for each measure of each run, by its folder; empty cells stand for None."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "step", *FIELDS])
    for folder, evaluation in evaluations.items():
        for measured in evaluation.measures:
            cells = [getattr(measured, name) for name in FIELDS]
            writer.writerow([folder, evaluation.step, *["" if x is None else x for x in cells]])
    return out.getvalue()


def as_json(evaluations: Mapping[str, Evaluation]) -> str:
    """Return one run's evaluation as an object with its folder, and several as a list."""
    objects: Sequence[dict[str, Any]] = [
        {"run": folder, **as_dict(evaluation)} for folder, evaluation in evaluations.items()
    ]
    return strict_json.dumps(objects[0] if len(objects) == 1 else objects)
