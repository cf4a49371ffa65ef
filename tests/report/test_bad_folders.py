"""Reports of runs that are unfinished, old, damaged or hostile, and what they may overwrite."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from report_helpers import IMAGES, copy, image_data, read_page
from run_helpers import cli, files, lines, refused, train

from minigan.report.pictures import MAX_STEPS, decode, read_album


def report(folder, out):
    """The page of a report, which is written in spite of all, and its notes."""
    result = cli("report", folder, "--out", out)
    assert (result.status, result.errors) == (0, []), result
    page = read_page(out)
    return page, [x["text"] for x in page.all("p", class_="note")]


# ------------------------------------------------------------------------------- what is no report
def test_what_is_no_run_is_refused_in_one_line(runs, tmp_path):
    assert "is not a run: it has no config.json" in refused("report", tmp_path)
    assert "no config.json" in refused("report", tmp_path / "nowhere")
    assert "is given twice" in refused("report", runs / "plain", runs / "plain")
    (tmp_path / "config.json").write_text("{")
    assert "config.json cannot be read" in refused("report", tmp_path)


def test_where_a_report_is_written(runs, tmp_path, monkeypatch):
    folder = copy(runs / "points", tmp_path / "run")
    other = copy(runs / "points", tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    assert cli("report", "run").out == "run/report.html\n"
    assert cli("report", "run", "other").out == "report.html\n"
    assert cli("report", "run", "other").status == 0  # A report is replaced,
    before = files(folder)
    (tmp_path / "report.html").write_text("<p>mine</p>")
    assert "exists already and is no report" in refused("report", folder, other)
    assert (tmp_path / "report.html").read_text() == "<p>mine</p>"  # another file is not.
    for out in ("x.txt", "run", "nowhere/x.html", "run/config.json"):
        assert refused("report", folder, "--out", out).count("--out") >= 1
    (tmp_path / "link.html").symlink_to(folder / "config.json")
    assert "is no report" in refused("report", folder, "--out", "link.html")
    assert files(folder) == before


# ------------------------------------------------------------------------------ unfinished and old
def test_a_run_without_checkpoint_pictures_or_metrics(runs, tmp_path):
    folder = copy(runs / "plain", tmp_path / "run")
    (folder / "checkpoint.safetensors").unlink()
    page, notes = report(folder, tmp_path / "a.html")
    assert any("there is no checkpoint" in x for x in notes)
    assert len(page.all("figure", class_="film")) == 1
    assert "r0-losses" in page.charts
    for path in (folder / "samples").iterdir():
        path.unlink()
    (folder / "metrics.jsonl").unlink()
    page, notes = report(folder, tmp_path / "b.html")
    assert any("no pictures of samples yet" in x for x in notes)
    assert any("no lines of metrics yet" in x for x in notes)
    assert page.charts == {}
    assert page.all("input") == []


def test_an_interrupted_run_says_so(runs, tmp_path):
    folder = copy(runs / "points", tmp_path / "run")
    options = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(options | {"steps": 4000}))
    page, _ = report(folder, tmp_path / "x.html")
    overview = page.one("section", id="overview")["text"]
    assert "step 40 of 4,000: it was interrupted" in overview


def test_a_run_of_an_older_version(runs, tmp_path):
    """Its measures are in quality.jsonl, and its lines of metrics have no gauges."""
    folder = copy(runs / "points", tmp_path / "run")
    kept = ("step", "loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "grad_norm_g")
    rows = [{k: row[k] for k in kept} for row in lines(folder / "metrics.jsonl")]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quality = [{"step": x, "sliced_wasserstein": 1 / (x + 1), "floor": 0.01} for x in (0, 20, 40)]
    (folder / "quality.jsonl").write_text("".join(json.dumps(row) + "\n" for row in quality))
    page, notes = report(folder, tmp_path / "x.html")
    assert not any("quality.jsonl" in x for x in notes)
    assert any("have no gauges" in x for x in notes)
    assert "not possible: there are no gauges" in page.one("section", id="overview")["text"]
    assert "Nothing found" not in page.one("section", id="doctor")["text"]
    assert page.charts["r0-quality"]["steps"] == [0, 20, 40]
    assert "real data 0.01" in page.one("section", id="curves")["text"]


def test_data_that_have_moved_are_named(tmp_path):
    data = image_data(tmp_path / "squares.npz")
    train(tmp_path / "run", "--data", data, *IMAGES)
    data.rename(tmp_path / "moved.npz")
    page, notes = report(tmp_path / "run", tmp_path / "x.html")
    (line,) = [x for x in notes if x.startswith("Not shown")]
    assert "--data names the path of the same data" in line
    assert page.all("ul", class_="pairs") == []
    words = ["--data", tmp_path / "moved.npz", "--out", tmp_path / "x.html"]
    assert cli("report", tmp_path / "run", *words).status == 0
    assert read_page(tmp_path / "x.html").one("ul", class_="pairs")


def test_evaluate_measures_what_has_not_been_measured(runs, tmp_path):
    folder = copy(runs / "points", tmp_path / "run")
    assert "needs the data" in refused("report", folder, "--evaluate", "--without-data")
    assert not (folder / "evaluation.json").exists()
    assert cli("report", folder, "--evaluate").status == 0
    measures = json.loads((folder / "evaluation.json").read_text())["measures"]
    section = read_page(folder / "report.html").one("section", id="measures")
    for measure in measures:
        assert measure["label"] in section["text"]


# --------------------------------------------------------------------------------------- damaged
def test_damaged_lines_of_metrics_are_left_out_and_named(runs, tmp_path):
    folder = copy(runs / "points", tmp_path / "run")
    path = folder / "metrics.jsonl"
    content = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*content[:3], '{"step": NaN}\n', *content[4:]]))
    page, notes = report(folder, tmp_path / "x.html")
    assert any(x.startswith("metrics.jsonl cannot be read: ") and "(line 4)" in x for x in notes)
    assert len(page.charts["r0-losses"]["steps"]) == 3
    path.write_text("".join([*content[:5], content[5][:40]]))  # as a process writes it
    page, notes = report(folder, tmp_path / "y.html")
    assert not any("metrics.jsonl" in x for x in notes)
    assert len(page.charts["r0-losses"]["steps"]) == 5


def test_damaged_pictures_and_measures_are_left_out_and_named(runs, tmp_path):
    folder = copy(runs / "plain", tmp_path / "run")
    good = (folder / "samples" / "step_000004.png").read_bytes()
    (folder / "samples" / "step_000004.png").write_bytes(good[: len(good) // 2])
    (folder / "samples" / "step_000008.png").write_bytes(b"GIF89a" + good)
    (folder / "reals.png").write_bytes(b"")
    (folder / "evaluation.json").write_text('{"step": 1, "measures": [{"name": 3}]}')
    page, notes = report(folder, tmp_path / "x.html")
    for name in ("step_000004.png", "step_000008.png", "reals.png", "evaluation.json"):
        assert any(x.startswith(name) for x in notes), (name, notes)
    assert page.one("input", id="step")["attrs"]["data-steps"] == "0 12"


def png(width, height, *chunks):
    """A PNG whose header claims a size, with other chunks before its pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((width + 1) * min(height, 8))))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def test_a_picture_of_a_huge_size_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(png(60_000, 60_000))
    with pytest.raises(Exception, match=r"pixels|exceeds limit"):
        decode(tmp_path / "a.png")


