"""`minigan check FILE.py` and `minigan bench --op`: ops of one's own, found without a list."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigan as mg
from minigan.cli.commands import main
from minigan.engine.op import Op
from minigan.ops.samples import uniform

TEXT = """
import numpy as np
import minigan as mg
from minigan.ops.samples import uniform

doubled = mg.Op("doubled", lambda x: x + x, (lambda g, y, x: g * {factor},), [(uniform(3, 4),)])
halved = mg.Op("halved", lambda x: x / 2, (lambda g, y, x: g / 2.0,), [(uniform(3, 4),)])


@halved.kernel("cpu")
def halve(out, x):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] / 2


if __name__ == "__main__":
    raise SystemExit("`minigan check` imports the file, and does not run it as a program")
"""


@pytest.fixture
def file(tmp_path: Path, make_op: Callable[..., Op]) -> Path:
    path = tmp_path / "own_ops.py"
    path.write_text(TEXT.format(factor="2.0"))
    return path


def test_check_of_a_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "doubled passes: 1 sample and 6 other sizes; no kernel; gradients up to order 2",
        "halved passes: 1 sample and 6 other sizes; kernels on cpu; gradients up to order 2",
        "2 ops pass, 0 fail",
    ]


def test_check_of_one_op_of_a_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(TEXT.format(factor="3.0"))
    assert main(["check", f"{file}:halved"]) == 0
    for name in del_own():
        assert name in ("doubled", "halved")
    assert main(["check", str(file), "--op", "doubled"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith("doubled FAILS: doubled, order 1: the VJPs say")
    assert out[-1] == "0 ops pass, 1 fail"


def del_own() -> list[str]:
    """Remove the ops of the file from the registry; return their names."""
    names = [name for name in Op.registry if name not in Op.library]
    for name in names:
        del Op.registry[name]
    return names


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            "absent.py",
            "absent.py: there is no Python file of that name; FILE.py or FILE.py:OP is needed",
        ),
        ("{file}:halfed", "unknown op 'halfed'; did you mean 'halved'?"),
        ("{folder}", "there is no Python file of that name"),
    ],
)
def test_a_target_that_is_none(
    file: Path, target: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", target.format(file=file, folder=file.parent)]) == 2
    assert says in capsys.readouterr().err


def test_a_file_without_ops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.py").write_text("")
    assert main(["check", str(tmp_path / "empty.py")]) == 2
    assert "empty.py makes no op: mg.Op(...) or" in capsys.readouterr().err


def test_bench_of_any_op(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--op", f"{file}:halved", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "halved((887, 1182)), float32; median and quartiles of 1 rounds"
    assert [line.split()[0] for line in lines[1:]] == ["contender", "numpy", "cpu"]
    assert main(["bench", "--op", "no_such_op"]) == 2
    assert "unknown op 'no_such_op'" in capsys.readouterr().err
    assert main(["bench", "matmul", "--op", "tanh"]) == 2
    assert "--op times one op; it does not go with names" in capsys.readouterr().err


def test_the_ops_of_the_readme(make_op: Callable[..., Op]) -> None:
    """Its elementwise op passes the check."""
    text = (Path(__file__).parents[2] / "minigan" / "README.md").read_text()
    (block,) = [x for x in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "swish" in x]
    namespace: dict[str, Any] = {"mg": mg, "np": np, "uniform": uniform}
    exec(block, namespace)
    assert mg.check(namespace["swish"], ["cpu"]).devices == ("cpu",)
    assert abs(namespace["swish"](mg.tensor([1.0])).item() - 1 / (1 + np.exp(-1))) < 1e-6
