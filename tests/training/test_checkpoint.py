"""Checkpoint files: the same bytes for the same state, whole or absent, and never half believed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from run_helpers import ENVIRONMENT, assert_whole, sha256, small_files

import minigan as mg
from minigan.training.checkpoint import CheckpointError

TENSORS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "step": np.array(3.5),
    "order": np.array([2, 0, 1]),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 4)),
}
INFO = {"step": 7, "config": {"b": None, "a": [1.5, "x"]}, "seed": 2**64 - 1}


def equal(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and np.array_equal(a[k], b[k])
        for k in a
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.safetensors"
    mg.save(path, TENSORS, INFO)
    return path


def test_round_trip(path):
    tensors, info = mg.load(path)
    assert equal(tensors, TENSORS)
    assert info == INFO
    tensors["weight"][0, 0] = 1  # what is loaded may be changed
    assert mg.load(str(path))[0]["weight"][0, 0] == 0


def test_tensors_and_strided_arrays(tmp_path):
    path = tmp_path / "a.safetensors"
    x = np.arange(12.0).reshape(3, 4)
    mg.save(path, {"t": mg.tensor([1.5, 2.5]), "T": x.T, "s": x[::2, ::-1], "big": x.astype(">f8")})
    tensors, info = mg.load(path)
    assert equal(tensors, {"t": np.float32([1.5, 2.5]), "T": x.T, "s": x[::2, ::-1], "big": x})
    assert info == {}


def test_the_same_state_is_the_same_bytes_in_any_order(path, tmp_path):
    again = tmp_path / "b.safetensors"
    mg.save(again, dict(reversed(TENSORS.items())), dict(reversed(INFO.items())))
    assert sha256(again) == sha256(path)
    tensors, info = mg.load(path)
    mg.save(again, tensors, info)
    assert sha256(again) == sha256(path)


def test_the_same_bytes_from_every_process(path):
    code = (
        "import sys, numpy as np, minigan as mg\n"
        "t, i = mg.load(sys.argv[1]); mg.save(sys.argv[1] + '2', t, i)"
    )
    for hash_seed in ("1", "2"):
        environment = {**ENVIRONMENT, "PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=True)
        assert sha256(f"{path}2") == sha256(path)


def test_it_is_an_ordinary_safetensors_file_of_one_metadata_key_and_no_place(path):
    assert equal(safetensors.numpy.load_file(path), TENSORS)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert list(file.metadata()) == ["minigan"]
    for word in (os.fspath(path.parent), os.uname().nodename):
        assert word.encode() not in path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "a.safetensors"
    mg.save(path, TENSORS, INFO)
    return path.read_bytes()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Puts bytes into a file and gives its path."""
    path = tmp_path_factory.mktemp("broken") / "b.safetensors"

    def write(data):
        path.write_bytes(data)
        return path

    return write


@given(st.data())
def test_any_flipped_bit_is_found(whole, written, data):
    place = data.draw(st.integers(0, len(whole) - 1))
    broken = bytearray(whole)
    broken[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        tensors, info = mg.load(written(bytes(broken)))
    except CheckpointError:
        return
    assert equal(tensors, TENSORS)  # white space in the header may differ, and nothing else
    assert info == INFO


def test_a_flipped_bit_of_a_weight_or_of_the_info_is_found(whole, written):
    for part in (np.float32(4).tobytes(), b"1.5"):
        place = whole.index(part)
        broken = bytearray(whole)
        broken[place + len(part) - 1] ^= 1
        with pytest.raises(CheckpointError, match="SHA-256"):
            mg.load(written(bytes(broken)))


def test_any_truncation_is_found(whole, written):
    for length in [*range(0, 200, 7), *range(200, len(whole), 31), len(whole) - 1]:
        with pytest.raises(CheckpointError, match="not a readable checkpoint"):
            mg.load(written(whole[:length]))
    with pytest.raises(CheckpointError):
        mg.load(written(whole + b"\0"))


def test_what_is_not_a_checkpoint_says_so(tmp_path, written):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        mg.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        mg.load(tmp_path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        mg.load(written(b"PK\3\4 something else entirely"))
    for metadata in ({}, {"format": "pt"}):
        foreign = safetensors.numpy.save({"a": np.zeros(3)}, metadata=metadata)
        with pytest.raises(CheckpointError, match="not written by minigan"):
            mg.load(written(foreign))
    for text in ("", "[]", "{}", '{"info": {}, "sha256": "0"}', json.dumps({"sha256": 3})):
        forged = safetensors.numpy.save({"a": np.zeros(3)}, metadata={"minigan": text})
        with pytest.raises(CheckpointError):
            mg.load(written(forged))


@pytest.mark.parametrize(
    ("tensors", "info"),
    [
        ({"a": np.array([None])}, {}),
        ({"a": np.array(["text"])}, {}),
        ({"a": np.zeros(2)}, {"a": {1, 2}}),
        ({"a": np.zeros(2)}, {"a": np.zeros(2)}),
    ],
)
def test_what_cannot_be_saved_leaves_the_old_file(path, tensors, info):
    before = sha256(path)
    with pytest.raises(TypeError):
        mg.save(path, tensors, info)
    assert sha256(path) == before
    assert_whole(path.parent)


def test_a_full_disk_leaves_the_old_file(path):
    code = (
        "import sys, numpy as np, minigan as mg\n"
        "try: mg.save(sys.argv[1], {'a': np.zeros(100_000)})\n"
        "except OSError as error: sys.exit(error.strerror)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=small_files,
    )
    assert (done.returncode, done.stderr) == (1, "File too large\n")
    assert mg.load(path)[1] == INFO
    assert_whole(path.parent)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        mg.save(tmp_path / "no" / "a", TENSORS)
    with pytest.raises(OSError, match="Is a directory"):
        mg.save(tmp_path, TENSORS)
    assert list(tmp_path.parent.glob(f"{tmp_path.name}*")) == [tmp_path]


def test_what_is_not_saved(tmp_path):
    path = tmp_path / "a.safetensors"
    for tensors, message in (
        (mg.nn.Dense(1, 1), r"save: Dense is not a dict of tensors, such as net.state_dict\(\)"),
        ({"__metadata__": np.ones(1)}, "save: '__metadata__' is no name of a tensor"),
        ({1: np.ones(1)}, "save: 1 is no name of a tensor"),
    ):
        with pytest.raises(TypeError, match=message):
            mg.save(path, tensors)
    with pytest.raises(ValueError, match="save: a: elements are masked"):
        mg.save(path, {"a": np.ma.array([1.0, 2.0], mask=[False, True])})
    assert not path.exists()


def test_a_checkpoint_that_may_not_be_read_is_not_called_missing(path, monkeypatch):
    mg.save(path, {"a": np.zeros(2)})

    def refuse(self, *mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(CheckpointError, match=r"is not a readable checkpoint: .*Permission denied"):
        mg.load(path)
