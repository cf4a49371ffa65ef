"""A run as an object: mg.load_run and mg.train, with arrays, data sets, names and paths."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from run_helpers import ENVIRONMENT, assert_same_run, cli, lines_of, refused, wait_for

import minigan as mg
from minigan.data import DataError, Dataset
from minigan.training.resume import load_trainer
from minigan.training.run_folder import RunError

OPTIONS = {"batch": 8, "steps": 6, "log_every": 2, "device": "reference", "holdout": 0.25}
NAMES = ("cat", "dog", "eel")


def _points():
    return np.random.default_rng(0).standard_normal((80, 2)).astype("f4")


def _train(folder, data, labels=None, **options):
    config = mg.Config(**{**OPTIONS, **options})
    return mg.train(config, data, labels, out=folder, progress=False)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A conditional run with an average and names of classes."""
    data = Dataset("pets", _points(), np.arange(80) % 3, class_names=NAMES)
    folder = tmp_path_factory.mktemp("named") / "run"
    return _train(folder, data, condition="concat", ema=0.5, model="toy")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return _train(tmp_path_factory.mktemp("plain") / "run", _points())


# ------------------------------------------------------------------------------------- a saved run
def test_a_run_is_described_in_a_line(named):
    assert repr(named) == (
        f"SavedRun({str(named.folder)!r}: step 6 of 6, data 'python:pets', samples of shape (2,) in"
        " 3 classes, model 'toy', generator: average, ema 0.5)"
    )


def test_labels_are_names_or_numbers(named):
    samples = named.sample(4, seed=3, labels=["dog", "cat", 2, "eel"])
    assert (samples.shape, samples.dtype) == ((4, 2), np.float32)
    np.testing.assert_array_equal(samples, named.sample(4, seed=3, labels=[1, 0, 2, 2]))
    np.testing.assert_array_equal(named.sample(4, labels="dog"), named.sample(4, labels=[1] * 4))
    np.testing.assert_array_equal(named.sample(4), named.sample(4, labels=np.arange(4) % 3))
    assert not np.array_equal(samples, named.sample(4, seed=3, labels="dog"))
    for labels, message in (("cow", "unknown label 'cow'"), (3, "label 3 is not one of 0 .. 2")):
        with pytest.raises(ValueError, match=message):
            named.sample(1, labels=labels)
    with pytest.raises(ValueError, match="4 integers are needed"):
        named.sample(4, labels=["cat"])


def test_classes_without_names_have_numbers_alone(tmp_path):
    saved = _train(tmp_path / "run", _points(), np.arange(80) % 3, condition="concat", steps=1)
    with pytest.raises(ValueError, match="have no names, only the numbers 0 to 2"):
        saved.sample(1, labels="cat")


def test_a_run_without_labels_takes_none(plain):
    with pytest.raises(ValueError, match="trained without labels"):
        plain.sample(1, labels=0)


def test_samples_are_those_of_the_trainer_and_of_the_command(named, tmp_path):
    trainer = load_trainer(named.folder, data=Dataset("pets", _points(), np.arange(80) % 3, 3,
                                                      class_names=NAMES))  # fmt: skip
    np.testing.assert_array_equal(named.sample(5, seed=2), trainer.sample(5, seed=2))
    cli("sample", named.folder, "--n", 5, "--seed", 2, "--out", tmp_path / "a.npz")
    np.testing.assert_array_equal(named.sample(5, seed=2), np.load(tmp_path / "a.npz")["samples"])


def test_the_generator_is_the_average_where_there_is_one(named, plain):
    tensors, _ = mg.load(named.folder / "checkpoint.safetensors")
    (average,) = [x for k, x in tensors.items() if k.startswith("average") and k.endswith("4.bias")]
    (trained,) = [x for k, x in tensors.items() if k == "generator.net.4.bias"]
    mine = named.generator.state_dict()["net.4.bias"]
    assert named.is_averaged
    np.testing.assert_array_equal(mine, average)
    assert not np.array_equal(mine, trained)
    assert not plain.is_averaged
    assert "generator: as trained" in repr(plain)


def test_the_nets_are_in_eval_mode_and_can_be_called(plain):
    with mg.use_device("reference"):
        latent = mg.random.normal((3, plain.config.latent_size))
        fake = plain.generator(latent)
        assert fake.shape == (3, 2)
        assert plain.discriminator(fake).shape == (3, 1)
    assert not plain.generator.training
    assert not plain.discriminator.training


def test_metrics_are_arrays_by_column(plain):
    rows = [json.loads(line) for line in (plain.folder / "metrics.jsonl").open()]
    assert plain.metrics["step"].tolist() == [1, 3, 5, 6]
    assert plain.metrics["step"].dtype == np.int64
    assert set(plain.metrics) == set(rows[-1])
    measured = plain.metrics["sliced_wasserstein_n20"]
    assert np.isnan(measured[:-1]).all()
    assert measured[-1] == rows[-1]["sliced_wasserstein_n20"]
    for name in ("loss_d", "loss_g", "grad_norm_g"):
        assert plain.metrics[name].tolist() == [row[name] for row in rows]


def test_neither_data_nor_the_first_folder_are_needed(tmp_path, monkeypatch):
    np.savez(tmp_path / "data.npz", x=_points())
    monkeypatch.chdir(tmp_path)
    saved = _train("run", "data.npz")
    samples, config = saved.sample(3), saved.config
    assert config.data == str(tmp_path / "data.npz")
    (tmp_path / "data.npz").unlink()
    shutil.move("run", "elsewhere")
    monkeypatch.chdir("/")
    moved = mg.load_run(tmp_path / "elsewhere")
    assert moved.config == config
    np.testing.assert_array_equal(moved.sample(3), samples)
    with pytest.raises(RunError, match="there is no folder of images"):
        moved.evaluate()


