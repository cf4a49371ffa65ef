"""Run files with any content are accepted, or refused in one line that names the file."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from run_helpers import cli, refused, train

import minigan as mg
from minigan.kernels.runtime.files import atomic_write, read_bounded, sync_folder
from minigan.training import checkpoint
from minigan.utils import strict_json

RING = [
    "--data",
    "ring",
    "--samples",
    200,
    "--batch",
    16,
    "--device",
    "reference",
    "--log-every",
    2,
]
ODD = [None, True, -1, 3.5, 10**400, -(10**400), 2**64, "", "x", "\ud800", [], {"a": 1}, [[[]]]]
# Texts that are not JSON, though Python's module may write or read them.
RAW = ["1e400", "NaN", "-Infinity", "1" * 5000, '"', "[" * 3000 + "]" * 3000]


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "run"
    train(folder, *RING, "--steps", 4)
    return folder


@pytest.fixture
def run(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


def _commands(run):
    (run.parent / "out.npz").unlink(missing_ok=True)
    yield "sample", run, "--n", 2, "--out", run.parent / "out.npz"
    yield "info", run
    yield "train", "--resume", run, "--steps", 4


def _refuse_or_work(run, path, *words):
    """Assert that a command works, or is refused in one line that names the file."""
    result = cli(*words)
    if result.status:
        assert result.status == 2, result
        (line,) = result.errors
        assert os.fspath(path) in line
        assert len(line) < 3000
    return result.status


def _with(text, value):
    """Return JSON text with the string "@@" replaced by a raw value."""
    return text.replace('"@@"', value)


@pytest.mark.parametrize("field", ["steps", "latent_size", "lr_g", "data", "samples", "schedule"])
def test_odd_values_in_a_config(run, field):
    path = run / "config.json"
    config = json.loads(path.read_text())
    texts = [json.dumps(config | {field: value}) for value in ODD]
    texts += [_with(json.dumps(config | {field: "@@"}), raw) for raw in RAW]
    for text in texts:
        path.write_text(text)
        for words in _commands(run):
            _refuse_or_work(run, run, *words)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b" " * 70_000, b"[" * 100_000),
        b'{"steps": 4, "steps": 5}',
    ],
)
def test_odd_contents_of_a_config(run, content):
    path = run / "config.json"
    path.write_bytes(content)
    for words in _commands(run):
        assert f"{path} cannot be read" in refused(*words)


def test_a_config_is_compared_before_anything_is_built(run, monkeypatch):
    """The sizes in it would take terabytes."""
    config = json.loads((run / "config.json").read_text())
    for name, value in (("samples", 10**12), ("latent_size", 65_000), ("batch", 10**6)):
        (run / "config.json").write_text(json.dumps(config | {name: value}))
        for words in _commands(run):
            assert f"not {value}" in refused(*words)
    for name, limit in (("latent_size", 65_536), ("batch", 1_048_576), ("n_critic", 1000)):
        (run / "config.json").write_text(json.dumps(config | {name: limit + 1}))
        assert f"is not a positive integer of at most {limit}" in refused("sample", run)


@pytest.mark.parametrize("field", ["step", "loss_d", "grad_norm_g", "steps_per_second", "new"])
def test_odd_values_in_metrics(run, field):
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.open()]
    for odd in [*ODD, *(f"raw {raw}" for raw in RAW)]:
        raw = odd.removeprefix("raw ") if isinstance(odd, str) and odd.startswith("raw ") else None
        texts = [json.dumps(row) for row in rows]
        texts[1] = json.dumps(rows[1] | {field: odd if raw is None else "@@"})
        texts[1] = texts[1] if raw is None else _with(texts[1], raw)
        path.write_text("\n".join(texts) + "\n")
        _refuse_or_work(run, path, "train", "--resume", run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[1], lines[0], lines[2]], "a line has step 1 after step 3"),
        (lambda lines: [lines[0], lines[0], lines[2]], "a line has step 1 after step 1"),
        (lambda lines: [lines[0], b"[" * 20_000 + b"\n", lines[2]], "longer than 16,384 bytes"),
        (lambda lines: [lines[0], b"\xff\n", lines[2]], "can't decode byte 0xff"),
        (lambda lines: [lines[0], lines[2]], "1 regular lines up to step 4"),
        (lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]], "BOM"),
    ],
)
def test_metrics_out_of_order(run, change, message):
    path = run / "metrics.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    complaint = refused("train", "--resume", run)
    assert message in complaint
    assert str(path) in complaint


def test_metrics_without_their_last_line_end(run, trained_run):
    """As an editor leaves them: the next line must not be joined to the last."""
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert cli("train", "--resume", run, "--steps", 6).status == 0
    assert [json.loads(line)["step"] for line in path.open()] == [1, 3, 5, 6]


def test_metrics_in_which_an_older_version_wrote_infinity(run):
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.open()]
    rows[0]["grad_norm_g"] = float("inf")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "Infinity" in path.read_text()
    assert cli("train", "--resume", run).status == 0
    assert strict_json.loads(path.read_bytes().splitlines()[0])["grad_norm_g"] is None


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "checkpoint.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "device", "huge"])
def test_a_file_that_is_not_regular_is_refused(run, name, kind):
    path = run / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(10**11)
    words = ["train", "--resume", run] if name == "metrics.jsonl" else ["sample", run]
    assert str(path) in refused(*words)


# -------------------------------------------------------------------------------- the checkpoint
@pytest.mark.parametrize(
    "path", [(), ("step",), ("metrics_lines",), ("random", "seed"), ("data", "shape"),
             ("data", "samples"), ("data", "scale"), ("data", "class_names"), ("data",)]
)  # fmt: skip
def test_odd_values_in_the_info_of_a_checkpoint(run, path):
    file = run / "checkpoint.safetensors"
    tensors, info = mg.load(file)
    for odd in ODD:
        new = json.loads(json.dumps(info))
        parent = new
        for key in path[:-1]:
            parent = parent[key]
        if path:
            parent[path[-1]] = odd
        else:
            new["more"] = odd
        checkpoint.save(file, tensors, new)
        for words in _commands(run):
            _refuse_or_work(run, run, *words)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["generator.0.weight", "discriminator.2.bias", "optimizer_g.mean.0", "points"]
)
def test_weights_that_are_not_finite_under_a_right_digest(run, name, value):
    file = run / "checkpoint.safetensors"
    tensors, info = mg.load(file)
    assert name in tensors, sorted(tensors)
    tensors[name].reshape(-1)[-1] = value
    checkpoint.save(file, tensors, info)
    for words in (["sample", run], ["evaluate", run], ["train", "--resume", run, "--steps", 6]):
        complaint = refused(*words)
        assert f"{file} does not fit this run: {name} has values that are NaN" in complaint


def test_unknown_tensors_are_refused(run):
    file = run / "checkpoint.safetensors"
    tensors, info = mg.load(file)
    checkpoint.save(file, tensors | {"more.weight": np.zeros(3, np.float32)}, info)
    for words in (["sample", run], ["train", "--resume", run, "--steps", 6]):
        assert "unknown ['more.weight'] in the state to load" in refused(*words)


# ---------------------------------------------------------------------------------- JSON, files
@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}])
def test_what_json_cannot_hold_is_not_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dumps(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[NaN]", "NaN is not a number in JSON"),
        ("-Infinity", "-Infinity is not a number in JSON"),
        ("1e999", "1e999 is too large for a float"),
        ('{"a": 1, "a": 2}', "the name 'a' occurs twice"),
        ("[" * 10**5, "nested too deeply"),
        (b"\xff", "can't decode"),
        ("", "Expecting value"),
    ],
)
def test_what_is_not_json_is_not_read(text, message):
    with pytest.raises(ValueError, match=message):
        strict_json.loads(text)


def test_reading_is_bounded(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        read_bounded(path, 4)


def test_a_folder_is_synced_after_a_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, type(tmp_path).replace

    def synced(descriptor):
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda a, b: (events.append("rename"), replace(a, b))[1]
    )
    atomic_write(tmp_path / "file", lambda file: file.write(b"x"))
    assert events == ["file", "rename", "folder"]


def test_pipes_and_devices_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    for name in ("pipe", "link"):
        with pytest.raises(FileExistsError, match=f"not a regular file: '{tmp_path / name}'"):
            atomic_write(tmp_path / name, lambda file: file.write(b"x"))
        assert not (tmp_path / name).is_file()


def test_an_error_of_writing_names_the_file(tmp_path):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    for name, write in (("a", full), ("none/a", lambda file: file.write(b"x")), ("x" * 300, full)):
        with pytest.raises(OSError, match=f": '{tmp_path / name}'$"):
            atomic_write(tmp_path / name, write)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_synced_is_left(tmp_path, monkeypatch):
    import errno

    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    code = errno.EINVAL
    sync_folder(tmp_path)
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)
