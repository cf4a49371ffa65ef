"""Bad input is reported in one line, with exit status 2; nothing is lost or half-written."""

import shutil

import numpy as np
import pytest
from PIL import Image
from run_helpers import RING, assert_whole, cli, files, refused, sha256, train

from minigan.training.resume import load_trainer, resume
from minigan.training.trainer import DivergedError


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(folder, *RING, "--steps", 10)
    return folder


@pytest.fixture
def a_run(whole_run, tmp_path):
    """A copy, to break."""
    return shutil.copytree(whole_run, tmp_path / "run")


# ------------------------------------------------------------------------------------------ words
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'? (the nearest of 13: train, "),
        (["train", "--stesp", "3"], "unknown option '--stesp'; did you mean '--steps'?"),
        (["train", "--bacth=3"], "unknown option '--bacth'; did you mean '--batch'?"),
        (["info", "--verbose"], "unknown option '--verbose' (accepted: --help)"),
        (["--hlep"], "unknown option '--hlep'; did you mean '--help'?"),
        (["sample"], "the following arguments are required: RUN"),
        (["train", "--steps"], "argument --steps: expected one argument"),
        (["train", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["train", "--lr", "fast"], "argument --lr: invalid float value: 'fast'"),
        (["sample", "run", "--n", "2.5"], "argument --n: invalid int value"),
    ],
)
def test_words_that_are_no_commands_and_no_options(words, message):
    result = cli(*words)
    assert (result.status, result.out) == (2, "")
    assert len(result.errors) == 1
    assert message in result.errors[0]
    assert "--help)" in result.errors[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--data", "glyhps"],
            "unknown data 'glyhps'; did you mean 'glyphs'? (accepted: glyphs, glyphs-sans",
        ),
        (["--data", "rings"], "unknown data 'rings'; did you mean 'ring'?"),
        (["--data", "no/such/folder"], "no folder of images and no .npz at no/such/folder"),
        (["--data", "none.npz"], "no .npz at none.npz"),
        (["--split", "valid"], "unknown split 'valid' (accepted: train, test)"),
        (["--data", "ring", "--data-dir", "x"], "data_dir is for mnist and fashion-mnist only"),
        (["--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
        (["--model", "mpl"], "unknown model 'mpl'; did you mean 'mlp'? (the nearest of 11: mlp, "),
        (["--loss", "hinged"], "unknown loss 'hinged'; did you mean 'hinge'? (accepted: "),
        (["--loss", "minmax"], "unknown loss 'minmax'; did you mean 'minimax'?"),
        (["--preset", "torch-mlp"], "unknown preset 'torch-mlp'; did you mean 'pytorch-mlp'?"),
        (["--device", "cpus"], "unknown device 'cpus'; did you mean 'cpu'? (accepted: reference"),
        (["--latent", "normla"], "unknown latent 'normla'; did you mean 'normal'?"),
        (["--steps", "0"], "steps = 0 is not a positive integer"),
        (["--steps", "-5"], "steps = -5 is not a positive integer"),
        (["--batch", "0"], "batch = 0 is not a positive integer"),
        (["--samples", "-1"], "samples = -1 is not a positive integer"),
        (["--latent-size", "0"], "latent_size = 0 is not a positive integer"),
        (["--n-critic", "0"], "n_critic = 0 is not a positive integer"),
        (["--n-generator", "-1"], "n_generator = -1 is not a positive integer"),
        (["--log-every", "0"], "log_every = 0 is not a positive integer"),
        (["--lr", "-1"], "lr_g = -1.0 is not a positive number"),
        (["--lr-d", "nan"], "lr_d = nan is not a positive number"),
        (["--lr-g", "inf"], "lr_g = inf is not a positive number"),
        (["--beta1", "1"], "beta1 = 1.0 is not in [0, 1)"),
        (["--smooth", "2"], "smooth = 2.0 is not in (0.5, 1]"),
        (["--holdout", "1"], "holdout = 1.0 is not in [0, 1)"),
        (["--seed", "-1"], "seed = -1 is not an integer in [0, 2^64)"),
        (["--seed", str(2**64)], "is not an integer in [0, 2^64)"),
        (
            ["--data", "ring", "--samples", "50"],
            "batch = 64, but ring has only 45 training samples",
        ),
        (["--data", "ring", "--samples", "4", "--batch", "1"], "holdout fraction 0.1 of 4 samples"),
    ],
)
def test_values_that_are_not_accepted(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("train", *words)
    assert message in refused("train", *words, "--out", "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "RUN", "--n", "0"], "--n 0 is not a positive number"),
        (["sample", "RUN", "--n", "-2"], "--n -2 is not a positive number"),
        (["sample", "RUN", "--seed", "-1"], "-1 is outside [0, 2**64)"),
        (["sample", "RUN", "--seed", str(2**64)], "is outside [0, 2**64)"),
        (["sample", "RUN", "--out", "a.gif"], "a.gif: a name that ends in .png or .npz is needed"),
        (["sample", "RUN", "--out", "no/a.png"], "--out no/a.png: there is no folder no"),
        (["evaluate", "RUN", "--projections", "-1"], "projections = -1 is not positive"),
        (["check", "--op", "tahn"], "unknown op 'tahn'; did you mean 'tanh'?"),
        (["check", "--op", "tanh", "--order", "0"], "--order 0 is not a positive integer"),
        (["check", "--device", "cuda9"], "unknown device 'cuda9'"),
    ],
)
def test_values_of_other_commands(a_run, words, message):
    before = files(a_run)
    assert message in refused(*(a_run if word == "RUN" else word for word in words))
    assert files(a_run) == before


# ------------------------------------------------------------------------------------------- data
def test_data_that_cannot_be_used(tmp_path, rng):
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    points = rng.standard_normal((99, 2))
    points[3, 1] = np.nan
    np.savez(tmp_path / "nan.npz", x=points)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "nan.npz").read_bytes()[:500])
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"\x89PNG broken")
    before = files(tmp_path)
    for name, message in (
        ("empty", "no images in it"),
        ("objects.npz", "not an .npz that can be read"),
        ("nan.npz", "1 of 198 values are NaN or infinite in float32, the first at (3, 1)"),
        ("cut.npz", "not an .npz that can be read"),
        ("images", "b.png: not an image that can be read"),
    ):
        complaint = refused("train", "--data", tmp_path / name, "--out", tmp_path / "out")
        assert message in complaint
        assert str(tmp_path / name) in complaint
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------- divergence
def test_a_loss_that_diverges_is_named_with_its_step(tmp_path):
    folder = tmp_path / "run"
    complaint = refused("train", *RING, "--lr", "1e30", "--steps", 9, "--out", folder)
    assert "loss_g became nan at step 1" in complaint
    assert f"{folder / 'checkpoint.safetensors'} is still the last good state" in complaint
    assert load_trainer(folder).step_count == 0
    assert_whole(folder)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_run_that_diverges_later_keeps_its_last_good_checkpoint(a_run, poison):
    before = sha256(a_run / "checkpoint.safetensors")
    run_ = resume(a_run, steps=30)
    taken = run_.trainer.step

    def step(norms):
        row = taken(norms)
        if run_.trainer.step_count == 14:
            state = run_.trainer.generator.state_dict()
            state["0.bias"][3] = poison
            run_.trainer.generator.load_state_dict(state)
        return row

    run_.trainer.step = step
    with pytest.raises(DivergedError, match=r"became nan at step 15; .* is still the last good"):
        run_.train(progress=False)
    assert sha256(a_run / "checkpoint.safetensors") == before
    assert load_trainer(a_run).step_count == 10


def test_weights_that_are_not_finite_are_neither_saved_nor_drawn(a_run):
    before = files(a_run)
    run_ = resume(a_run)
    state = run_.trainer.generator.state_dict()
    state["0.weight"][1, 1] = np.nan
    run_.trainer.generator.load_state_dict(state)
    with pytest.raises(DivergedError, match=r"generator.0.weight is not finite at step 10"):
        run_.save()
    with pytest.raises(DivergedError, match="samples are not finite at step 10"):
        run_.pictures.draw_samples()
    assert files(a_run) == before
