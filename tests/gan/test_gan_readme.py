"""The README of the GAN methods: its program runs, its links and options exist."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import minigan
from minigan import Config, losses
from minigan.gan.losses import LOSSES
from minigan.gan.penalties import PENALTIES

README = Path(__file__).parents[2] / "minigan" / "gan" / "README.md"
TEXT = README.read_text()


def test_the_program_runs():
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/"
    )
    assert np.isfinite([float(x) for x in done.stdout.split()]).all()
    assert len(done.stdout.split()) == 2


def test_every_relative_link_leads_to_a_file():
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (README.parent / target).exists(), target


def test_every_option_is_one():
    fields = Config().as_dict()
    options = set(re.findall(r"(?<!-)--([a-z][a-z-]*)", TEXT)) - {"help", "label", "preset"}
    assert {name.replace("-", "_") for name in options} <= fields.keys()


def test_every_loss_and_penalty_is_in_a_table():
    methods = TEXT.partition("## Measured quality")[0]
    rows = [line.split("|") for line in methods.splitlines() if line.startswith("| ")]
    tables = {row[1].strip(): row[2].strip(" `") for row in rows}
    for name in losses.register.built_in:  # other tests register losses of their own
        assert tables[name] == LOSSES[name].__name__
    for name in PENALTIES:
        assert hasattr(losses, tables[name].partition("(")[0])
    assert minigan.losses is losses
