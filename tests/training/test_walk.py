"""Walks between latents: lerp and slerp, `run.walk`, and `minigan sample --walk`."""

import numpy as np
import pytest
from export_helpers import make_sampler
from PIL import Image
from run_helpers import cli, files, refused, train

import minigan as mg
from minigan.engine.latents import LATENTS
from minigan.training.walk import INTERPOLATIONS, lerp, slerp

WORDS = ["--batch", 4, "--steps", 2, "--device", "reference", "--sample-every", 1]
T = np.linspace(0, 1, 11)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs on images of three classes, on images with uniform latents, and on points."""
    root = tmp_path_factory.mktemp("walk")
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    np.savez(root / "d.npz", images=rng.random((30, 1, 5, 6), np.float32), labels=labels)
    images = ["--data", root / "d.npz", "--value-range", "0,1", *WORDS]
    train(root / "named", *images, "--condition", "concat")
    train(root / "uniform", *images, "--latent", "uniform", "--latent-size", 3)
    train(root / "points", "--data", "ring", "--samples", 100, *WORDS)
    return root


# ---------------------------------------------------------------------------------- interpolation
@pytest.fixture
def ends():
    return np.random.default_rng(1).standard_normal((2, 50, 100)).astype("f4")


@pytest.mark.parametrize("path", [lerp, slerp])
def test_both_ends_are_exact_and_equal_latents_stay(path, ends):
    a, b = ends.astype("f8")
    walks = path(a, b, T)
    assert walks.shape == (50, 11, 100)
    assert np.array_equal(walks[:, 0], a)
    assert np.array_equal(walks[:, -1], b)
    same = path(a, a, T)
    assert np.abs(same - a[:, None]).max() < 1e-14
    scaled = path(a, 3 * a, T)  # of one direction: both are the straight line
    assert np.abs(scaled - (1 + 2 * T[:, None]) * a[:, None]).max() < 1e-13


def test_an_arc_keeps_the_norm_and_a_straight_line_of_normals_shortens_it(ends):
    a, b = (10 * x / np.linalg.norm(x, axis=1, keepdims=True) for x in ends.astype("f8"))
    norms = np.linalg.norm(slerp(a, b, T), axis=2)
    assert np.abs(norms - 10).max() < 1e-13
    middle = np.linalg.norm(lerp(a, b, T)[:, 5], axis=1)
    # |(a + b) / 2|^2 = (1 + cos) |a|^2 / 2, and the cosines of independent normals are near 0.
    cosine = (a * b).sum(1) / 100
    assert np.abs(middle - 10 * np.sqrt((1 + cosine) / 2)).max() < 1e-13
    assert 6.8 < middle.mean() < 7.3
    unequal = np.linalg.norm(slerp(*ends, T), axis=2)  # linear from one norm to the other
    first, last = unequal[:, :1], unequal[:, -1:]
    assert np.abs(unequal - (first + T * (last - first))).max() < 1e-13


def test_an_arc_has_a_constant_speed_and_is_whites_formula_for_equal_norms(ends):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in ends.astype("f8"))
    walks = slerp(a, b, T)
    omega = np.arccos((a * b).sum(1))[:, None, None]
    t = T[:, None]
    white = np.sin((1 - t) * omega) * a[:, None] + np.sin(t * omega) * b[:, None]
    assert np.abs(walks - white / np.sin(omega)).max() < 1e-13
    steps = np.linalg.norm(np.diff(walks, axis=1), axis=2)
    assert np.abs(steps - 2 * np.sin(omega[:, 0] / 20)).max() < 1e-13


@pytest.mark.parametrize("off", [0.0, 1e-14, 1e-9, 1e-3])
def test_antipodal_latents_are_joined_by_a_half_circle(off):
    a = np.array([[3.0, 0.0, 0.0, 1.0]])
    b = -a + off * np.array([[0.0, 1.0, 0.0, 0.0]])
    walk = slerp(a, b, T)[0]
    norms = np.linalg.norm(walk, axis=1)
    assert np.abs(norms - norms[0]).max() < 1e-6
    steps = np.linalg.norm(np.diff(walk, axis=0), axis=1)
    assert np.abs(steps - 2 * norms[0] * np.sin(np.pi / 20)).max() < 1e-3
    assert np.array_equal(walk[-1], b[0])
    assert abs(walk[5] @ a[0]) < 1e-2  # the middle is perpendicular to both
    along_an_axis = slerp(a[:, :2], -a[:, :2], T)[0]
    assert np.abs(np.linalg.norm(along_an_axis, axis=1) - 3).max() < 1e-14


def test_where_there_is_no_arc_the_way_is_straight():
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert np.array_equal(slerp(zero, one, T), lerp(zero, one, T))
    assert np.array_equal(slerp(one[:, :1], -2 * one[:, :1], T)[0, :, 0], 1 - 3 * T)


# ------------------------------------------------------------------------------------------- runs
def test_a_walk_leads_from_the_samples_of_a_seed_to_those_of_the_next(runs):
    for name in ("named", "uniform", "points"):
        run = mg.load_run(runs / name, device="cpu")  # whose bits do not depend on the batch
        walks = run.walk(5, 4, seed=7)
        assert walks.shape == (5, 4, *run.sampler.shape)
        assert np.array_equal(walks[:, 0], run.sample(5, 7))
        assert np.array_equal(walks[:, -1], run.sample(5, 8))
        assert len(np.unique(walks.reshape(5, 4, -1), axis=1)[0]) == 4


@pytest.mark.parametrize("latent", LATENTS)
def test_every_distribution_of_latents_has_a_walk(latent):
    sampler = make_sampler("toy", latent=latent, latent_size=3)
    walks = sampler.walk(2, 3)
    default = LATENTS[latent].interpolation
    assert np.array_equal(walks, sampler.walk(2, 3, interpolation=default))
    assert np.isfinite(walks).all()


def test_the_help_names_the_distributions_with_straight_walks():
    assert {x.interpolation for x in LATENTS.values()} == INTERPOLATIONS.keys()
    straight = [name for name, x in LATENTS.items() if x.interpolation == "lerp"]
    text = " ".join(cli("sample", "--help").out.split())
    assert f"[slerp; for {' and '.join(straight)} latents lerp]" in text


def test_the_default_is_an_arc_and_for_uniform_latents_a_straight_line(runs):
    for name, default, other in (("named", "slerp", "lerp"), ("uniform", "lerp", "slerp")):
        run = mg.load_run(runs / name)
        walks = run.walk(3, 5)
        assert np.array_equal(walks, run.walk(3, 5, interpolation=default))
        assert not np.array_equal(walks, run.walk(3, 5, interpolation=other))
    with pytest.raises(ValueError, match="unknown interpolation 'slrp'; did you mean 'slerp'"):
        run.walk(3, interpolation="slrp")
    with pytest.raises(ValueError, match="frames = 1: a path has at least its two ends"):
        run.walk(3, 1)


def test_a_walk_keeps_its_class(runs):
    run = mg.load_run(runs / "named", device="cpu")
    walks = run.walk(4, 6, labels=[2, 0, 0, 1])
    assert np.array_equal(walks[:, 0], run.sample(4, 0, [2, 0, 0, 1]))
    assert np.array_equal(walks[:, -1], run.sample(4, 1, [2, 0, 0, 1]))
    ones = run.walk(4, 6, labels=1)
    assert np.array_equal(walks[3], ones[3])
    for i in range(3):  # along the way too: no other class gives any of its samples
        assert (walks[i] != ones[i]).any(axis=(1, 2, 3)).all()
    with pytest.raises(ValueError, match=r"label 3 is not one of 0 \.\. 2"):
        run.walk(4, labels=3)
    with pytest.raises(ValueError, match="labels are int64 of shape"):
        run.walk(4, labels=[0, 1])


# -------------------------------------------------------------------------------- the command line
def test_a_walk_is_a_picture_with_a_row_for_each_and_an_endless_gif(runs):
    result = cli("sample", runs / "named", "--walk", "--n", 3, "--frames", 12, "--label", "2")
    stem = runs / "named" / "walk_12_step_000002_seed_0_n_3_label_2"
    assert result.out == f"{stem}.png\n{stem}.gif\n", result
    picture = Image.open(f"{stem}.png")
    scale = 12  # 5 pixels are enlarged to at least 56
    # Ten of the twelve images in a row of 7 pixels and a line each; the first has the class.
    assert picture.size == (scale * (10 * 7 + 1), 19 + scale * (3 * 6 + 1))
    samples = mg.load_run(runs / "named").walk(3, 12, labels=2)
    row, column = 19 + scale * (1 + 6), scale  # the first pixel of the second row
    pixel = np.rint((samples[1, 0, 0, 0, 0] + 1) * 127.5)
    assert picture.getpixel((column, row)) == pixel
    last = picture.getpixel((scale * (1 + 9 * 7), row))
    assert last == np.rint((samples[1, -1, 0, 0, 0] + 1) * 127.5)
    assert picture.text["seed"] == "0"
    with Image.open(f"{stem}.gif") as gif:
        assert gif.info["loop"] == 0
        total = 0
        for i in range(gif.n_frames):
            gif.seek(i)
            total += gif.info["duration"]
        assert total == 80 * (12 + 10)  # there, and back without the ends


def test_walks_of_points_are_curves_over_the_data(runs):
    result = cli("sample", runs / "points", "--walk", "--frames", 3, "--interpolation", "lerp")
    stem = runs / "points" / "walk_lerp_3_step_000002_seed_0_n_8"
    assert result.out == f"{stem}.png\n{stem}.gif\n", result
    assert Image.open(f"{stem}.png").size == (600, 600)
    with Image.open(f"{stem}.gif") as gif:
        assert gif.size == (500, 500)
        assert gif.n_frames == 4


def test_a_sheet_holds_so_many_walks(runs):
    # A cell is (5 + 1) * (6 + 1) * 12 * 12 pixels: 2^23 pixels hold 1,387 of them, 138 rows.
    line = refused("sample", runs / "named", "--walk", "--n", 139)
    assert "--n 139: a sheet holds at most 138 walks of this run; --out FILE.npz writes an" in line


def test_arrays_of_walks(runs, tmp_path):
    words = ["--walk", "--n", 2, "--frames", 5, "--out", tmp_path / "w.npz"]
    assert cli("sample", runs / "named", *words).out == f"{tmp_path / 'w.npz'}\n"
    with np.load(tmp_path / "w.npz") as arrays:
        assert np.array_equal(arrays["samples"], mg.load_run(runs / "named").walk(2, 5))
        assert arrays["labels"].tolist() == [0, 1]
    assert list(files(tmp_path)) == ["w.npz"]


def test_options_that_do_not_fit_and_files_that_exist(runs, tmp_path):
    run = runs / "points"
    before = files(run)
    assert "--frames 5 goes with --walk or --traverse" in refused("sample", run, "--frames", 5)
    assert "--interpolation lerp goes" in refused("sample", run, "--interpolation", "lerp")
    line = refused("sample", run, "--walk", "--interpolation", "arc")
    assert "unknown interpolation 'arc' (accepted: lerp, slerp)" in line
    assert "--frames 1: a path has" in refused("sample", run, "--walk", "--frames", 1)
    line = refused("sample", run, "--walk", "--out", f"{tmp_path}/")
    assert "a walk is a picture and a GIF; FILE.png is needed" in line
    (tmp_path / "a.gif").write_text("mine")
    line = refused("sample", run, "--walk", "--out", tmp_path / "a.png")
    assert f"{tmp_path / 'a.gif'}: exists already; another name is needed" in line
    line = refused("sample", run, "--walk", "--frames", 10**8)
    assert "--n 8 times --frames 100000000: at most 134,217,728 samples of this run are" in line
    line = refused("sample", run, "--walk", "--frames", 301)
    assert "--frames 301: at most 300 are drawn; --out FILE.npz writes arrays of more" in line
    assert "--n 257: at most 256 are drawn" in refused("sample", run, "--walk", "--n", 257)
    assert list(files(tmp_path)) == ["a.gif"]
    assert files(run) == before
