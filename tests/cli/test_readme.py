"""The README is true: its program runs and prints what it says, its commands and links exist."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

import minigan as mg
from minigan import nn
from minigan.gan.augment import diff_augment
from minigan.kernels.elementwise import cuda as room
from minigan.kernels.runtime.cuda.launcher import strided_layout
from minigan.kernels.runtime.emulator.emulator import Emulator

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text()


def _python_blocks():
    return re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture(scope="module")
def printed():
    (program,) = [block for block in _python_blocks() if "import minigan" in block]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    return program, done.stdout


def _quality(line):
    return [float(x) for x in re.findall(r"=([-+.\de]+)", line)]


def test_the_program_prints_what_the_readme_says(printed):
    program, output = printed
    modes, high_quality, reverse_kl, kl = _quality(output)
    (promised,) = [line for line in program.splitlines() if line.startswith("# MixtureQuality")]
    # On another processor the last bits, and after 3,000 steps the last digits, may be others.
    assert modes == _quality(promised)[0] == 8
    assert abs(high_quality - _quality(promised)[1]) < 0.1
    assert abs(reverse_kl - _quality(promised)[2]) < 0.15
    assert abs(kl - _quality(promised)[3]) < 0.3


def test_the_turn_of_many_methods_runs():
    (turn,) = [block for block in _python_blocks() if "MinibatchStdDev" in block]
    n = 8
    generator = nn.Sequential(nn.Dense(4, 64), nn.Reshape(1, 8, 8))
    given = {"mg": mg, "nn": nn, "diff_augment": diff_augment, "n": n, "G": generator}
    given["features"] = nn.Sequential(nn.Flatten(), nn.Dense(64, n), nn.ReLU())
    given |= {"real": mg.random.normal((4, 1, 8, 8)), "z": mg.random.normal((4, 4))}
    first, rest = turn.split("\n", 1)
    exec(first, given)
    given |= {f"opt_{k}": mg.optim.SGD(given[k.upper()].parameters(), 0.1) for k in "dg"}
    before = {k: given[k].state_dict() for k in "DG"}
    exec(rest, given)
    assert np.isfinite(given["loss_d"].item())
    for k, old in before.items():
        assert any(not np.array_equal(x, old[name]) for name, x in given[k].state_dict().items())


def test_every_relative_link_leads_to_a_file():
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (README.parent / target).exists(), target


def test_every_command_is_one():
    from minigan.cli.commands import build_parser

    for line in re.findall(r"^    minigan (.*)$", TEXT, re.M):
        words = line.split("#")[0].split()
        build_parser().parse_args(words)


def test_the_new_op_of_the_readme_works_as_it_says():
    """The recipe, in a process of its own: the op, its gradient check, and the fast kernel."""
    op, kernel = (block for block in _python_blocks() if "sin" in block)
    name, expression = re.findall(r'"(sin)": "(.*)"', kernel)[0]
    program = f"""
import numpy as np
import minigan as mg
from minigan.check import check_op
from minigan.kernels.elementwise import cpu as room
from minigan.ops import elementwise
room.EXPRESSIONS[{name!r}] = {expression!r}
room.KERNELS[{name!r}] = room.partial(room.elementwise, {name!r})
exec({op!r}, vars(elementwise))
for device in ("reference", "cpu"):
    for op in (elementwise.sin, elementwise.cos):
        result = check_op(op, device)
        assert result.samples and not result.failure, result
x = mg.tensor([0.5, 1.0])
assert abs(elementwise.sin(x).numpy() - np.sin([0.5, 1.0])).max() < 1e-7
assert mg.get_device("cpu").kernel_kind("sin") != "numpy"
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/")


@needs_compiler
def test_the_new_ops_cuda_kernel_works_as_the_readme_says(tmp_path):
    """Its line, behind those that are there."""
    (added,) = re.findall(r"```cuda\n(FUNCTION.*?)\n```", TEXT, re.DOTALL)
    source = tmp_path / "elementwise" / "cuda.cu"
    source.parent.mkdir()
    lines = room.SOURCE.read_text().rstrip().splitlines()
    source.write_text("\n".join([*lines[:-1], added, lines[-1], ""]))
    gpu, x = Emulator(checked=True), np.linspace(-3, 3, 77)
    y = gpu.empty(x.shape, x.dtype)
    path = strided_layout(x.shape, ((1,), (1,), (0,), (0,)))
    zero = np.float64(0)
    numbers = [zero, None, zero, None, zero, zero, zero, path]
    for kernel, reference in (("sin_", np.sin), ("cos_", np.cos)):
        gpu.launch(source, kernel, x.dtype, (1,), (256,), [y, gpu.from_numpy(x), *numbers])
        assert np.allclose(y, reference(x), rtol=1e-15)
