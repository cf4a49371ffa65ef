"""What a tool has: --version, --config, --threads, completion, suggestions, and a quiet Ctrl-C."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import numba
import numpy as np
import pytest
from run_helpers import ENVIRONMENT, cli, metrics, refused, run, train

import minigan as mg
from minigan.bench.harness import write_result
from minigan.utils import strict_json
from minigan.utils.names import choose

ROOT = Path(__file__).parents[2]
RING = ["--data", "ring", "--samples", 100, "--batch", 8, "--steps", 2, "--device", "reference"]


# ------------------------------------------------------------------------------------------ version
def test_the_version_has_one_source():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert mg.__version__ == version("minigan") == declared
    assert (cli("--version").status, cli("--version").out) == (0, f"minigan {declared}\n")
    assert {"__version__", "train", "load_run", "SavedRun"} <= set(dir(mg))
    assert (ROOT / "CHANGELOG.md").read_text().startswith("# Changes")


def test_an_attribute_that_is_not_there_is_an_error():
    with pytest.raises(AttributeError, match="module 'minigan' has no attribute 'trian'"):
        _ = mg.trian  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------- config
def test_a_config_file_sets_options_and_the_command_line_wins(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "data: ring\nsamples: 100\nsteps: 2\ndevice: reference\nlr: 2e-4\nlr-d: 1.0e-3\n"
        "loss: relativistic\npenalty: [r1, r2]\nstandardize: yes\n"
    )
    train(tmp_path / "run", "--config", tmp_path / "a.yaml", "--batch", 8, "--steps", 1)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    names = ("lr_g", "lr_d", "penalty", "standardize", "batch", "steps")
    assert [config[name] for name in names] == [2e-4, 1e-3, "r1+r2", True, 8, 1]


def test_the_config_of_a_run_makes_the_same_run(tmp_path):
    train(tmp_path / "a", *RING, "--lr", 1e-3, "--ema", 0.9)
    train(tmp_path / "b", "--config", tmp_path / "a" / "config.json")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    first, second = ((tmp_path / x / "config.json").read_text() for x in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lossz: hinge", "a.yaml: unknown option 'lossz'; did you mean 'loss'? (the nearest of "),
        ("loss: hinge\nloss: minimax", "a.yaml cannot be read: the name 'loss' occurs twice"),
        ("lr-d: 1.0e-3\nlr_d: 2.0e-3", "a.yaml: lr_d is set twice"),
        ("steps: many", "steps = 'many' is not a positive integer"),
        ("batch: 8.5", "batch = 8.5 is not a positive integer"),
        ("a: [", "a.yaml cannot be read: while parsing"),
        ("- steps", "a.yaml holds list, not options by name"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor for the tag"),
    ],
)
def test_a_config_file_is_checked(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    out = tmp_path / "run"
    assert message in refused("train", "--config", tmp_path / "a.yaml", "--out", out)
    assert not out.exists()


def test_a_config_file_does_not_go_with_everything(tmp_path):
    (tmp_path / "a.yaml").write_text("steps: 3")
    words = ["train", "--config", tmp_path / "a.yaml"]
    assert "--preset dcgan and --config" in refused(*words, "--preset", "dcgan")
    train(tmp_path / "run", *RING)
    assert "--out, --preset and --config do not go" in refused(*words, "--resume", tmp_path / "run")
    assert "there is no such file" in refused("train", "--config", tmp_path / "b.yaml")


# ------------------------------------------------------------------------------------------ threads
@pytest.mark.slow  # kernels are compiled for several threads
def test_threads_change_no_bits(tmp_path):
    words = [*map(str, RING[:-1]), "cpu", "--steps", "3", "--log-every", "1"]
    for count in ("1", "2"):
        result = run("train", *words, "--threads", count, "--out", tmp_path / count)
        assert result.status == 0, result
    assert metrics(tmp_path / "1") == metrics(tmp_path / "2")
    a, b = (mg.load(tmp_path / x / "checkpoint.safetensors")[0] for x in "12")
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_threads_are_those_of_the_kernels(monkeypatch):
    def show(options):
        print(numba.get_num_threads())
        return 0

    monkeypatch.setattr("minigan.cli.check.run", show)
    most = numba.config.NUMBA_NUM_THREADS
    for count in {1, most}:
        assert cli("check", "--threads", count).out == f"{count}\n"
    assert f"--threads {most + 1}: at most" in refused("check", "--threads", most + 1)
    assert "--threads 0 is not a number of threads" in refused("check", "--threads", 0)
    assert "--threads does not go with it" in refused("train", "--seeds", "0-1", "--threads", 1)


# --------------------------------------------------------------------------------------- completion
def test_bash_completes_commands_options_and_their_values(tmp_path):
    result = cli("--print-completion", "bash")
    assert result.status == 0
    (tmp_path / "minigan.sh").write_text(result.out)
    (tmp_path / "runs").mkdir()
    script = (
        'source minigan.sh; t() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=();'
        ' _shtab_minigan; echo "${COMPREPLY[@]}"; };'
        " t minigan ev; t minigan train --lo; t minigan train --loss hi;"
        " t minigan train --preset wgan; t minigan sample ru; t minigan train --optimizer ''"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "evaluate", "--loss --log-every", "hinge", "wgan wgan-gp", "runs", "adam adamw rmsprop sgd",
    ]  # fmt: skip


def test_completion_is_for_known_shells_and_may_be_cut_off():
    assert "_shtab_minigan" in cli("--print-completion", "zsh").out
    assert "invalid choice: 'fish'" in cli("--print-completion", "fish").errors[0]


# -------------------------------------------------------------------------------------- suggestions
def test_of_many_names_the_nearest_three_are_suggested():
    names = dict.fromkeys(["adam", "adamw", "adamax", *map(str, range(40))])
    with pytest.raises(ValueError, match="unknown optimizer") as error:
        choose("optimizer", "adamm", names)
    assert str(error.value) == (
        "unknown optimizer 'adamm'; did you mean 'adam'? (the nearest of 43: adam, adamw, adamax)"
    )


def test_of_few_names_all_are_listed():
    with pytest.raises(ValueError, match="unknown") as error:
        choose("thing", "x", dict.fromkeys("abc"), "a path")
    assert str(error.value) == "unknown thing 'x' (accepted: a, b, c, a path)"


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["train", "--preset", "dcgn"], r"21, which `minigan presets` lists: dcgan, cgan, acgan\)"),
        (["train", "--optimise", "x"], r"\d+: --optimizer, "),
        (["check", "--op", "tan"], r"\d+: tanh, transpose, tanh_grad\)"),
    ],
)
def test_the_command_suggests_three_names(words, nearest):
    result = cli(*words)
    assert result.status == 2
    (line,) = result.errors
    found = re.search(r"\(the nearest of (.*\))", line)
    assert found
    assert re.match(nearest, found[1]), line
    assert len(line) < 200


# --------------------------------------------------------------------------------------- interrupts
INTERRUPTED = """
import sys, time
sys.argv = [{argv!r}]

