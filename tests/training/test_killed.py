"""A process that is killed at any of its writing calls loses nothing."""

import hashlib
import os
import shutil
import signal
import sys

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from run_helpers import assert_same_picture, assert_same_run, cli, files, metrics, train

import minigan as mg
from minigan.kernels.runtime.files import atomic_write
from minigan.training.run import Run
from minigan.utils import figures

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
# Lines at the steps 1, 8 and 15, and at the last one.
RING = ["--data", "ring", "--samples", "300", "--batch", "16", "--log-every", "7"]
RING += ["--device", "reference", "--checkpoint-every", "4", "--sample-every", "1000"]
RING += ["--evaluate-every", "3"]  # and measured ones at 3, 6, 9, ...


def _kill_at(call, folder, words):
    """Run a command in a child process that is killed before its writing call number `call`.

    Returns:
        whether it was killed, that is, made as many calls.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    calls = 0

    def count(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event, arguments):
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY
        if (writes or event in ("os.rename", "os.remove", "os.mkdir")) and os.fspath(folder) in str(
            arguments[0]
        ):
            count()

    def counted(function):
        def wrapped(*arguments):
            count()  # before
            result = function(*arguments)
            count()  # after
            return result

        return wrapped

    status = 1
    try:
        sys.addaudithook(audit)
        os.fsync = counted(os.fsync)
        Run._log = counted(Run._log)
        status = cli(*words).status
    finally:
        os._exit(status)


def _assert_nothing_lost(folder, finished, longer):
    """Assert that the run can still be resumed, to the finished one and to the longer one."""
    step = mg.load(folder / "checkpoint.safetensors")[1]["step"]
    if step == 10:
        assert metrics(folder)[:6] == metrics(finished)
        back = shutil.copytree(folder, folder.parent / "back")
        assert cli("train", "--resume", back, "--steps", 10).status == 0
        assert _without_pictures(back) == _without_pictures(finished)
        assert_same_picture(back / "losses.png", finished / "losses.png")
        shutil.rmtree(back)
    assert cli("train", "--resume", folder, "--steps", 16).status == 0
    assert_same_run(folder, longer)


def _without_pictures(folder):
    """The files of a run but its pictures, which hold the name of the run."""
    return {name: x for name, x in files(folder).items() if not name.endswith(".png")}


@pytest.fixture
def small_pictures(monkeypatch):
    """Draw each figure as 32 pixels that depend on all it shows; matplotlib takes most of the time.

    The file is written by the same function.
    """

    def draw(content, path, metadata):
        texts = PngImagePlugin.PngInfo()
        for name, text in metadata.items():
            texts.add_text(name, text)
        pixels = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        image = Image.fromarray(pixels[None])
        atomic_write(path, lambda file: image.save(file, format="png", pnginfo=texts))

    def losses(rows, levels, unit, path, distance, metadata):
        rows = [{k: x for k, x in row.items() if k != "steps_per_second"} for row in rows]
        draw(repr(rows).encode(), path, metadata)

    def scatter(real, fake, path, title, metadata):
        draw(real.tobytes() + fake.tobytes() + title.encode(), path, metadata)

    monkeypatch.setattr(figures, "loss_curves", losses)
    monkeypatch.setattr(figures, "scatter", scatter)


def _extend_killed(tmp_path, calls):
    """Kill the extension of a finished run at each of these calls; return the number of calls."""
    train(tmp_path / "finished", *RING, "--steps", 10)
    train(tmp_path / "longer", *RING, "--steps", 16)
    for call in calls:
        folder = shutil.copytree(tmp_path / "finished", tmp_path / "run")
        killed = _kill_at(call, folder, ["train", "--resume", folder, "--steps", 16])
        _assert_nothing_lost(folder, tmp_path / "finished", tmp_path / "longer")
        shutil.rmtree(folder)
        if not killed:
            return call - 1
    return None


def test_a_finished_run_that_is_killed_while_it_is_extended_loses_nothing(tmp_path):
    _extend_killed(tmp_path, [8])


@pytest.mark.slow
@pytest.mark.usefixtures("small_pictures")
def test_an_extension_killed_at_every_writing_call_loses_nothing(tmp_path):
    assert _extend_killed(tmp_path, range(1, 1000)) > 30


@pytest.mark.slow
@pytest.mark.usefixtures("small_pictures")
def test_a_new_run_killed_at_every_writing_call_loses_nothing(tmp_path):
    train(tmp_path / "straight", *RING, "--steps", 10)
    for call in range(1, 1000):
        folder = tmp_path / "run"
        killed = _kill_at(call, folder, ["train", *RING, "--steps", 10, "--out", folder])
        if (folder / "config.json").exists():
            assert cli("train", "--resume", folder).status == 0
        else:
            train(folder, *RING, "--steps", 10)
        assert_same_run(folder, tmp_path / "straight")
        shutil.rmtree(folder)
        if not killed:
            break
    assert call > 30
