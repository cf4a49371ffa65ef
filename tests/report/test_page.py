"""The HTML of a report: what it shows of each kind of run, and that its text stays text."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from report_helpers import copy, read_page
from run_helpers import cli, lines

from minigan.cli.commands import build_parser
from minigan.cli.options import config_options
from minigan.data import Dataset
from minigan.evaluation.evaluate import Evaluation, Measured
from minigan.evaluation.files import write_evaluation
from minigan.report import nearest
from minigan.report.gather import Sources, gather
from minigan.report.markup import Html, tag, text
from minigan.report.nearest import find_nearest
from minigan.report.sections.measures import measures_section
from minigan.report.sections.options import changed_options, option_words
from minigan.training.config import Config
from minigan.training.resume import load_trainer

SECTIONS = ["overview", "samples", "nearest", "walk", "curves", "measures", "doctor"]
SECTIONS += ["options", "repeat"]


def report(*words, out=None):
    """The page of a report that must be written without a word on stderr."""
    result = cli("report", *words, *([] if out is None else ["--out", out]))
    assert (result.status, result.errors) == (0, []), result
    return read_page(type(words[0])(result.out.strip()))


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """The reports of each run alone, by name."""
    folder = tmp_path_factory.mktemp("pages")
    names = ("plain", "classes", "points")
    return {name: report(runs / name, out=folder / f"{name}.html") for name in names}


def pixels(image):
    """The pixels of an <img> of the page."""
    content = base64.b64decode(image["attrs"]["src"].split(",")[1])
    stored = np.asarray(Image.open(io.BytesIO(content)))
    scale = int(image["attrs"]["width"]) // stored.shape[1]
    assert scale == 1 or "pixels" in image["attrs"]["class"]  # which repeats them
    return stored.repeat(scale, 0).repeat(scale, 1)


# ------------------------------------------------------------------------------- what is on a page
@pytest.mark.parametrize("name", ["plain", "classes", "points"])
def test_a_page_has_all_sections_a_title_and_no_address(pages, runs, name):
    page = pages[name]
    assert [x["attrs"]["id"] for x in page.all("section")] == SECTIONS
    assert page.one("h1")["text"] == name
    assert page.one("html")["attrs"]["lang"] == "en"
    assert "://" not in page.content
    policy = page.one("meta", http_equiv="Content-Security-Policy")["attrs"]["content"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert len(page.content) < 1_000_000


def test_the_samples_of_each_step_beside_real_ones(pages, runs):
    page = pages["plain"]
    steps = [int(x["attrs"]["data-step"]) for x in page.all("img") if "data-step" in x["attrs"]]
    assert steps == [0, 4, 8, 12]
    assert page.one("input", id="step")["attrs"]["data-steps"] == "0 4 8 12"
    images = [x for x in page.all("img") if "data-step" in x["attrs"]]
    assert ["hidden" in x["attrs"] for x in images] == [True, True, True, False]
    for step, image in zip(steps, images, strict=True):
        with Image.open(runs / "plain" / "samples" / f"step_{step:06d}.png") as original:
            assert np.array_equal(pixels(image), np.asarray(original))
    with Image.open(runs / "plain" / "reals.png") as reals:
        real = next(x for x in page.all("img") if x["attrs"]["alt"].startswith("Real samples"))
        assert np.array_equal(pixels(real), np.asarray(reals))


def test_curves_hold_the_lines_of_metrics(pages, runs):
    charts = pages["plain"].charts
    rows = lines(runs / "plain" / "metrics.jsonl")
    assert charts["r0-losses"]["steps"] == [row["step"] for row in rows]
    for values, key in zip(charts["r0-losses"]["values"], ("loss_d", "loss_g"), strict=True):
        np.testing.assert_allclose(values, [row[key] for row in rows], rtol=1e-5)
    (name,) = {k for row in rows for k in row if k.startswith("sliced_w") and k[-1].isdigit()}
    measured = [row for row in rows if name in row]
    np.testing.assert_allclose(
        charts["r0-quality"]["values"], [[row[name] for row in measured]], rtol=1e-5
    )
    assert set(charts) >= {"r0-losses", "r0-quality", "r0-accuracy", "r0-gradients"}
    plots = {x["attrs"]["id"] for x in pages["plain"].all("div", class_="plot")}
    assert plots == set(charts)
    assert "at equilibrium 1.39" in pages["plain"].one("section", id="curves")["text"]


def test_nearest_images_and_the_walk(pages):
    plain, classes = pages["plain"], pages["classes"]
    nearest = [x for x in plain.all("img") if "nearest training image" in x["attrs"]["alt"]]
    assert len(nearest) == 12
    assert pixels(nearest[0]).shape == (7 * (2 * 9 + 1), 7 * 10)
    walks = [x for x in classes.all("img") if "between" in x["attrs"]["alt"]]
    assert len(walks) == 1
    assert "A class in each row: 0, 1, 2." in classes.one("section", id="walk")["text"]
    assert "points" in pages["points"].one("svg", class_="points")["attrs"]["aria-label"]
    assert len(pages["points"].all("polyline")) == 5
    assert "held-out real ones" in pages["points"].one("section", id="nearest")["text"]


def test_nearest_images_are_those_of_a_search_of_all_pairs(runs):
    trainer = load_trainer(runs / "plain")
    found = find_nearest(trainer)
    fake = trainer.sample(128, 0).reshape(128, -1).astype(float)
    train_images = trainer.data.values.reshape(len(trainer.data), -1).astype(float)
    distances = np.sqrt(((fake[:, None] - train_images) ** 2).mean(-1))
    np.testing.assert_allclose([d for _, d in found.pairs], distances.min(1)[:12], rtol=1e-6)
    assert found.generated == pytest.approx(np.median(distances.min(1)))
    held_out = trainer.held_out.values.reshape(len(trainer.held_out), -1).astype(float)
    real = np.sqrt(((held_out[:, None] - train_images) ** 2).mean(-1)).min(1)
    assert found.held_out == pytest.approx(np.median(real))


def test_held_out_samples_in_the_order_of_their_classes_are_drawn_from_all(runs, monkeypatch):
    """Half of these images are black, and all of those are at the end."""
    trainer = load_trainer(runs / "plain")
    rows = np.arange(600) % len(trainer.data)
    values = trainer.data.rows(rows)
    values[300:] = -1
    monkeypatch.setattr(trainer, "held_out", Dataset("sorted", values))
    queries = []
    monkeypatch.setattr(nearest, "_search", lambda x, *others: queries.append(x) or (x[:, 0], rows))
    find_nearest(trainer)
    share = (queries[0][128:] == -1).all(axis=1).mean()
    assert 0.3 < share < 0.7


def test_a_generator_that_copies_is_at_distance_zero(runs, monkeypatch):
    trainer = load_trainer(runs / "plain")
    copies = trainer.data.rows(np.arange(128) % len(trainer.data))
    monkeypatch.setattr(trainer, "sample", lambda n, seed: copies[:n])
    found = find_nearest(trainer)
    assert found.generated == 0
    assert [distance for _, distance in found.pairs] == [0] * 12


# ----------------------------------------------------------------------------------- several runs
def test_several_runs_are_beside_each_other_with_one_slider(runs, tmp_path):
    page = report(runs / "plain", runs / "classes", runs / "points", out=tmp_path / "all.html")
    assert page.one("h1")["text"] == "plain, classes and points"
    (slider,) = page.all("input", type="range")
    assert slider["attrs"]["data-steps"] == "0 4 8 12 20 40"
    assert len(page.all("figure", class_="film")) == 3
    assert len(page.all("div", class_="columns")) >= 5
    heads = [x["text"] for x in page.all("th", scope="col")]
    assert [x for x in heads if x in ("plain", "classes", "points")][:3] == [
        "plain",
        "classes",
        "points",
    ]
    rows = [x["text"] for x in page.all("tr")]
    assert "conditionnoneconcatnone" in rows
    assert {"r0-losses", "r1-losses", "r2-losses"} <= set(page.charts)
    assert len(page.content) < 6_000_000


def test_runs_of_one_name_are_called_by_their_paths(runs, tmp_path):
    for name in ("a", "b"):
        copy(runs / "points", tmp_path / name / "run")
    page = report(tmp_path / "a" / "run", tmp_path / "b" / "run", out=tmp_path / "x.html")
    assert page.one("h1")["text"] == "a/run and b/run"
    assert "All options of these runs are equal." in page.content


def test_measures_of_several_runs_in_one_table_with_the_best_bold(runs, tmp_path):
    folders = []
    for name, value in (("a", 0.25), ("b", 0.125)):
        folders.append(copy(runs / "points", tmp_path / name))
        measure = {"name": "frechet_n1800", "label": "Frechet distance", "value": value}
        measure |= {"low": 0.1, "high": 0.3, "floor": 0.0625, "samples": 1800, "better": "low"}
        measure["without_average"] = None
        content = {"step": 40, "measures": [measure]}
        (folders[-1] / "evaluation.json").write_text(json.dumps(content))
    section = report(*folders, out=tmp_path / "x.html").one("section", id="measures")
    assert "Frechet distance lower is better0.2500 (0.06250)0.1250 (0.06250)" in section["text"]
    page = read_page(tmp_path / "x.html")
    bold = [x["text"] for x in page.all("strong") if "td" in x["parents"]]
    assert bold == ["0.1250"]
    other = copy(runs / "plain", tmp_path / "other")
    (other / "evaluation.json").write_text((folders[1] / "evaluation.json").read_text())
    page = report(folders[0], other, out=tmp_path / "z.html")
    assert "their data differ, so none is the best" in page.one("section", id="measures")["text"]
    assert not [x for x in page.all("strong") if "td" in x["parents"]]
    beside = report(folders[0], runs / "points", out=tmp_path / "w.html")
    caption = "a, measured at step 40; intervals are of 95 %"
    assert caption in [x["text"] for x in beside.all("caption")]
    alone = report(folders[0], out=tmp_path / "y.html").one("section", id="measures")
    assert "0.25000.062500.1000 to 0.30001,800" in alone["text"]


def measured(folder, *values, better="high", **more):
    """An evaluation in a run folder, whose measures m0, m1, ... have these values."""
    items = [Measured(f"m{i}", "m", x, None, None, None, 9, better) for i, x in enumerate(values)]
    evaluation = Evaluation(40, 40, 40, "ring", 9, tuple(items), **more)
    write_evaluation(folder / "evaluation.json", evaluation)
    return folder


def bold(content):
    """The bold cells of measures in HTML."""
    return re.findall("<strong>(.*?)</strong>", content)


def test_an_infinite_measure_is_compared_and_a_missing_one_is_not(runs, tmp_path):
    folders = [copy(runs / "points", tmp_path / name) for name in "ab"]
    for folder, values in zip(
        folders, [(32142.0, 3.0, -math.inf), (math.inf, math.nan, 5.0)], strict=True
    ):
        measured(folder, *values)
    assert "Infinity" not in (folders[1] / "evaluation.json").read_text()
    content = str(measures_section(gather(folders, Sources(use_data=False))))
    assert bold(content) == ["infinite", "5"]
    assert "-infinite" in content


def test_equal_measures_have_no_best_one(runs, tmp_path):
    folders = [copy(runs / "points", tmp_path / name) for name in "abc"]
    for folder, value in zip(folders, (0.5, 0.5, 0.25), strict=True):
        measured(folder, 0.0, value)
    content = measures_section(gather(folders, Sources(use_data=False)))
    assert bold(content) == ["0.5000", "0.5000"]


def test_there_is_no_best_one_of_other_held_out_samples_or_classifiers(runs, tmp_path):
    folders = [copy(runs / "points", tmp_path / name) for name in "ab"]
    for folder, value in zip(folders, (0.5, 0.25), strict=True):
        measured(folder, value, feature_net={"key": "k", "accuracy": 0.9})
    reports = gather(folders, Sources(use_data=False))
    options, evaluation = reports[1].content.options, reports[1].content.evaluation
    assert bold(measures_section(reports)) == ["0.5000"]
    cases: list = [(options, {"seed": 1}, "held-out"), (options, {"holdout": 0.3}, "held-out")]
    cases += [(evaluation, {"feature_net": {"key": "other"}}, "classifiers differ")]
    for values, change, words in cases:
        before = dict(values)
        values.update(change)
        content = measures_section(reports)
        assert words in content
        assert not bold(content)
        values.update(before)


def test_the_interval_of_pictures_is_that_of_the_last_options_alone(runs, tmp_path):
    folder = copy(runs / "plain", tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"sample_every": 50}))
    text = report(folder, out=tmp_path / "x.html").one("section", id="samples")["text"]
    assert "drew one every" not in text
    assert "its sample_every is 50" in text


# --------------------------------------------------------------------------------------- repeating
def test_the_command_gives_the_same_options_again(runs):
    parser = build_parser()
    for name in ("plain", "classes", "points"):
        (run,) = gather([runs / name], Sources(use_data=False))
        words = option_words(changed_options(run))
        options = config_options(parser.parse_command(["train", *words]))
        config = run.trained.config
        filled = {"model", "latent_size", "evaluate_every"}
        ours, theirs = Config(**options).as_dict(), config.as_dict()
        assert {k: x for k, x in ours.items() if k not in filled} == {
            k: x for k, x in theirs.items() if k not in filled
        }


def test_words_of_odd_options():
    words = option_words({"value_range": "-1,1", "mirror": True, "grey": False, "size": None})
    assert words == ["--value-range=-1,1", "--mirror", "--no-grey"]
    assert option_words({"lr_g": 1e-05, "seed": 3}) == ["--lr-g", "1e-05", "--seed", "3"]


def test_notes_of_an_evaluation_are_in_the_report(runs, tmp_path):
    folder = copy(runs / "points", tmp_path / "run")
    content = {"step": 40, "measures": [], "notes": [f"no class 1 {EVIL}"]}
    (folder / "evaluation.json").write_text(json.dumps(content))
    page = report(folder, out=tmp_path / "x.html")
    assert "Note: no class 1 <script>" in page.one("section", id="measures")["text"]
    assert "<script>alert" not in page.content


# ------------------------------------------------------------------------------------ text is text
EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> & \x1b[31m"


def test_text_of_a_run_is_never_markup(runs, tmp_path):
    name = EVIL.replace("/", "|").replace("\x1b", "")
    folder = copy(runs / "plain", tmp_path / name)
    measure = {"name": EVIL, "label": EVIL, "value": 1.0, "better": EVIL, "samples": 3}
    measure |= dict.fromkeys(("low", "high", "floor", "without_average"))
    content = {"step": 12, "measures": [measure]}
    (folder / "evaluation.json").write_text(json.dumps(content))
    options = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(options | {"data": f"/nowhere/{EVIL}"}))
    page = report(folder, out=tmp_path / "x.html")
    assert page.one("h1")["text"] == name
    assert len(page.all("script")) == 2
    assert all(x["attrs"]["src"].startswith("data:image/png;base64,") for x in page.all("img"))
    assert EVIL.replace("\x1b", "\\x1b") in page.one("section", id="measures")["text"]
    assert "<script>alert" not in page.content
    assert "\x1b" not in page.content


def test_unknown_options_of_a_config_are_shown_as_text(runs, tmp_path):
    folder = copy(runs / "plain", tmp_path / "run")
    options = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(options | {EVIL: [EVIL], "steps": EVIL}))
    page = report(folder, out=tmp_path / "x.html")
    assert len(page.all("script")) == 2
    notes = [x["text"] for x in page.all("p", class_="note")]
    assert any(x.startswith("This version does not accept its options") for x in notes)


def test_markup_escapes_all_but_html():
    assert tag("b", "<", Html("<i>"), title='"<') == '<b title="&quot;&lt;">&lt;<i></b>'
    assert tag("img", hidden=True, alt=None, data_x=1) == '<img hidden data-x="1">'
    assert len(text("a" * 5000)) < 2100
