"""Progress: one live line on a terminal, whole lines in a log, tqdm's widget in a notebook."""

import contextlib
import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from types import ModuleType

import pytest
from run_helpers import ENVIRONMENT

from minigan.utils import progress

WORDS = ["train", "--data", "ring", "--samples", "200", "--batch", "8", "--steps", "40",
         "--log-every", "1", "--device", "reference", "--out", "run"]  # fmt: skip
OTHERS = ("compiling ", "data: ", "nets: ")  # beginnings of lines that are no progress
POSTFIX = r", D \d\.\d{3} G -?\d\.\d{3}, D right: real \d+% fake \d+%, diversity \d+\.\d\d"
CODE = (
    "import sys; from minigan.utils import progress; progress.LINE_SECONDS = float(sys.argv[1])\n"
    "from minigan.cli import main; sys.exit(main(sys.argv[2:]))\n"
)


def _train(folder, seconds, stderr=subprocess.PIPE, **environment):
    """Train in a real process that writes a line of progress every so many seconds."""
    return subprocess.run(
        [sys.executable, "-c", CODE, str(seconds), *WORDS],
        cwd=folder,
        env={**ENVIRONMENT, "TQDM_DISABLE": "", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=True,
    )


def test_a_log_has_whole_lines_also_where_ci_is_set(tmp_path):
    log = _train(tmp_path, 0, CI="1").stderr.decode()
    lines = [line for line in log.splitlines() if not line.startswith(OTHERS)]
    assert "\r" not in log
    assert log.endswith("\n")
    steps = []
    for line in lines:
        match = re.fullmatch(
            rf"ring (\d+)/40, 00:\d\d elapsed, (?:00:\d\d|\?) left(?:{POSTFIX})?", line
        )
        assert match, line
        steps.append(int(match[1]))
    assert len(steps) > 5
    assert steps == sorted(set(steps))
    assert 30 < steps[-1] <= 40
    assert re.search(f"{POSTFIX}$", lines[-1])


@pytest.mark.parametrize(("seconds", "environment"), [(1000, {}), (0, {"TQDM_DISABLE": "1"})])
def test_a_short_run_and_a_disabled_bar_print_nothing(tmp_path, seconds, environment):
    log = _train(tmp_path, seconds, **environment).stderr.decode()
    assert [line for line in log.splitlines() if not line.startswith(OTHERS)] == []


def test_a_terminal_has_one_live_line(tmp_path):
    reader, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    chunks = []

    def read():
        with contextlib.suppress(OSError):  # the terminal is closed
            while chunk := os.read(reader, 1 << 16):
                chunks.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    _train(tmp_path, 0, stderr=terminal)
    os.close(terminal)
    thread.join(60)
    os.close(reader)
    text = b"".join(chunks).decode()
    last = text.rstrip().rpartition("\r")[2]
    assert re.search(r"ring 40/40 .* 00:00 left, D \d\.\d", last), text
    assert text.count("\n") == 3  # after the lines on data and nets, and after the bar


def test_lines_come_from_loops_and_are_never_cleared(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 1e-9)
    assert list(progress.progress_bar("abc", desc="x", leave=False)) == list("abc")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["x 1/3", "x 2/3", "x 3/3"]
    assert list(progress.progress_bar("abc", desc="x", show=False)) == list("abc")
    assert capsys.readouterr().err == ""


def test_a_notebook_has_the_bar_of_tqdm_auto(monkeypatch):
    import tqdm.auto

    shown = []

    class Widget(tqdm.tqdm):
        def __init__(self, *given, **named):
            shown.append(named)
            super().__init__(*given, **{**named, "file": io.StringIO()})

    monkeypatch.setattr(tqdm.auto, "tqdm", Widget)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    with progress.training_bar("ring", 5, 2, True) as bar:
        assert type(bar) is Widget
        assert bar.n == 2
    (options,) = shown
    assert (options["bar_format"], options["mininterval"]) == (progress.BAR, 0.2)