class Slow:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "minigan.nn":
            print("imports", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow)
import minigan
"""


@pytest.mark.parametrize("argv", ["/usr/bin/minigan", "program.py"])
def test_ctrl_c_during_the_imports_of_the_command_gives_no_traceback(argv):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(argv=argv)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"imports\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if argv == "program.py":  # a program of the user's own, which may catch it
        assert err.endswith(b"KeyboardInterrupt\n")
    else:
        assert (process.returncode, err) == (130, b"\nminigan: interrupted\n")


def test_ctrl_c_while_the_parser_is_made_gives_no_traceback(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("minigan.cli.commands.build_parser", interrupted)
    result = cli("train")
    assert (result.status, result.errors) == (130, ["", "minigan: interrupted"])


def test_minigan_as_a_module_is_the_command():
    code = (
        "import runpy, signal, sys; from unittest import mock\n"
        "sys.argv[0], sys.orig_argv = '-m', ['python', '-m', 'minigan']\n"
        "from minigan.utils import interrupts\n"
        "print(interrupts.is_command(), signal.getsignal(signal.SIGINT).__name__)\n"
        "interrupts.allow_interrupts(); print(signal.getsignal(signal.SIGINT).__name__)\n"
        "sys.orig_argv = ['python', '-m', 'other']; print(interrupts.is_command())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["True _end", "default_int_handler", "False"]


# ----------------------------------------------------------------------------------- broken pipes
LESSON = "from minigan.utils.lesson import Lesson\nLesson('00_x', 'A title')\n"


@pytest.mark.parametrize("end", ["print('x' * 100_000)", "print('x')", ""])
def test_a_lesson_ends_with_its_reader(tmp_path, end):
    (tmp_path / "00_x.py").write_text(LESSON + "import time; time.sleep(0.5)\n" + end)
    done = subprocess.run(
        f"set -o pipefail; {sys.executable} 00_x.py | true",
        shell=True,
        executable="/bin/bash",
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1" if end else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_bug_of_a_lesson_may_be_read_in_part():
    lesson = os.fspath(ROOT / "lessons" / "00_gan_in_numpy.py")
    done = subprocess.run(
        f"set -o pipefail; {sys.executable} {lesson} --bug 1 --reveal | true",
        shell=True,
        executable="/bin/bash",
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_benchmark_writes_null_for_what_is_not_finite(tmp_path):
    result = write_result({"a": [1.0, math.inf], "b": (math.nan,)}, tmp_path / "a.json")
    assert strict_json.loads((tmp_path / "a.json").read_bytes()) == {"a": [1.0, None], "b": [None]}
    assert result["a"] == [1.0, math.inf]
