"""`minigan train --tensorboard` and metrics.csv: what is in them, also after a run was cut back."""

import csv
import shutil
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from run_helpers import assert_same_run, cli, lines, refused, train

import minigan as mg
from minigan.training.event_files import EventFile
from minigan.utils.csv_table import csv_bytes

WORDS = ["--data", "ring", "--samples", 100, "--batch", 8, "--device", "reference"]
WORDS += ["--log-every", 2, "--sample-every", 4, "--checkpoint-every", 4]


@pytest.fixture
def accumulator():
    """The reader of TensorBoard itself: it returns the events of a run's folder."""
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    module = "tensorboard.backend.event_processing.event_accumulator"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pytest.importorskip(module, reason="needs TensorBoard").EventAccumulator

    def read_all(folder):
        return read(str(folder / "tensorboard"), {"scalars": 0, "images": 0}).Reload()

    return read_all


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with event files and one without, of 8 steps."""
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    root = tmp_path_factory.mktemp("events")
    result = train(root / "run", *WORDS, "--steps", 8, "--tensorboard")
    assert f"events:   tensorboard --logdir {root / 'run'}" in result.out
    train(root / "plain", *WORDS, "--steps", 8)
    return root / "run"


def steps(events, tag="loss_d"):
    return [event.step for event in events.Scalars(tag)]


def logged(folder):
    """The steps that have a line of metrics."""
    return [row["step"] for row in lines(folder / "metrics.jsonl")]


# ------------------------------------------------------------------------------------ event files
def test_every_number_of_every_line_and_every_picture_is_an_event(run, accumulator):
    events = accumulator(run)
    rows = lines(run / "metrics.jsonl")
    names = {name for row in rows for name in row} - {"step"}
    assert set(events.Tags()["scalars"]) == names >= {"loss_g", "grad_norm_d", "steps_per_second"}
    for name in names:
        found = [(event.step, event.value) for event in events.Scalars(name)]
        having = [row for row in rows if row.get(name) is not None]
        assert found == [(row["step"], np.float32(row[name])) for row in having]
    pictures = events.Images("samples")
    assert [event.step for event in pictures] == [0, 4, 8]
    for event in pictures:
        path = run / "samples" / f"step_{event.step:06d}.png"
        assert event.encoded_image_string == path.read_bytes()
        assert (event.width, event.height) == Image.open(path).size


def test_they_are_no_part_of_the_bits(run):
    assert_same_run(run, run.parent / "plain")
    assert not (run.parent / "plain" / "tensorboard").exists()


def test_events_of_steps_that_were_cut_off_do_not_appear_twice(run, tmp_path, accumulator):
    """As after a kill at step 11: the checkpoint and the metrics are of step 8."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    later = EventFile(copy, lines(copy / "metrics.jsonl"), 8)
    for step in (9, 10, 11):
        later.add_metrics({"step": step, "loss_d": 100.0})
    later.flush()  # and no `close`, as if it had been killed
    (path,) = (copy / "tensorboard").iterdir()
    path = path.rename(path.parent / "events.out.tfevents.1000000000.here.minigan")  # of earlier
    with path.open("ab") as file:
        file.write(b"half of an event")
    (copy / "tensorboard" / "events.out.tfevents.1.mine").write_bytes(b"")
    shutil.copy(copy / "samples" / "step_000008.png", copy / "samples" / "step_000011.png")
    watched = accumulator(copy)  # a TensorBoard that stays open
    assert steps(watched) == [*logged(copy), 9, 10, 11]
    resumed = cli("train", "--resume", copy, "--steps", 12, "--tensorboard")
    assert (resumed.status, resumed.errors) == (0, []), resumed
    events = accumulator(copy)
    assert steps(events) == steps(events, "grad_norm_g") == logged(copy)
    assert {1, 7, 9, 11, 12} < set(logged(copy))
    assert max(event.value for event in events.Scalars("loss_d")) < 100
    assert [event.step for event in events.Images("samples")] == [0, 4, 8, 12]
    assert steps(watched.Reload()) == steps(events)
    assert (copy / "tensorboard" / "events.out.tfevents.1.mine").exists()


def test_a_run_that_was_trained_without_gets_its_whole_history(run, tmp_path, accumulator):
    copy = tmp_path / "run"
    shutil.copytree(run.parent / "plain", copy)
    assert cli("train", "--resume", copy, "--steps", 10, "--tensorboard").errors == []
    assert steps(accumulator(copy)) == logged(copy)
    assert {1, 7, 9, 10} < set(logged(copy))
    line = f"{copy / 'tensorboard'} ends where it does now; with --tensorboard it goes on"
    assert cli("train", "--resume", copy).errors == [f"minigan train: note: {line}"]


@pytest.mark.slow
def test_event_files_from_python_and_of_seeds(tmp_path, accumulator):
    config = mg.Config(data="ring", samples=50, batch=8, steps=2, device="reference")
    run = mg.train(config, out=tmp_path / "a", progress=False, tensorboard=True)
    assert steps(accumulator(run.folder)) == logged(run.folder) == [1, 2]
    assert "tensorboard" not in (run.folder / "config.json").read_text()
    words = [*WORDS, "--steps", 1, "--seeds", "0", "--tensorboard", "--out", tmp_path / "seeds"]
    assert cli("train", *words).status == 0
    assert steps(accumulator(tmp_path / "seeds" / "seed_0")) == [1]


def test_without_the_package_one_line_has_the_command_before_anything_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "tensorboardX.event_file_writer", raising=False)
    line = refused("train", *WORDS, "--tensorboard", "--out", tmp_path / "run")
    assert "need the package tensorboardX, which is not installed; install it with: pip " in line
    assert "install -e '.[tensorboard]'" in line
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="need the package tensorboardX"):
        mg.train(mg.Config(data="ring"), tensorboard=True)


def test_a_disk_that_is_full_ends_the_training_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    monkeypatch.setattr(EventFile, "add_picture", full_disk)
    line = refused("train", *WORDS, "--steps", 2, "--tensorboard", "--out", tmp_path / "run")
    assert "No space left on device" in line


def full_disk(self, step, path):
    raise OSError(28, "No space left on device")


# ------------------------------------------------------------------------------------- metrics.csv
def test_a_table_has_a_column_for_every_name_and_empty_cells(tmp_path):
    rows = [{"step": 1, "a": 0.1}, {"step": 2, "b": 1e-9, "a": None}, {"step": 3}]
    assert csv_bytes(rows) == b"step,a,b\r\n1,0.1,\r\n2,,1e-09\r\n3,,\r\n"
    assert csv_bytes([{"a,b": 'x"y'}]) == b'"a,b"\r\n"x""y"\r\n'
    assert csv_bytes([]) == b"\r\n"


def read_csv(folder):
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [
            {name: float(cell) for name, cell in row.items() if cell}
            for row in csv.DictReader(file)
        ]


def test_a_run_has_its_metrics_as_csv_too(tmp_path):
    folder = tmp_path / "run"
    train(folder, *WORDS, "--steps", 5)
    assert read_csv(folder) == lines(folder / "metrics.jsonl")
    assert {1, 3, 5} <= {row["step"] for row in read_csv(folder)}
    assert cli("train", "--resume", folder, "--steps", 7).status == 0
    assert read_csv(folder) == lines(folder / "metrics.jsonl")
    assert {1, 3, 5, 7} <= {row["step"] for row in read_csv(folder)}
    assert (folder / "metrics.csv").read_text().startswith("step,loss_d,loss_g,d_real,d_fake,")
