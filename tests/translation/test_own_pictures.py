"""Arrays and pictures of a user's own, as a saved net takes them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from run_helpers import cli, refused, train

import minigan as mg
from minigan.data import DataError, DataWarning, load
from minigan.data.dataset import from_bytes
from minigan.training.run_folder import RunError
from minigan.translation import saved
from minigan.translation.files import read_picture
from minigan.translation.saved import load_translation

SMALL = ["--data", "glyphs", "--samples", 80, "--batch", 4, "--width", 4, "--log-every", 2]
SMALL += ["--steps", 3]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "denoise"
    train(folder, "--task", "denoise", *SMALL)
    return folder


@pytest.fixture(scope="module")
def net(run):
    return load_translation(run)


def test_bytes_are_taken_as_bytes(net):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    assert (net.translate(pixels) == net.translate(from_bytes(pixels))).all()
    assert (net.translate(mg.tensor(from_bytes(pixels))) == net.translate(pixels)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((1, 1, 8, 8), 255.0), r"in \[0, 255\]; floats in \[-1, 1\]"),
        (np.full((1, 1, 8, 8), np.nan), "NaN or infinity"),
        (np.full((1, 1, 8, 8), "a"), "numbers are needed"),
    ],
)
def test_other_numbers_are_refused(net, values, message):
    with pytest.raises(ValueError, match=message):
        net.translate(values)


def test_numbers_from_zero_to_one_are_questioned(net):
    values = np.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    with pytest.warns(DataWarning, match="0 is taken as grey"):
        net.translate(values)


def make_weights_large(module):
    """Draw weights that keep the size of activations, so that far pixels matter."""
    rng, state = np.random.default_rng(0), module.state_dict()
    for name, x in state.items():
        if x.ndim == 4:
            deviation = 1.5 / np.sqrt(np.prod(x.shape[1:]))
            state[name] = rng.normal(0, deviation, x.shape).astype(x.dtype)
    module.load_state_dict(state)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("depth", "blocks"), [(1, 1), (2, 2), (3, 1)])
def test_large_images_are_taken_in_parts_without_a_seam(tmp_path, monkeypatch, norm, depth, blocks):
    config = mg.TranslationConfig(
        task="denoise", norm=norm, depth=depth, blocks=blocks, width=4, steps=2, batch=4
    )
    x = np.random.default_rng(0).uniform(-1, 1, (20, 1, 16, 16)).astype(np.float32)
    net = mg.train_translation(config, x, out=tmp_path / "run", progress=False)
    image = np.random.default_rng(1).uniform(-1, 1, (1, 1, 100, 83)).astype(np.float32)
    make_weights_large(net.players.generators)
    whole = net.translate(image)
    monkeypatch.setattr(saved, "TILE", 32)
    np.testing.assert_allclose(net.translate(image), whole, atol=1e-5)
    monkeypatch.setattr(saved, "_reach", lambda config: 2**depth)
    assert np.abs(net.translate(image) - whole).max() > 1e-3  # the test sees a seam


def test_instance_norm_has_a_limit(tmp_path, monkeypatch):
    x = np.random.default_rng(0).uniform(-1, 1, (20, 1, 8, 8)).astype(np.float32)
    config = mg.TranslationConfig(task="denoise", norm="instance", width=4, steps=2, batch=4)
    net = mg.train_translation(config, x, out=tmp_path / "run", progress=False)
    monkeypatch.setattr(saved, "TILE", 8)
    monkeypatch.setattr(saved, "MAX_WHOLE", 200)
    with pytest.raises(ValueError, match="16x16 pixels; with instance norm"):
        net.translate(np.zeros((1, 1, 16, 16)) - 1)


# ----------------------------------------------------------------------------------- files
def test_a_picture_is_made_grey_as_those_of_the_training(net, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "p.png")
    image, note = read_picture(tmp_path / "photos" / "p.png", net)
    assert "taken as grey" in note
    np.testing.assert_array_equal(image, load(tmp_path / "photos", grey=True).values)


def test_transparency_and_animations_are_treated_as_in_the_training(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(20):
        clear = np.random.default_rng(i).integers(0, 256, (8, 8, 4), dtype=np.uint8)
        clear[:4, :, 3] = 0
        Image.fromarray(clear).save(tmp_path / "photos" / f"{i}.png")
    words = ["--task", "denoise", *SMALL, "--data", tmp_path / "photos", "--background", "white"]
    result = cli("train", *words[:-6], *words[-4:], "--samples", 20, "--out", tmp_path / "run")
    assert result.status == 0, result
    net = load_translation(tmp_path / "run")
    image, note = read_picture(tmp_path / "photos" / "0.png", net)
    assert (image[:, :, :4] == 1).all()
    assert note == "transparent, and blended with the background colour of the training"
    frames = [Image.fromarray(np.full((8, 8, 3), k, np.uint8)) for k in (10, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    _, note = read_picture(tmp_path / "film.gif", net)
    assert "the first image of an animation" in note


def test_an_inverted_mask_is_questioned(tmp_path):
    train(tmp_path / "run", "--task", "inpaint", *SMALL)
    Image.fromarray(np.full((12, 12), 90, np.uint8)).save(tmp_path / "p.png")
    mask = np.full((12, 12), 255, np.uint8)
    mask[3:6, 3:6] = 0
    Image.fromarray(mask).save(tmp_path / "m.png")
    words = ["translate", tmp_path / "run", tmp_path / "p.png", "--mask", tmp_path / "m.png"]
    result = cli(*words, "--out", tmp_path / "out")
    assert result.status == 0
    assert "94% of it is white, and is filled; is it inverted?" in result.err


def test_nothing_is_written_where_a_later_picture_cannot_be_read(run, tmp_path):
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    words = ["translate", run, tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out"]
    assert "b.png" in refused(*words)
    assert not (tmp_path / "out" / "a.png").exists()


def test_lines_on_white_are_no_outline(tmp_path):
    train(tmp_path / "run", "--task", "outline", *SMALL)
    lines = np.full((12, 12), 255, np.uint8)
    lines[2:9, 4] = 0
    Image.fromarray(lines).save(tmp_path / "lines.png")
    words = ["translate", tmp_path / "run", tmp_path / "lines.png", "--out", tmp_path / "out"]
    assert "more than half of it is white" in refused(*words)
    with pytest.raises(DataError, match="without grey"):
        load_translation(tmp_path / "run").translate(np.zeros((1, 1, 8, 8)))


# ------------------------------------------------------------------------------ a schedule's end
def test_a_run_whose_rates_have_come_to_nothing_is_not_extended(run, tmp_path):
    assert "learning rates are 0" in refused("train", "--resume", run, "--steps", 9)
    with pytest.raises(RunError, match="a new run with --steps 9 is needed"):
        mg.train_translation(resume=run, steps=9, progress=False)
    result = cli("train", "--resume", run)
    assert "its learning rates have come to 0" in result.out
    words = ["--task", "denoise", *SMALL, "--schedule-steps", 2, "--out", tmp_path / "x"]
    assert "change nothing" in cli("train", *words).err


def test_a_run_without_a_checkpoint_begins_anew_and_says_so(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((run / "config.json").read_bytes())
    result = cli("train", "--resume", tmp_path / "run")
    assert result.status == 0, result
    assert "has no checkpoint: it begins at step 0" in result.err
