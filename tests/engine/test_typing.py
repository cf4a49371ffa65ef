"""The types of the public names: a user's script passes `mypy --strict`, and mistakes are found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minigan as mg

SCRIPT = Path(__file__).parents[1] / "typed_user_script.py"
WRONG = """
import minigan as mg
from minigan import nn

net = nn.Sequential(nn.Dense(2, 1))
x = mg.zeros((2, 2))
x.sum(dim=0)
x.summ()
net(x).backward()
mg.optim.Adam(net)
mg.randn(2)
n: int = mg.grad(x.sum(), [x])[0]


@mg.capture
def step(real: mg.Tensor) -> mg.Tensor:
    return real


step(1.0)
"""
LINES = [7, 8, 9, 10, 11, 12, 20]  # of WRONG, each with a mistake


def test_the_script_runs(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("2.500 [[1.0, 2.0], [3.0, 4.0]] 4.0 Sequential(")


@pytest.mark.slow
def test_mypy_finds_nothing_in_the_script_and_each_mistake_in_another(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: types are not checked")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    root = Path(mg.__file__).parents[1]
    environment = {**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    if not (root / "numpy").exists():  # a checkout, not the site-packages of an environment
        environment["MYPYPATH"] = str(root)
    options = ["--strict", "--follow-imports=silent", "--config-file=", "--no-error-summary"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(SCRIPT), str(wrong)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^(.*):(\d+): error", result.stdout, re.MULTILINE)
    assert [path for path, _ in found if SCRIPT.name in path] == [], result.stdout
    assert [int(line) for _, line in found] == LINES, result.stdout + result.stderr
