"""The command line: help that a newcomer can act on, and what each command prints and leaves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_helpers import ENVIRONMENT, RING, cli, files, refused, run, start, train

import minigan as mg
from minigan.engine.op import Op
from minigan.engine.update import Update
from minigan.kernels.runtime.cpu import compiler as runtime
from minigan.training.resume import load_trainer
from minigan.utils.progress import announce_kernels

COMMANDS = [
    "train",
    "sample",
    "film",
    "evaluate",
    "doctor",
    "report",
    "export",
    "check",
    "reproduce",
]
COMMANDS += ["bench", "info", "presets"]


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "ring"
    train(folder, *RING, "--steps", 3)
    return folder


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "glyphs"
    train(folder, "--data", "glyphs", "--samples", 80, "--batch", 16, "--steps", 1)
    return folder


# ------------------------------------------------------------------------------------------- help
def test_without_a_command_there_is_help():
    result = cli()
    assert result.status == 0
    assert result.out == cli("--help").out
    for name in COMMANDS:
        assert re.search(rf"^ +{name} +\w+", result.out, re.MULTILINE)
    assert "Start with `minigan train`" in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = cli(name, "--help")
    assert (result.status, result.errors) == (0, [])
    assert result.out.startswith(f"usage: minigan {name}")
    options = re.findall(r"^  (?:-h, )?(--[\w-]+|[A-Z]+)", result.out, re.MULTILINE)
    assert "--help" in options
    for option in options:  # each has a line of help
        assert re.search(rf"{option}( [A-Z]+|, --no-[\w-]+)?\s+[\w.]", result.out)


def test_train_says_what_is_accepted_and_what_is_the_default():
    text = " ".join(cli("train", "--help").out.split())
    for words in (
        "glyphs, glyphs-sans, glyphs-serif, textures, ring, grid, swiss-roll (made here)",
        "[0.0002]",
        "[12000]",
        "normal, uniform, laplace or",
    ):
        assert words in text


def test_it_is_a_module_too(tmp_path):
    result = run("presets", cwd=tmp_path)
    assert (result.status, result.errors, result.out) == (0, [], cli("presets").out)


# ------------------------------------------------------------------------------- info and presets
def test_info_shows_versions_the_machine_and_what_runs_where():
    result = cli("info")
    assert (result.status, result.errors) == (0, [])
    assert f"Python {sys.version.split()[0]}, numpy {np.__version__}" in result.out
    assert re.search(r"^processor +\S.*\d+ cores$", result.out, re.MULTILINE)
    for line in (
        r"cpu +numba, \d+-bit vectors, \d+ threads",
        "cuda +(gpu|not here: )",
        "cuda-emulator +",
    ):
        assert re.search(f"^{line}", result.out, re.MULTILINE)
    for name in [*Op.registry, *Update.registry]:
        assert re.search(rf"^{name} +numpy +(numba|numpy).* CUDA$", result.out, re.MULTILINE)


# ------------------------------------------------------------------------------------------ check
def test_check_of_one_op():
    result = cli("check", "--op", "tanh")
    assert (result.status, result.errors) == (0, [])
    head, row, last = result.out.splitlines()
    assert head.startswith("op ")
    assert "order 1     order 2" in head
    name, samples, first, second = row.split()
    assert (name, samples, last) == ("tanh", "1", "1 ops pass, 0 fail")
    assert 0 < float(first) <= 1
    assert 0 < float(second) <= 1


def test_check_of_higher_orders_on_another_device():
    result = cli("check", "--op", "tanh", "--order", 3, "--device", "reference")
    assert result.status == 0
    assert len(result.out.splitlines()[1].split()) == 5


def test_check_finds_a_wrong_gradient(make_op):
    def uniform(rng):
        return rng.uniform(1, 2, (3,))

    uniform.smooth = True
    make_op("wrong", np.sin, vjps=(lambda g, y, x: g * 0.996,), samples=[(uniform,)])
    result = cli("check", "--op", "wrong", "--device", "reference")
    assert result.status == 1
    assert "FAIL: wrong, order 1: the VJPs say" in result.out
    assert result.out.endswith("0 ops pass, 1 fail\n")


# ----------------------------------------------------------------------------------------- sample
def test_sample_draws_a_picture(ring, glyphs, tmp_path):
    result = cli("sample", glyphs, "--n", 10)
    assert (result.status, result.errors) == (0, [])
    path = glyphs / "sample_step_000001_seed_0_n_10.png"
    assert result.out == f"{path}\n"
    assert Image.open(path).size == (2 * (4 * 29 + 1), 2 * (3 * 29 + 1))
    assert cli("sample", ring, "--seed", 3, "--out", tmp_path / "a.png").status == 0
    assert np.asarray(Image.open(tmp_path / "a.png")).std() > 5


def test_sample_writes_arrays_that_depend_on_the_seed(glyphs, tmp_path):
    def drawn(name, *words):
        assert cli("sample", glyphs, "--out", tmp_path / name, *words).status == 0
        return np.load(tmp_path / name)["samples"]

    first = drawn("a.npz", "--n", 5)
    assert (first.shape, first.dtype) == ((5, 1, 28, 28), np.float32)
    assert np.abs(first).max() <= 1
    assert np.array_equal(first, drawn("b.npz", "--n", 5))
    assert not np.array_equal(first, drawn("c.npz", "--n", 5, "--seed", 1))
    assert np.array_equal(first, load_trainer(glyphs).sample(5, seed=0))


def test_sample_overwrites_no_file_of_a_training_or_of_its_data(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((20, 2)))
    words = ["--batch", 4, "--steps", 1, "--device", "reference"]
    train(tmp_path / "run", "--data", tmp_path / "data.npz", *words)
    before = files(tmp_path / "run")
    for name in ("losses.png", "reals.png", "samples/step_000001.png", "samples/new.png"):
        complaint = refused("sample", tmp_path / "run", "--out", tmp_path / "run" / name)
        assert f"{name}: is a file of a training; another name is needed" in complaint
    complaint = refused("sample", tmp_path / "run", "--out", tmp_path / "data.npz")
    assert "data.npz: is in the data of this run" in complaint
    assert files(tmp_path / "run") == before
    assert len(np.load(tmp_path / "data.npz")["x"]) == 20
    for name in ("run/s.png", "s.png", "s.npz"):
        assert cli("sample", tmp_path / "run", "--out", tmp_path / name).status == 0


def test_sample_adds_no_picture_to_its_data(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "a").mkdir(parents=True)
    for i in range(8):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "a" / f"{i}.png")
    words = ["--data", tmp_path / "data", "--batch", 2, "--steps", 1, "--device", "reference"]
    train(tmp_path / "data" / "run", *words)
    complaint = refused("sample", tmp_path / "data/run", "--out", tmp_path / "data/a/s.png")
    assert "s.png: is in the data of this run" in complaint
    assert cli("sample", tmp_path / "data" / "run").status == 0


def test_a_folder_that_is_no_run_is_called_so(tmp_path):
    assert f"{tmp_path / 'none'} is not a run" in refused("sample", tmp_path / "none")


def test_sample_changes_nothing_in_a_run(ring, tmp_path):
    before = files(ring)
    assert cli("sample", ring, "--out", tmp_path / "a.npz").status == 0
    assert files(ring) == before


# ------------------------------------------------------------------------------- streams and paths
@pytest.mark.parametrize("words", ["info", "presets", "train --help"])
def test_a_reader_may_leave_early(words):
    process = start(*words.split())
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(60), error) == (0, "")


def test_head(tmp_path):
    done = subprocess.run(
        f"set -o pipefail; {sys.executable} -m minigan info | head -1",
        shell=True,
        executable="/bin/bash",
        env=ENVIRONMENT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("minigan ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_behind_stdout_is_an_error():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "minigan", "presets"]
        done = subprocess.run(
            command, env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "minigan presets: error: [Errno 28] No space left on device\n"


def test_closed_streams(tmp_path):
    command = f"{sys.executable} -m minigan presets >&- 2>&-"
    assert subprocess.run(command, shell=True, env=ENVIRONMENT, check=False).returncode == 0


NAMES = ["with space", "数字 é", "new\nline", os.fsdecode(b"not \xff utf-8")]


@pytest.mark.parametrize("name", NAMES)
def test_folders_of_any_name(tmp_path, name):
    folder = tmp_path / name
    train(folder, *RING, "--steps", 1)
    assert cli("train", "--resume", folder, "--steps", 2).status == 0
    assert cli("sample", folder, "--n", 2, "--out", folder / "s.npz").status == 0
    assert mg.load(folder / "checkpoint.safetensors")[1]["step"] == 2


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_any_name_is_printed_as_it_is(ring, tmp_path, locale):
    folder = tmp_path / NAMES[-1]
    os.symlink(ring, folder)
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = folder / "é.npz"
    result = run("sample", folder, "--n", "2", "--out", out, **environment)
    assert (result.status, result.errors, result.out) == (0, [], f"{out}\n")
    out.unlink()


def test_data_of_any_name(tmp_path, rng):
    path = tmp_path / os.fsdecode(b"my \xff points.npz")
    with path.open("wb") as file:
        np.savez(file, x=rng.standard_normal((90, 2)))
    train(tmp_path / "run", "--data", path, "--steps", 1)
    assert cli("train", "--resume", tmp_path / "run", "--steps", 2).status == 0


# -------------------------------------------------------------------------------- kernels compiled
def test_compilation_is_told_in_whole_lines_and_not_too_many(capsys):
    before = runtime.compile_listener
    try:
        announce_kernels("cpu")
        for name in ("first", "second", "third"):
            runtime.compile_listener(name)
    finally:
        runtime.compile_listener = before
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "compiling kernels for this machine, once: first\n"


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    environment = {"MINIGAN_CACHE": str(tmp_path / "file" / "cache")}
    result = run("check", "--op", "negative", "--order", "1", **environment)
    assert result.status == 0
    assert "\n".join(result.errors).count("compiled kernels cannot be cached in") == 1
    assert "1 ops pass" in result.out
    assert "none can be written" in run("info", **environment).out
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_user_without_a_home(tmp_path):
    environment = {"HOME": "", "XDG_CACHE_HOME": "", "MINIGAN_CACHE": ""}
    code = (
        "import os, pwd, sys; del os.environ['HOME']; pwd.getpwuid = lambda uid: {}[uid];"
        " sys.argv = ['minigan', 'info']; from minigan.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert done.stderr.count("compiled kernels cannot be cached (there is no home") == 1
    assert "none: there is no home to keep a cache in; MINIGAN_CACHE can name" in done.stdout


def test_nothing_is_written_into_the_cwd_but_runs(tmp_path):
    result = run("train", *RING, "--steps", "1", cwd=tmp_path)
    assert result.status == 0
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    assert Path(tmp_path / "runs" / "001-ring-toy" / "losses.png").exists()
