"""`minigan film`: frames, captions, sizes, the MP4, damaged pictures, and what it may replace."""

import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from run_helpers import assert_whole, cli, files, refused

from minigan.training.film import film_frames
from minigan.training.run_folder import sample_pictures
from minigan.utils import animation
from minigan.utils.animation import evenly, write_gif, write_mp4
from minigan.utils.notices import Notice

STEPS = [0, 5, 50, 500, 5000]


def fake_run(folder, steps=STEPS, size=(120, 30)):
    """A folder with a config and pictures of one grey each."""
    (folder / "samples").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for i, step in enumerate(steps):
        picture = Image.new("L", size, 40 + 20 * (i % 9))
        picture.save(folder / "samples" / f"step_{step:06d}.png")
    return folder


@pytest.fixture
def run(tmp_path):
    return fake_run(tmp_path / "run")


@pytest.fixture
def no_ffmpeg(monkeypatch):
    monkeypatch.setattr(animation.shutil, "which", lambda name: None)


def read_gif(path):
    """Frames as arrays, and their times in milliseconds."""
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0
        frames, times = [], []
        for i in range(gif.n_frames):
            gif.seek(i)
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
            times.append(gif.info["duration"])
    return frames, times


@pytest.mark.usefixtures("no_ffmpeg")
def test_a_film_has_the_pictures_in_order_of_their_steps_and_holds_the_last(run):
    (run / "samples" / "step_x.png").write_text("not a picture of a step")
    result = cli("film", run)
    assert (result.status, result.out) == (0, f"{run / 'film.gif'}\n")
    note = "minigan film: note: no film.mp4: the program ffmpeg is not on the PATH"
    assert result.errors == [note]
    frames, times = read_gif(run / "film.gif")
    assert times == [100, 100, 100, 100, 2100]
    assert [frame[-1, -1, 0] for frame in frames] == [40, 60, 80, 100, 120]
    assert_whole(run)


def test_each_frame_has_its_step_and_a_bar_of_the_training_that_is_done(run):
    frames = [np.asarray(frame).astype(int) for frame in film_frames(run, 100)]
    assert {frame.shape for frame in frames} == {(19 + 3 + 30, 120, 3)}
    assert (np.ptp(frames[0][:19], axis=2) == 0).all()  # the text is grey, and the bar is blue
    bars = [int((np.ptp(frame[19], axis=1) > 0).sum()) for frame in frames]
    assert bars == [0, 0, 1, 12, 120]
    lines = {frame[:19].tobytes() for frame in frames}
    assert len(lines) == 5  # five different texts
    assert all(frame[:19].max() > 200 for frame in frames)


def test_frames_are_chosen_evenly_with_the_first_and_the_last(tmp_path):
    assert evenly(11, 6) == [0, 2, 4, 6, 8, 10]
    assert evenly(3, 100) == [0, 1, 2]
    assert evenly(1, 100) == [0]
    for n, most in ((1000, 100), (101, 100), (7, 3)):
        chosen = evenly(n, most)
        assert (len(chosen), chosen[0], chosen[-1]) == (most, 0, n - 1)
        assert set(np.diff(chosen)) <= {(n - 1) // (most - 1), -(-(n - 1) // (most - 1))}
    run = fake_run(tmp_path / "run", range(0, 90, 10))
    values = [np.asarray(frame)[-1, -1, 0] for frame in film_frames(run, 3)]
    assert values == [40, 120, 200]
    assert len(film_frames(fake_run(tmp_path / "one", [7]), 100)) == 1
    assert list(sample_pictures(fake_run(tmp_path / "long", [10**6, 999_999]))) == [999_999, 10**6]


@pytest.mark.usefixtures("no_ffmpeg")
def test_a_run_of_one_picture_makes_a_film_of_one(tmp_path):
    run = fake_run(tmp_path / "run", [0])
    assert cli("film", run).status == 0
    assert len(read_gif(run / "film.gif")[0]) == 1


def test_a_large_gif_gets_fewer_colours_and_then_fewer_frames(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(21)]
    write_gif(noise, tmp_path / "all.gif", 100, 1000)
    whole = (tmp_path / "all.gif").stat().st_size
    for part, frames, time in ((0.9, 21, 100), (0.5, 11, 190), (0.3, 6, 350), (0.01, 2, 1050)):
        monkeypatch.setattr(animation, "MAX_BYTES", int(part * whole))
        with pytest.warns(Notice, match=f"a.gif has 64 colours and {frames} of 21 frames") as notes:
            write_gif(noise, tmp_path / "a.gif", 100, 1000)
        assert len(notes) == 1
        shown, times = read_gif(tmp_path / "a.gif")
        assert times == [time] * (frames - 1) + [time + 1000]  # as long as before
        assert len(np.unique(shown[0].reshape(-1, 3), axis=0)) <= 64
        close = np.abs(shown[-1] - np.asarray(noise[-1])).mean()
        assert close < 40 < np.abs(shown[-1] - np.asarray(noise[-2])).mean()


def test_one_palette_serves_all_frames(tmp_path):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (120, 120, 120)]
    write_gif([Image.new("RGB", (9, 9), c) for c in colours], tmp_path / "a.gif", 50)
    frames, times = read_gif(tmp_path / "a.gif")
    assert times == [50] * 4
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame - np.array(colour)).max() <= 4


