"""Runs of the `minigan` command, in this process and in real ones, and what they leave behind."""

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from minigan.cli.commands import main

# A GAN of a few milliseconds a step.
RING = ["--data", "ring", "--samples", "600", "--log-every", "7", "--sample-every", "1000"]
GLYPHS = ["--data", "glyphs", "--samples", 80, "--batch", 16, "--log-every", 2]
# The processes of these tests share the machine, and two threads each would wait for each other.
ENVIRONMENT = {**os.environ, "NUMBA_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}
ENVIRONMENT["TQDM_DISABLE"] = "1"  # no lines of progress


class Result:
    """Exit status, stdout, stderr, and its lines but those on what is compiled or trained."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err
        expected = ("compiling ", "data: ", "nets: ", "time: ", "runs: ")
        self.errors = [x for x in err.splitlines() if not x.startswith(expected)]

    def __repr__(self):
        return f"Result({self.status}, {self.out!r}, {self.errors})"


def cli(*words):
    """One command in this process, without a line of progress."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, TQDM_DISABLE="1"), redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
    return Result(status, out.getvalue(), err.getvalue())


def train(folder, *words):
    """A run that must succeed without a word on stderr."""
    result = cli("train", *words, "--out", folder)
    assert (result.status, result.errors) == (0, []), result
    return result


def refused(*words):
    """The one line on stderr of a command that fails, in this process."""
    return complaint_of(cli(*words), words[0])


def complaint_of(result, command):
    assert result.status == 2, result
    assert result.out == ""
    assert len(result.errors) == 1, result.errors
    assert result.errors[0].startswith(f"minigan {command}: error: ")
    return result.errors[0]


def fresh_signals():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the test runner itself may ignore them
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def small_files():
    """In the child: no file may grow beyond 50,000 bytes, as on a disk that is nearly full."""
    fresh_signals()
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


def start(*words, cwd=None, before=fresh_signals, **environment):
    """A real process, started."""
    return subprocess.Popen(
        [sys.executable, "-m", "minigan", *map(os.fspath, words)],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=before,  # noqa: PLW1509
    )


def finish(process, timeout=300):
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, os.fsdecode(out), os.fsdecode(err))


def run(*words, **options):
    """A real process, from its start to its end."""
    return finish(start(*words, **options))


def wait_for(condition, process, seconds=300):
    """Until the condition holds; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def lines_of(folder):
    """How many lines of metrics there are so far."""
    path = Path(folder) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def lines(path):
    """The objects that a file of lines of JSON holds; none where there is no file."""
    return [json.loads(line) for line in path.open()] if path.exists() else []


def metrics(folder):
    """The lines of metrics, without the one number that no rerun repeats."""
    rows = lines(Path(folder) / "metrics.jsonl")
    for row in rows:
        del row["steps_per_second"]
    return rows


def assert_same_run(a, b):
    """Equal to the bit: checkpoint, metrics, snapshots, the best step, and pictures of both."""
    assert metrics(a) == metrics(b)
    assert sha256(a / "checkpoint.safetensors") == sha256(b / "checkpoint.safetensors")
    pictures = {p.name for p in (a / "samples").iterdir()} & {
        p.name for p in (b / "samples").iterdir()
    }
    assert len(pictures) >= 2
    for name in [*(f"samples/{name}" for name in pictures), "reals.png"]:
        assert (a / name).exists() == (b / name).exists()
        if (a / name).exists():
            assert_same_picture(a / name, b / name)
    kept = [{p.name: sha256(p) for p in x.glob("snapshots/*")} for x in (a, b)]
    assert kept[0] == kept[1]
    assert not (a / "best.new.safetensors").exists()
    best = [x / "best.safetensors" for x in (a, b)]
    assert best[0].exists() == best[1].exists()
    if best[0].exists():
        assert sha256(best[0]) == sha256(best[1])


def assert_same_picture(a, b):
    """Equal pixels, and equal metadata but for the names of the runs."""
    with Image.open(a) as x, Image.open(b) as y:
        assert np.array_equal(np.asarray(x), np.asarray(y))
        assert {**x.text, "run": ""} == {**y.text, "run": ""}


def assert_whole(folder):
    """Nothing half-written lies about."""
    assert not list(folder.rglob("*.tmp"))


def files(folder):
    """{relative path: hash} of every file below a folder but the lock."""
    return {
        str(p.relative_to(folder)): sha256(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }
