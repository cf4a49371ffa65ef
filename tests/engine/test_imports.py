"""What may import what: kernels know nothing of tensors, and there is one circle of imports."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minigan
from minigan import kernels

PACKAGE = Path(minigan.__file__).parent
KERNELS = Path(kernels.__file__).parent
CHECKOUT = Path(__file__).parents[2]

# Importing one of these takes long or fails without a GPU, so devices import them on first use.
BACKENDS = {"numba", "cupy"}
# Where they may be named: the two devices, and what measures kernels without a device.
MAY_NAME_BACKENDS = ("engine/cpu.py", "engine/cuda.py", "bench/")


def module_files(package: Path, kernel_folder: Path) -> dict[str, Path]:
    """Return the file of each module by its full name, `minigan.kernels.*` from its own folder."""
    files = {}
    for root, prefix in ((package, "minigan"), (kernel_folder, "minigan.kernels")):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join((prefix, *parts)).removesuffix(".__init__")
            if prefix == "minigan.kernels" or not name.startswith("minigan.kernels"):
                files[name] = path
    return files


def import_nodes(tree: ast.AST, deferred: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements that run: those within functions too if `deferred`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.orelse:
                yield from import_nodes(statement, deferred)
        elif deferred or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from import_nodes(node, deferred)


def imported_names(name: str, path: Path, deferred: bool) -> Iterator[str]:
    """Yield the full dotted name of everything that a module imports."""
    is_package = path.name == "__init__.py"
    for node in import_nodes(ast.parse(path.read_text("utf-8")), deferred):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        base = name.split(".")
        base = base[: len(base) - node.level + is_package] if node.level else []
        source = ".".join([*base, *filter(None, [node.module])])
        yield from (f"{source}.{alias.name}" for alias in node.names)


def import_graph(files: dict[str, Path], deferred: bool = False) -> dict[str, set[str]]:
    """Return the modules that each module imports when it is imported itself.

    Importing a.b.c runs a and a.b too. Packages that hold the importing module are left out: they
    are running already. With `deferred`, imports within functions count as well.
    """
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        graph[name] = set()
        for target in imported_names(name, path, deferred):
            parts = target.split(".")
            for end in range(1, len(parts) + 1):
                module = ".".join(parts[:end])
                if module in files and not f"{name}.".startswith(f"{module}."):
                    graph[name].add(module)
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected components of more than one module."""

    def reachable(start: str) -> set[str]:
        visited: set[str] = set()
        stack = [start]
        while stack:
            for target in graph[stack.pop()] - visited:
                visited.add(target)
                stack.append(target)
        return visited

    reach = {name: reachable(name) for name in graph}
    components = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in graph
    }
    return [set(component) for component in components if len(component) > 1]


# ----------------------------------------------------------------------------------- who imports
def test_kernels_import_nothing_of_minigan() -> None:
    """Not by a full name, not by a relative one, and not within a function."""
    checked = 0
    for name, path in module_files(PACKAGE, KERNELS).items():
        if name.startswith("minigan.kernels"):
            checked += 1
            for target in imported_names(name, path, deferred=True):
                outside = target.startswith("minigan") and not target.startswith("minigan.kernels")
                assert not outside, f"{name} imports {target}"
    assert checked > 20


def test_the_only_circle_is_that_of_tensors_and_ops() -> None:
    """The operators of a tensor are ops, and an op takes tensors (see the end of tensor.py)."""
    (circle,) = circles(import_graph(module_files(PACKAGE, KERNELS)))
    engine = {f"minigan.engine.{name}" for name in ("tensor", "op", "update")}
    assert {*engine, "minigan.ops"} <= circle
    rest = circle - engine
    assert all(name.startswith("minigan.ops") for name in rest), circle


def test_a_circle_is_found(tmp_path: Path) -> None:
    """Planted: two modules that import each other, one by a relative and one by a full name."""
    sources = {
        "a.py": "from .folder import b",
        "folder/__init__.py": "",
        "folder/b.py": "import minigan.c",
        "c.py": "if True:\n    from .a import x",
        "alone.py": "def late():\n    from . import a",
    }
    for file, text in sources.items():
        path = tmp_path / "minigan" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    files = module_files(tmp_path / "minigan", tmp_path / "none")
    assert circles(import_graph(files)) == [{"minigan.a", "minigan.folder.b", "minigan.c"}]


def test_nothing_above_a_device_names_numba_or_cupy() -> None:
    checked = 0
    for name, path in module_files(PACKAGE, KERNELS).items():
        file = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else KERNELS).as_posix()
        if not name.startswith("minigan.kernels") and not file.startswith(MAY_NAME_BACKENDS):
            checked += 1
            roots = {target.split(".")[0] for target in imported_names(name, path, deferred=True)}
            assert not BACKENDS & roots, f"{file} imports {BACKENDS & roots}"
    assert checked > 40


# -------------------------------------------------------------------------------- one package
def test_the_package_is_not_found_within_itself() -> None:
    """A second copy of the modules would have a registry of ops of its own."""
    with pytest.raises(ModuleNotFoundError, match=r"minigan\.minigan"):
        importlib.import_module("minigan.minigan")


@pytest.mark.parametrize("statement", ["import minigan", "import minigan.engine.tensor"])
def test_a_checkout_that_is_not_installed_says_what_to_do(tmp_path: Path, statement: str) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(PACKAGE, tmp_path / "minigan", ignore=ignored)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", statement],  # -S: without what is installed
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: minigan ")
    assert "pip install -e ." in last_line


def test_kernels_of_another_checkout_are_refused(tmp_path: Path) -> None:
    """An editable install of one checkout, seen from the folder of a second one."""
    shutil.copytree(
        PACKAGE, tmp_path / "minigan", ignore=shutil.ignore_patterns("__pycache__", "kernels")
    )
    program = f"""
import importlib.util, sys
import pathlib

class EditableFinder:
    def find_spec(name, path=None, target=None):
        if name == "minigan.kernels":
            file = pathlib.Path({str(KERNELS)!r}) / "__init__.py"
            return importlib.util.spec_from_file_location(name, file)

sys.meta_path.append(EditableFinder)
import minigan
"""
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith(f"ImportError: minigan is imported from {tmp_path}")
    assert str(KERNELS) in last_line