def test_large_pictures_are_shrunk(tmp_path):
    run = fake_run(tmp_path / "run", [0, 1], size=(2880, 1440))
    assert film_frames(run, 100)[0].size == (720, 22 + 360)


# --------------------------------------------------------------------------------------- the MP4
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
def test_where_ffmpeg_is_an_mp4_is_written_too(run):
    result = cli("film", run)
    assert (result.status, result.errors) == (0, []), result
    assert result.out == f"{run / 'film.gif'}\n{run / 'film.mp4'}\n"
    command = ["ffmpeg", "-v", "error", "-i", run / "film.mp4", "-f", "rawvideo"]
    pixels = subprocess.run(
        [*command, "-pix_fmt", "gray", "-"], capture_output=True, check=True
    ).stdout
    frames = np.frombuffer(pixels, np.uint8).reshape(-1, 52, 120)
    assert len(frames) == 5 + 20  # two seconds of the last one
    assert np.abs(frames[:5, -4, -4].astype(int) - [40, 60, 80, 100, 120]).max() < 8
    assert cli("film", run).status == 0  # both are replaced
    assert_whole(run)


def test_a_failure_of_ffmpeg_is_one_line(run, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr=b"first\nno encoder\n")
    monkeypatch.setattr(animation.subprocess, "run", lambda *words, **options: failed)
    with pytest.raises(ValueError, match=r"a\.mp4 cannot be made: ffmpeg failed: no encoder$"):
        write_mp4(film_frames(run, 100), run / "a.mp4", 100)
    assert not (run / "a.mp4").exists()


# -------------------------------------------------------------------------------------- bad input
@pytest.mark.usefixtures("no_ffmpeg")
def test_a_damaged_or_odd_picture_is_named(run):
    path = run / "samples" / "step_005000.png"
    content = path.read_bytes()
    for damaged in (b"", content[:-20], content[:45] + b"\x00" + content[46:], b"GIF89a"):
        path.write_bytes(damaged)
        line = refused("film", run)
        assert f"{path} cannot be read: " in line
        assert line.endswith("; the film can be made without it")
    Image.new("L", (121, 30)).save(path)
    line = refused("film", run)
    assert f"{path} has 121x30 pixels, and step_000000.png 120x30: a film needs" in line
    path.unlink()
    assert cli("film", run).status == 0


@pytest.mark.usefixtures("no_ffmpeg")
def test_nothing_but_an_earlier_film_is_replaced(run, tmp_path):
    assert cli("film", run, "--frames", 3).status == 0
    assert cli("film", run, "--frames", 5).status == 0
    assert len(read_gif(run / "film.gif")[0]) == 5
    Image.new("L", (9, 9)).save(run / "film.gif")
    before = files(run)
    line = refused("film", run)
    assert f"{run / 'film.gif'} is not a film of minigan; --out names another file" in line
    for name in ("a.gif", "a.mp4"):
        (tmp_path / name).write_text("mine")
    line = refused("film", run, "--out", tmp_path / "a.gif")
    assert "a.gif exists already; another name is needed" in line
    assert "a name that ends in .gif is needed" in refused("film", run, "--out", tmp_path / "a.mp4")
    assert "there is no folder" in refused("film", run, "--out", tmp_path / "none" / "a.gif")
    assert files(run) == before
    assert (tmp_path / "a.gif").read_text() == (tmp_path / "a.mp4").read_text() == "mine"
    assert cli("film", run, "--out", tmp_path / "new.gif").status == 0


def test_an_mp4_that_exists_is_not_replaced(run, monkeypatch):
    monkeypatch.setattr(animation.shutil, "which", lambda name: "/bin/ffmpeg")
    (run / "film.mp4").write_text("mine")
    assert "film.mp4 is not a film of minigan" in refused("film", run)
    assert not (run / "film.gif").exists()


def test_an_mp4_that_stays_behind_is_said(run, no_ffmpeg):
    assert "no film.mp4: the program ffmpeg is not" in cli("film", run).errors[0]
    (run / "film.mp4").write_text("of an earlier film")
    assert "film.mp4 stays as it was: the program ffmpeg is not" in cli("film", run).errors[0]


def test_folders_without_pictures_and_odd_numbers(run, tmp_path):
    assert "is not a run: it has no config.json" in refused("film", tmp_path)
    for words, message in (
        (["--frames", 1], "frames = 1: a film has at least 2"),
        (["--fps", 0], "fps = 0: a number in [0.1, 50] of pictures per second is needed"),
        (["--fps", "nan"], "fps = nan: a number"),
    ):
        assert message in refused("film", run, *words)
    shutil.rmtree(run / "samples")
    assert "has no pictures samples/step_*.png to make a film of" in refused("film", run)
