"""Write the configuration of a run with the changes of a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import atomic_write
from ..training.run_folder import CONFIG, cannot_write, read_options
from ..utils import strict_json
from .diagnosis import Diagnosis, Finding


def choose(diagnosis: Diagnosis) -> Finding:
    """Return the first finding whose remedy is one of options: one change at a time.

    Raises:
        ValueError: there is none; the message says what to do instead.
    """
    if not diagnosis.findings:
        raise ValueError(f"{diagnosis.folder}: nothing was found, so there is no remedy to write")
    for finding in diagnosis.findings:
        if finding.changes:
            return finding
    remedies = " ".join(finding.remedy for finding in diagnosis.findings)
    raise ValueError(f"{diagnosis.folder}: no remedy changes an option of this run: {remedies}")


def write(diagnosis: Diagnosis, finding: Finding, folder: Path) -> Path:
    """Write the run's options with the changes of a finding to `folder`/config.json.

    Returns:
        The file, which `minigan train --config` takes.

    Raises:
        ValueError: the file exists, or cannot be written.
    """
    path = folder / CONFIG
    if path.exists():
        raise ValueError(f"{path} exists; --remedy writes into a folder without one")
    options = changed(read_options(diagnosis.folder), finding.changes)
    text = strict_json.dumps(options, indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise ValueError(cannot_write(folder, error)) from None
    return path


def changed(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with changes, without those that no longer have an effect."""
    result = {**options, **changes}
    if result.get("penalty", "none") == "none":
        result |= {"penalty_weight": None, "penalty_end": None, "penalty_steps": None}
    if result.get("schedule", "constant") == "constant":
        result["schedule_steps"] = None
    return result
