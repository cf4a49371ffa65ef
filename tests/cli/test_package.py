"""What is installed is the whole of minigan, and nothing but it: kernels, notes, no framework."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import minigan
from minigan import kernels

PACKAGE = Path(minigan.__file__).parent
INSTALLED_KERNELS = Path(kernels.__file__).parent
CHECKOUT = Path(__file__).parents[2]
SOURCES = (".py", ".md", ".cu", ".h", ".json", ".css", ".js")


def test_every_kernel_file_of_the_checkout_is_installed():
    def files(folder):
        found = (p.relative_to(folder) for p in folder.rglob("*") if p.suffix in SOURCES)
        return sorted(map(str, found))

    assert files(CHECKOUT / "kernels") == files(INSTALLED_KERNELS)


def test_every_module_of_the_checkout_is_installed():
    for path in (CHECKOUT / "minigan").rglob("*"):
        if path.suffix == ".py" or path.name == "py.typed":
            assert (PACKAGE / path.relative_to(CHECKOUT / "minigan")).is_file(), path


def test_every_room_has_kernels_and_a_readme():
    for family in INSTALLED_KERNELS.iterdir():
        if family.is_dir() and family.name not in ("runtime", "__pycache__"):
            files = ["cpu.py", "README.md"]
            if hasattr(import_module(f"minigan.kernels.{family.name}.cpu"), "KERNELS"):  # of ops
                files += ["cuda.py", "cuda.cu"]
            for file in files:
                assert (family / file).is_file(), f"{family.name} has no {file}"


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def test_no_framework_is_imported_outside_the_peers():
    frameworks = {"torch", "jax", "tensorflow", "keras", "scipy"}
    for folder in (PACKAGE, INSTALLED_KERNELS):
        for path in folder.rglob("*.py"):
            if "peers" not in path.parts:
                assert not frameworks & set(_imports(path)), path


def test_importing_minigan_imports_nothing_slow():
    code = "import minigan, sys; print({*sys.modules} & {'numba', 'matplotlib', 'torch', *SLOW})"
    _assert_prints_nothing(code)


def test_the_doctor_is_imported_when_it_is_first_used():
    code = "import minigan, sys; early = 'minigan.doctor' in sys.modules\n"
    code += "assert 'doctor' in dir(minigan) and not early and callable(minigan.doctor.diagnose)\n"
    _assert_prints_nothing(code + "print(set())")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"]])
def test_help_imports_nothing_slow(words):
    code = f"import sys; sys.argv = ['minigan', *{words}]\nfrom minigan.cli import main\n"
    code += "from contextlib import redirect_stdout; import io\ntry:\n"
    code += "    with redirect_stdout(io.StringIO()): main()\nexcept SystemExit: pass\n"
    _assert_prints_nothing(code + "print({*sys.modules} & {'numba', 'matplotlib', *SLOW})")


def _assert_prints_nothing(code):
    code = "SLOW = ['tqdm', 'PIL', 'yaml', 'shtab', 'minigan.training.saved_run']\n" + code
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd="/", stdout=subprocess.PIPE)
    assert done.stdout == b"set()\n"
