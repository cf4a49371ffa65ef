"""The READMEs are true: their programs print what they say, and their commands and links exist."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

from minigan.kernels.elementwise import cuda as elementwise_cuda
from minigan.kernels.runtime.cuda.launcher import strided_layout
from minigan.kernels.runtime.emulator.emulator import Emulator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "minigan" / "README.md").read_text()
PAGES = sorted(
    path
    for pattern in ("README.md", "*/README.md", "*/*/README.md")
    for path in ROOT.glob(pattern)
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


def _blocks(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _program() -> str:
    blocks = [block for block in _blocks(README) if "import minigan" in block]
    (program,) = [block for block in blocks if "__global__" not in block]
    return program


def _run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout


def _quality(line: str) -> list[float]:
    return [float(x) for x in re.findall(r"=([-+.\de]+)", line)]


@pytest.mark.slow
def test_the_program_prints_what_the_readme_says() -> None:
    program = _program()
    modes, high_quality, reverse_kl, kl = _quality(_run(program))
    (printed,) = [line for line in program.splitlines() if line.startswith("# MixtureQuality")]
    # On another processor the last bits, and after so many steps the last digits, may differ.
    assert modes == _quality(printed)[0] == 8
    assert abs(high_quality - _quality(printed)[1]) < 0.02
    assert abs(reverse_kl - _quality(printed)[2]) < 0.1
    assert abs(kl - _quality(printed)[3]) < 0.1
    assert f"{_quality(printed)[1]:.0%}".replace("%", " %") in README


def test_the_program_runs() -> None:
    program, count = re.subn(r"range\(20000\)", "range(30)", _program())
    assert count == 1
    assert _run(program).startswith("MixtureQuality(")


@needs_compiler
def test_the_kernel_of_the_readme_passes_and_its_race_is_found() -> None:
    """What it prints, and the error with which it ends, are those of its comments."""
    (program,) = [block for block in _blocks(README) if "__global__" in block]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    passes, *error = re.findall(r"^# (.*)$", program, re.MULTILINE)
    assert done.stdout.strip() == passes
    assert " ".join(error) in done.stderr.replace("minigan.engine.check.", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#:]+)\)|(?:src|href)=\"([^\"#:]+)\"", text)
    for target in (a or b for a, b in links):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one(page: Path) -> None:
    from minigan.cli.commands import build_parser

    for line in re.findall(r"^    (minigan .*)$", page.read_text(), re.MULTILINE):
        for command in re.split("#|>", line)[0].split("&&"):
            program, *words = command.split()
            assert program == "minigan"
            build_parser().parse_args(words)


def test_every_path_in_the_readmes_exists() -> None:
    """Names of files between backquotes, as seen from the root or beside the page."""
    for page in (ROOT / "README.md", ROOT / "minigan" / "README.md"):
        for name in re.findall(r"`([\w./-]+/[\w./-]*\w\.(?:py|cu|h|md))`", page.read_text()):
            exists = (ROOT / name).exists() or (page.parent / name).exists()
            assert exists or "NN_" in name, name


def test_the_path_of_tanh_is_as_the_readme_draws_it() -> None:
    sources = {
        "minigan/ops/elementwise.py": ("np.tanh, (lambda g, y, x: tanh_grad(g, y),)",),
        "kernels/elementwise/cpu.py": ('"tanh": "x -> tanh(x)"',),
        "kernels/elementwise/cuda.cu": ("FUNCTION(tanh_, tanh(a))",),
    }
    for name, lines in sources.items():
        assert name in README
        for line in lines:
            assert line in (ROOT / name).read_text()
    for line in ('"tanh": "x -> tanh(x)"', "FUNCTION(tanh_, tanh(a))", "tanh_grad(g, y)"):
        assert line in README


def test_the_op_of_the_contributing_section_works() -> None:
    """The recipe in a process of its own: the op, its gradient check, and the cpu kernel."""
    op, kernel = (block for block in _blocks(CONTRIBUTING) if "sin" in block)
    name, expression = re.findall(r'"(sin)": "(.*)"', kernel)[0]
    _run(
        f"""
import numpy as np
import minigan as mg
from minigan.engine.check import check_op
from minigan.kernels.elementwise import cpu as kernels
from minigan.ops import elementwise
kernels.EXPRESSIONS[{name!r}] = {expression!r}
kernels.KERNELS[{name!r}] = kernels.partial(kernels.elementwise, {name!r})
exec({op!r}, vars(elementwise))
for device in ("reference", "cpu"):
    for op in (elementwise.sin, elementwise.cos):
        result = check_op(op, device)
        assert result.samples and not result.failure, result
x = mg.tensor([0.5, 1.0])
assert abs(elementwise.sin(x).numpy() - np.sin([0.5, 1.0])).max() < 1e-7
assert mg.get_device("cpu").kernel_kind("sin") != "numpy"
"""
    )


@needs_compiler
def test_the_cuda_kernel_of_the_contributing_section_works(tmp_path: Path) -> None:
    """Its lines, added to those that are there."""
    (added,) = re.findall(r"```cuda\n(FUNCTION.*?)\n```", CONTRIBUTING, re.DOTALL)
    source = tmp_path / "elementwise" / "cuda.cu"
    source.parent.mkdir()
    lines = elementwise_cuda.SOURCE.read_text().rstrip().splitlines()
    source.write_text("\n".join([*lines[:-1], added, lines[-1], ""]))
    gpu, x = Emulator(checked=True), np.linspace(-3, 3, 77)
    y = gpu.empty(x.shape, x.dtype)
    layout = strided_layout(x.shape, ((1,), (1,), (0,), (0,)))
    zero = np.float64(0)
    numbers = [zero, None, zero, None, zero, zero, zero, layout]
    for kernel, reference in (("sin_", np.sin), ("cos_", np.cos)):
        gpu.launch(source, kernel, x.dtype, (1,), (256,), [y, gpu.from_numpy(x), *numbers])
        assert np.allclose(y, reference(x), rtol=1e-15)
