"""The lock of a folder: exclusive, freed when its process ends, absent where there are none."""

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest
from run_helpers import ENVIRONMENT

from minigan.training.run_folder import RunError, locked
from minigan.utils.locks import NOT_SUPPORTED, LockedError, file_lock

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".lock"


def _held_by_another_process(path):
    """A process that holds the lock until it is killed."""
    program = (
        "import sys, time; from pathlib import Path; from minigan.utils.locks import file_lock\n"
        "with file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, os.fspath(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_holder_is_refused(path):
    with file_lock(path), pytest.raises(LockedError), file_lock(path):
        pass
    with file_lock(path):
        pass


def test_the_lock_is_freed_after_an_error(path):
    with pytest.raises(ZeroDivisionError), file_lock(path):
        1 / 0  # noqa: B018
    with file_lock(path):
        pass


def test_a_killed_process_frees_the_lock(path):
    process = _held_by_another_process(path)
    try:
        with pytest.raises(LockedError), file_lock(path):
            pass
        with pytest.raises(RunError, match="another process is training"), locked(path.parent):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with file_lock(path):
        pass


def test_one_that_waits_gets_the_lock(path):
    order = []

    def work():
        with file_lock(path, wait=True):
            order.append("second")

    with file_lock(path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("code", sorted(NOT_SUPPORTED))
def test_a_file_system_without_locks_refuses_no_training(tmp_path, monkeypatch, recwarn, code):
    def flock(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with locked(tmp_path), locked(tmp_path):
            pass
    assert not recwarn


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    broken = pytest.raises(OSError, match=r"Not a directory|exists")
    with broken as caught, file_lock(tmp_path / "file" / ".lock"):
        pass
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)
    with pytest.raises(RunError, match="cannot write to"), locked(tmp_path / "file"):
        pass