def test_the_samples_of_the_loaded_step_are_measured(tmp_path):
    before = _train(tmp_path / "run", _points(), lr_g=0.1)

    def distance(run):
        return run.evaluate(_points(), only=["sliced_wasserstein"])["sliced_wasserstein"].value

    value = distance(before)
    after = mg.train(resume=tmp_path / "run", data=_points(), steps=40, progress=False)
    assert distance(before) == value
    assert distance(after) != value


def test_the_device_can_be_another_one(plain):
    moved = mg.load_run(plain.folder, device="cpu")
    assert moved.generator.parameters()[0].device.name == "cpu"
    np.testing.assert_allclose(moved.sample(4), plain.sample(4), rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------------------- mg.train
def test_an_array_is_trained_as_the_same_array_in_a_file(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    options = {"condition": "concat", "model": "mlp"}
    from_file = _train(tmp_path / "a", tmp_path / "data.npz", **options)
    from_array = _train(tmp_path / "b", images, labels, **options)
    assert (from_file.config.data, from_array.config.data) == (
        str(tmp_path / "data.npz"), "python:array")  # fmt: skip
    for name in ("loss_d", "loss_g"):
        assert from_file.metrics[name].tolist() == from_array.metrics[name].tolist()
    np.testing.assert_array_equal(from_file.sample(4), from_array.sample(4))
    assert (
        "data           python:array, 40 samples of shape (1, 4, 4)"
        in cli("info", from_array.folder).out
    )


def test_a_config_that_claims_other_data_does_not_do_so(plain):
    assert mg.Config().data == "glyphs"
    assert json.loads((plain.folder / "config.json").read_text())["data"] == "python:array"


def test_the_next_folder_is_named_by_data_and_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = mg.train(mg.Config(**{**OPTIONS, "steps": 1}), _points(), progress=False)
    assert saved.folder == tmp_path / "runs" / "001-array-toy"


def test_samples_are_drawn_and_ambiguous_arrays_refused(tmp_path):
    saved = _train(tmp_path / "run", _points(), samples=40, steps=1)
    assert mg.load(saved.folder / "checkpoint.safetensors")[1]["data"]["samples"] == 40
    with pytest.raises(DataError, match="which may be points or images"):
        _train(tmp_path / "no", np.zeros((20, 784), np.uint8))
    with pytest.raises(DataError, match="list is not an array of numbers"):
        _train(tmp_path / "no", ["a", "b"])
    assert not (tmp_path / "no").exists()


def test_a_tensor_is_an_array(tmp_path, plain):
    saved = _train(tmp_path / "run", mg.tensor(_points()))
    np.testing.assert_array_equal(saved.sample(3), plain.sample(3))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"data": _points(), "config": mg.Config(split="test")}, "split = 'test' is for files"),
        ({"data": "ring", "labels": [1]}, "labels are those of an array"),
        ({"data": "ring", "steps": 3}, r"steps = 3 goes with resume; Config\(steps=...\) sets it"),
        ({"resume": "x", "config": mg.Config()}, "goes on with that run's own config"),
        ({"resume": "x"}, "x is not a run"),
        ({"data": "rng"}, "unknown data 'rng'; did you mean 'ring'"),
    ],
)
def test_what_does_not_go_together_is_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        mg.train(**words, progress=False)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------- runs from Python go on
def test_a_run_from_an_array_goes_on_to_the_same_bits(tmp_path):
    whole = _train(tmp_path / "a", _points(), sample_every=3)
    _train(tmp_path / "b", _points(), sample_every=3, steps=3)
    last = mg.train(resume=tmp_path / "b", data=_points(), steps=6, progress=False)
    assert last.step == 6
    assert_same_run(tmp_path / "a", tmp_path / "b")
    np.testing.assert_array_equal(whole.sample(3), last.sample(3))


def test_other_arrays_are_refused(plain):
    with pytest.raises(RunError, match=r"belongs to other data .* other values"):
        mg.train(resume=plain.folder, data=_points() + 1, steps=9, progress=False)


@pytest.mark.parametrize("words", [["train", "--resume"], ["evaluate"]])
def test_a_command_says_where_the_data_came_from_and_how_to_go_on(plain, words):
    line = refused(*words, plain.folder)
    assert "its data 'python:array' came from a Python program" in line
    assert "mg.train(resume=..., data=...) goes on with them, or --data FILE.npz" in line


def test_a_file_that_holds_the_same_array_goes_on(plain, tmp_path):
    np.savez(tmp_path / "data.npz", x=_points())
    result = cli("evaluate", plain.folder, "--data", tmp_path / "data.npz", "--csv")
    assert (result.status, result.errors) == (0, [])
    header, line = result.out.splitlines()[:2]
    measured = dict(zip(header.split(","), line.split(","), strict=True))
    found = plain.evaluate(_points(), only=["sliced_wasserstein"])["sliced_wasserstein"]
    assert (measured["name"], float(measured["value"])) == (found.name, found.value)


def test_an_interrupt_saves_the_run_and_raises(tmp_path):
    code = (
        "import minigan as mg, numpy as np\n"
        "x = np.random.default_rng(0).standard_normal((80, 2))\n"
        "config = mg.Config(batch=8, steps=10**6, log_every=1, device='reference')\n"
        "try:\n"
        "    mg.train(config, x, out='run')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted at', mg.load_run('run').step)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    wait_for(lambda: lines_of(tmp_path / "run") >= 3, process)
    process.send_signal(signal.SIGINT)
    out, err = map(os.fsdecode, process.communicate(timeout=60))
    assert process.returncode == 0, err
    assert int(out.removeprefix("interrupted at ")) >= 3
    assert "stopped by SIGINT and saved; mg.train(resume=" in err
