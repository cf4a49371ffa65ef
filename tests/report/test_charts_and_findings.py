"""Charts of several runs, walks of points, and what a report says of a diagnosis."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from report_helpers import Page

from minigan.doctor import Diagnosis, Finding, Gauge
from minigan.doctor.rules import POOR_SAMPLES, RULES
from minigan.report.charts import Chart, Series, common_limits
from minigan.report.curves import SMOOTH, draw
from minigan.report.gather import Sources, gather
from minigan.report.sections.findings import findings_section
from minigan.report.sections.samples import _point_text
from minigan.report.sections.training import training_section
from minigan.report.trained import Walk


# ------------------------------------------------------------------------------- charts of several
def chart(values, steps=None, **options):
    values = np.array(values, float)
    steps = np.arange(len(values)) * 10 if steps is None else np.array(steps)
    return Chart("x", "X", "", steps, [Series("x", values, "d")], **options)


def test_steps_have_a_common_axis_where_values_have_not():
    long, short = chart([0, 1, 2], [0, 700, 1500]), chart([0, 1e5, 1], [0, 300, 600])
    limits = common_limits([long, short])
    assert [(x.first, x.last) for x in limits] == [(0, 1500), (0, 1500)]
    assert [(x.low, x.high) for x in limits] == [(0, 2), (0, 1e5)]


def test_logarithmic_axes_stay_so_with_a_value_of_zero():
    one, other = chart([0.1, 1, 10], log=True), chart([0, 1e4, 1e5], log=True)
    assert one.is_log
    assert other.is_log
    assert [(x.low, x.high) for x in common_limits([one, other])] == [(0.1, 1e5)] * 2
    assert not chart([0, 0], log=True).is_log
    assert "1 value lies beyond the axis." in str(draw(other, "x"))


def test_charts_of_a_run_stay_in_its_column_and_a_critic_is_beside_other_losses(runs):
    plain, critic = gather([runs / "plain", runs / "points"], Sources(use_data=False))
    critic.trained = replace(critic.trained, levels={"loss_d": 0.0}, unit="logits")
    content, data = training_section([plain, critic])
    page = Page(f"<main>{content}</main>")
    rows = [x["text"] for x in page.all("div", class_="columns")]
    assert "Losses (nats), plain" in rows[0]
    assert "Loss of the discriminator (logits), points" in rows[0]
    assert rows[1].startswith("plain has no such chart.Loss of the generator (logits), points")
    assert {"r0-losses", "r1-losses", "r1-loss-g"} <= set(data)
    assert all("plain" in x and "points" in x for x in rows)
    texts = [x["text"] for x in page.all("p", class_="help")]
    assert any(x.endswith("The axes of the values differ.") for x in texts)


def test_the_text_on_curves_names_only_lines_that_are_drawn(runs):
    (run,) = gather([runs / "plain"], Sources(use_data=False))
    assert "thick" not in str(training_section([run])[0])
    rows = run.content.rows
    run.content = replace(run.content, rows=[{**rows[-1], "step": i} for i in range(SMOOTH)])
    assert "thick lines are their running mean" in str(training_section([run])[0])


def test_the_caption_of_a_walk_counts_the_points_outside_of_the_picture():
    reals = np.array([[-1.0, 1.0], [1.0, -1.0]])
    paths = np.zeros((1, 5, 2))
    assert "outside" not in _point_text(Walk(paths=paths, reals=reals))
    paths[0, :2, 1] = -3
    assert _point_text(Walk(paths=paths, reals=reals)).endswith(
        "2 of 5 generated points lie outside of the picture."
    )


# --------------------------------------------------------------------------------------- diagnosis
def gauge(name, value, threshold, above=True):
    steps, values = np.array([1, 2, 3]), np.array([value, value, value / 4])
    about = (name, "ratio", f"what {name} is", threshold, above, value)
    return Gauge(*about, "median of the last third of the lines", steps, values)


def diagnosis(*gauges, findings=()):
    named = {x.name: x for x in gauges}
    return Diagnosis(Path("x"), 3, "finished", findings, named, (), ())


def section_of(run, found):
    run.diagnosis = found
    return Page(f"<main>{findings_section([run])[0]}</main>")


def test_a_report_without_findings_names_the_gauges_beyond_their_thresholds(runs):
    (run,) = gather([runs / "plain"], Sources(use_data=False))
    good, drift = gauge("growth", 2.0, 100.0), gauge("drift", 0.5, 0.75, above=False)
    page = section_of(run, diagnosis(good, drift))
    text = page.one("p", class_="healthy")["text"]
    assert text.endswith("Beyond a threshold alone: drift 0.5000 (below 0.750).")
    assert "within bounds" not in page.content
    # Samples that are far from the data are no good sign, whatever the rules say.
    page = section_of(run, diagnosis(good, gauge("quality", 7.625, 2.0)))
    assert not page.all("p", class_="healthy")
    assert "quality 7.625 (above 2). Its samples are still far" in page.content


def test_a_finding_says_what_its_number_is_and_shows_its_own_threshold(runs):
    (run,) = gather([runs / "plain"], Sources(use_data=False))
    summary = "median of the second half of the lines"
    words = ("x", "X", "diversity", 0.2, 0.25, False, summary, "Explanation.", "Remedy.", {})
    page = section_of(run, diagnosis(gauge("diversity", 0.2, 0.5), findings=(Finding(*words),)))
    text = page.one("article")["text"]
    assert f"diversity is 0.2000 ({summary}); below 0.2500 is bad" in text
    assert "threshold 0.25" in text
    assert "diversity: what diversity is. The number above the curve is of one step." in text


def test_the_number_of_each_rule_has_words():
    words = {test.gauge: test.summary for rule in RULES for test in (rule.test, *rule.needs)}
    assert words["memorization"] == "median of the last third of the lines"
    assert POOR_SAMPLES.summary == "lowest of the second half of the lines"
    assert words["learning_rate"] == "highest of the last 30 % of the lines"
    first = next(rule.test for rule in RULES if rule.test.gauge == "range_covered")
    assert first.summary == "first of the lines"
