"""Runs of InfoGAN as folders: `sample --label`, `--traverse`, resume, evaluate, report, doctor."""

import json

import numpy as np
import pytest
from run_helpers import assert_same_run, cli, metrics, refused, train

import minigan as mg
from minigan.data import Dataset
from minigan.training.state import check_sampler_state

RING = ["--data", "ring", "--samples", 300, "--device", "reference", "--batch", 8]
INFO = [*RING, "--condition", "infogan", "--categories", 3, "--codes", 1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("infogan") / "run"
    train(folder, *INFO, "--steps", 4, "--checkpoint-every", 2, "--ema", 0.9)
    return folder


def test_its_categories_are_the_labels_of_sample(run, tmp_path):
    assert cli("sample", run, "--n", 5, "--out", tmp_path / "s.npz").status == 0
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["labels"].tolist() == [0, 1, 2, 0, 1]
        saved = mg.load_run(run)
        assert saved.class_names is None
        assert np.array_equal(arrays["samples"], saved.sample(5, labels=[0, 1, 2, 0, 1]))
    assert "label 3 is not one of 0 .. 2" in refused("sample", run, "--label", 3)
    with pytest.raises(ValueError, match="the classes of this run have no names"):
        saved.sample(1, labels="one")


def test_it_resumes_to_the_same_bits(run, tmp_path):
    folder = tmp_path / "part"
    train(folder, *INFO, "--steps", 2, "--checkpoint-every", 2, "--ema", 0.9)
    assert cli("train", "--resume", folder, "--steps", 4).status == 0
    assert_same_run(folder, run)


def test_its_metrics_have_the_losses_of_both_codes(run):
    for row in metrics(run):
        assert {"class_d", "class_g", "code_d", "code_g"} <= row.keys()
        assert "class_agreement" not in row


def test_evaluate_doctor_report_and_export_take_it(run, tmp_path):
    result = cli("evaluate", run, "--json", "--only", "quick")
    assert result.status == 0, result
    assert "label_agreement" not in result.out
    text = cli("evaluate", run, "--only", "label_agreement").out
    assert "label_agreement: it is for conditional runs of data of two or more classes" in text
    assert "ignored-labels" not in cli("doctor", run).out
    assert cli("report", run, "--out", tmp_path / "r.html").status == 0
    assert "infogan" in (tmp_path / "r.html").read_text()
    result = cli("export", run, "--torch", tmp_path / "g.safetensors")
    assert result.status == 0, result


def test_data_without_labels_and_a_preset(tmp_path):
    words = ["--data", "swiss-roll", "--samples", 100, "--device", "reference", "--steps", 1]
    result = train(tmp_path / "run", "--preset", "infogan", *words)
    assert "swiss-roll, 100 samples of shape (2,)\n" in result.out  # and of no classes
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["condition"], config["codes"], config["categories"]) == ("infogan", 2, 10)


def test_labels_that_are_not_used_are_said(tmp_path):
    result = train(tmp_path / "run", *INFO, "--steps", 1)
    assert "not used by --condition infogan" in result.err


def test_its_codes_are_what_a_traversal_moves(run):
    saved = mg.load_run(run)
    strips = saved.traverse(n=2, frames=3, seed=4, labels=1)
    assert strips.shape == (1, 2, 3, 2)
    with mg.engine.random.use_generator(mg.engine.random.Generator(4)):
        z = saved.sampler.players.latent(2, "samples").numpy()
    for i, code in enumerate((-2, 0, 2)):
        z[:, 0] = code
        expected = saved.sampler.generate(mg.tensor(z, device="reference"), np.array([1, 1]))
        np.testing.assert_allclose(strips[0, :, i], expected, rtol=1e-5, atol=1e-6)
    assert "--n 2: this run has codes = 1" in refused("sample", run, "--traverse", "--n", 2)


def test_a_checkpoint_describes_the_data_and_not_the_codes():
    """Names of classes and their number must agree, or the run could not be loaded."""
    names = ("ant", "bee", "cat", "dog")
    values, labels = np.arange(40.0).reshape(20, 2), np.arange(20) % 4
    data = Dataset("named", values, labels, 4, class_names=names)
    config = mg.Config(model="toy", condition="infogan", categories=3, batch=4, device="reference")
    tensors, info = mg.Trainer(config, data).state()
    assert (info["data"]["classes"], info["data"]["class_names"]) == (4, list(names))
    check_sampler_state(tensors, info)
