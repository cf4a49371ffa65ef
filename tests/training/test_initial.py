"""A new run from the weights of another one, and options that a resumed run may change."""

import json
import shutil
import warnings

import numpy as np
import pytest
from run_helpers import assert_same_run, cli, files, metrics, refused, train

import minigan as mg
from minigan import Config, Trainer
from minigan.training.resume import load_trainer, resume
from minigan.training.run_folder import RunError
from minigan.utils.notices import Notice

RING = ["--data", "ring", "--samples", 300, "--batch", 16, "--device", "reference"]
RING += ["--log-every", 4, "--checkpoint-every", 5, "--sample-every", 1000]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("initial") / "source"
    words = ["--model", "toy-relu", "--latent", "uniform", "--latent-size", 3, "--ema", 0.5]
    train(folder, *RING, *words, "--steps", 4)
    return folder


def parts(folder, *names):
    tensors, _ = mg.load(folder / "checkpoint.safetensors")
    return {k: x for k, x in tensors.items() if k.split(".")[0] in names}


# ---------------------------------------------------------------------------------- --init-from
def test_a_run_starts_at_the_weights_of_another(source, tmp_path):
    config = Config(data="grid", samples=200, init_from=str(source), ema=0.9, device="reference")
    trainer = Trainer(config.replace(model="toy-relu", latent_size=3))
    tensors, _ = trainer.state()
    expected = parts(source, "generator", "discriminator", "average")
    assert len(expected) == 3 * 6 + 1  # the average counts its updates
    for name, x in expected.items():
        assert np.array_equal(tensors[name], x)
    optimizer = {k: x for k, x in tensors.items() if k.startswith("optimizer_g.mean")}
    assert optimizer
    assert not any(x.any() for x in optimizer.values())
    assert trainer.step_count == 0


def test_the_command_takes_the_options_of_the_nets_and_stores_where_they_are_from(source, tmp_path):
    words = [*RING, "--init-from", source, "--loss", "hinge", "--lr", 0.001, "--ema", 0.9]
    result = train(tmp_path / "run", *words, "--steps", 3)
    assert f"parameters, from {source}; 3 steps" in result.err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    expected = {"init_from": str(source), "model": "toy-relu", "latent": "uniform"}
    expected |= {"latent_size": 3, "loss": "hinge", "steps": 3, "lr_g": 0.001}
    assert expected.items() <= config.items()
    assert f"init_from = {source}" in cli("info", tmp_path / "run").out


def test_another_split_of_the_same_data_is_said(source):
    """The held-out samples of the new run have trained the weights."""
    points = np.random.default_rng(0).normal(size=(60, 2))
    data = mg.data.Dataset("points", points.astype(np.float32))
    nets = {"model": "toy", "device": "reference", "batch": 8}
    folder = source.parent / "split"
    mg.train(Config(steps=1, **nets), data, out=folder)
    same = Config(init_from=str(folder), **nets)
    for config in (same.replace(seed=1), same.replace(holdout=0.2)):
        with pytest.warns(Notice, match="it held out other samples of the same data"):
            Trainer(config, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(same, data)
        Trainer(same.replace(holdout=0.0), data)


def test_a_new_average_starts_at_the_generator_and_an_unused_one_is_said(source, tmp_path):
    plain = tmp_path / "plain"
    train(plain, *RING, "--steps", 2)
    trainer = Trainer(Config(data="ring", samples=99, ema=0.9, init_from=str(plain)))
    tensors, _ = trainer.state()
    generator = parts(plain, "generator")
    assert all(np.array_equal(tensors[f"average.{k[10:]}"], x) for k, x in generator.items())
    result = cli("train", *RING, "--init-from", source, "--steps", 1, "--out", tmp_path / "run")
    (line,) = result.errors
    assert line.endswith(
        f"init_from {source}: its average of G is not used, as this run has ema = 0"
    )


def test_it_goes_on_to_the_same_bits_without_the_other_run(source, tmp_path):
    other = shutil.copytree(source, tmp_path / "other")
    words = [*RING, "--init-from", other, "--ema", 0.9]
    train(tmp_path / "a", *words, "--steps", 9)
    train(tmp_path / "b", *words, "--steps", 5)
    shutil.rmtree(other)
    assert cli("train", "--resume", tmp_path / "b", "--steps", 9).status == 0
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert cli("sample", tmp_path / "b").status == 0


def test_killed_before_the_first_checkpoint_it_starts_there_again(source, tmp_path):
    words = [*RING, "--init-from", source, "--ema", 0.9, "--steps", 3]
    train(tmp_path / "a", *words)
    cut = shutil.copytree(tmp_path / "a", tmp_path / "cut")
    for name in files(cut):
        if name != "config.json":
            (cut / name).unlink()
    assert cli("train", "--resume", cut).status == 0
    assert_same_run(tmp_path / "a", cut)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "toy"], "its nets have model = 'toy-relu' (here 'toy'); a new run starts"),
        (["--latent-size", 4, "--pack", 2], "pack = 1 (here 2), latent_size = 3 (here 4)"),
        (["--condition", "concat"], "condition = 'none' (here 'concat'), classes"),
        (["--data", "glyphs", "--model", "mlp"], "model = 'toy-relu' (here 'mlp'), sample shape = "
         "(2,) (here (1, 28, 28))"),
    ],
)  # fmt: skip
def test_nets_that_do_not_fit_are_refused_with_what_differs(source, tmp_path, words, message):
    options = [*RING[2:], *(() if "--data" in words else RING[:2]), *words, "--ema", 0.9]
    line = refused("train", *options, "--init-from", source, "--out", tmp_path / "run")
    if "classes" in message:  # the ring has as many
        message = message.removesuffix(", classes")
    assert f"init_from {source}: " in line
    assert message in line
    assert not (tmp_path / "run").exists()


def test_other_classes_are_refused_and_other_names_are_said(tmp_path, rng):
    values, labels = rng.standard_normal((60, 2)).astype(np.float32), np.arange(60) % 3
    config = Config(data="ring", samples=300, condition="concat", steps=1, device="reference")
    train(tmp_path / "run", *RING, "--condition", "concat", "--steps", 1)
    config = config.replace(init_from=str(tmp_path / "run"), batch=8)
    with pytest.raises(RunError, match=r"its nets have classes = 8 \(here 3\)"):
        Trainer(config, mg.data.Dataset("d", values, labels))
    named = mg.data.Dataset("d", values, labels, classes=8, class_names=tuple("abcdefgh"))
    with pytest.warns(Notice, match="its classes are numbered, those of this run a, b, c, d, e"):
        Trainer(config, named)


@pytest.mark.parametrize("kind", ["none", "no checkpoint", "resume"])
def test_what_is_no_run_to_start_from(source, tmp_path, kind):
    folder = tmp_path / "other"
    words = [*RING, "--init-from", folder, "--out", tmp_path / "run"]
    message = "is not a run"
    if kind != "none":
        shutil.copytree(source, folder)
    if kind == "no checkpoint":
        (folder / "checkpoint.safetensors").unlink()
        message = "there is no checkpoint"
    if kind == "resume":
        words = ["--resume", source, "--init-from", folder]
        message = "goes on with that run's own options: init_from = None"
    assert message in refused("train", *words)
    assert not (tmp_path / "run").exists()


# ----------------------------------------------------------- what a resumed run may change
def test_resume_changes_what_does_not_touch_the_bits(tmp_path):
    run, straight = tmp_path / "run", tmp_path / "straight"
    train(run, *RING, "--steps", 10)
    train(straight, *RING, "--steps", 20)
    words = ["--log-every", 3, "--sample-every", 7, "--checkpoint-every", 2, "--keep", 1]
    assert cli("train", "--resume", run, "--steps", 16, *words).status == 0
    # Lines every 4 steps up to the checkpoint at 10, every 3 after it, and the last one.
    steps = [1, 5, 9, 13, 16]
    assert [row["step"] for row in metrics(run)] == steps
    config = json.loads((run / "config.json").read_text())
    assert [config[x] for x in ("log_every", "sample_every", "keep")] == [3, 7, 1]
    assert (run / "samples" / "step_000014.png").exists()
    assert mg.load(run / "checkpoint.safetensors")[1]["log_every"] == [[1, 4], [11, 3]]
    assert cli("train", "--resume", run, "--steps", 18).status == 0  # the new options stay
    assert [row["step"] for row in metrics(run)] == [1, 5, 9, 13, 16, 18]
    assert cli("train", "--resume", run, "--steps", 20, "--log-every", 4).status == 0
    assert [row["step"] for row in metrics(run)] == [1, 5, 9, 13, 16, 20]
    names = ("generator", "discriminator", "optimizer_g", "optimizer_d", "fixed_latent", "batches")
    a, b = (parts(x, *names) for x in (run, straight))
    assert len(a) > 20
    assert all(np.array_equal(a[name], b[name]) for name in a)
    shared = {row["step"]: without_changes(row) for row in metrics(straight)}
    rows = [without_changes(row) for row in metrics(run) if row["step"] in shared]
    assert len(rows) > 4
    assert all(row == shared[row["step"]] for row in rows)


def without_changes(row):
    """A line without the gauges that are changes since the line before."""
    changes = ("movement", "drift", "rotation", "update")
    return {name: x for name, x in row.items() if not name.startswith(changes)}


def test_a_run_killed_after_its_log_every_changed_goes_on(tmp_path):
    """The new config.json is written, and lines, but no checkpoint after the one at step 5."""
    run = tmp_path / "run"
    train(run, *RING, "--steps", 5)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"log_every": 2, "steps": 9}))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss_d": 0.1, "loss_g": 0.1}\n{"step": 9, "lo')
    assert cli("train", "--resume", run).status == 0
    assert [row["step"] for row in metrics(run)] == [1, 5, 7, 9]
    assert all(row["loss_d"] != 0.1 for row in metrics(run))


def test_another_device_is_said(tmp_path):
    train(tmp_path / "run", *RING, "--steps", 2)
    result = cli("train", "--resume", tmp_path / "run", "--steps", 3, "--device", "cpu")
    assert result.status == 0
    (line,) = result.errors
    assert "began on reference and continues on cpu: they round differently" in line
    assert load_trainer(tmp_path / "run").device.name == "cpu"


def test_python_changes_the_same_options_and_no_others(tmp_path):
    train(tmp_path / "run", *RING, "--steps", 2)
    run = resume(tmp_path / "run", steps=4, sample_every=3)
    assert (run.config.sample_every, run.config.steps) == (3, 4)
    with pytest.raises(RunError, match="goes on with its own batch"):
        resume(tmp_path / "run", batch=2)


@pytest.mark.parametrize(
    "value", [3, [], [[1]], [[1, 0]], [[0, 4]], [[1, 4], [1, 3]], [[1, "4"]], [[1, 4], None]]
)
def test_odd_log_intervals_in_a_checkpoint(tmp_path_factory, source, tmp_path, value):
    run = shutil.copytree(source, tmp_path / "run")
    tensors, info = mg.load(run / "checkpoint.safetensors")
    mg.save(run / "checkpoint.safetensors", tensors, info | {"log_every": value})
    assert "log_every" in refused("train", "--resume", run, "--steps", 5)