def test_only_the_pixels_of_a_picture_are_kept(runs, tmp_path):
    folder = copy(runs / "plain", tmp_path / "run")
    path = folder / "samples" / "step_000012.png"
    path.write_bytes(path.read_bytes() + b"<script>secret()</script>")
    page, _ = report(folder, tmp_path / "x.html")
    last = next(x for x in page.all("img") if x["attrs"].get("data-step") == "12")
    content = io.BytesIO(base64.b64decode(last["attrs"]["src"].split(",")[1]))
    assert b"secret" not in content.getvalue()
    with Image.open(content) as image:
        assert image.info.get("run") is None


# ------------------------------------------------------------------------------------------- sizes
def test_many_large_pictures_stay_within_the_limit(tmp_path):
    (tmp_path / "samples").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for step in range(0, 3000, 100):
        Image.fromarray(np.roll(noise, step, 0)).save(tmp_path / "samples" / f"step_{step:06d}.png")
    limit = 350_000
    album = read_album(tmp_path, limit)
    assert (len(album.samples), album.total, album.lossy) == (MAX_STEPS, 30, True)
    assert sum(len(picture.uri) for picture in album.samples) <= limit
    assert (album.samples[0].step, album.samples[-1].step) == (0, 2900)
    assert {(picture.width, picture.height) for picture in album.samples} == {(256, 256)}
