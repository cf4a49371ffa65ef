"""Reports in headless Chromium: console, network, slider, widths, colours and keyboard."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from report_helpers import copy
from run_helpers import cli

CI = bool(os.environ.get("CI"))
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

# In CI a missing browser is a failure: the tests run, and say what is missing.
pytestmark = pytest.mark.skipif(
    not CI and (CHROMIUM is None or sync_playwright is None),
    reason="no Chromium, or no playwright: reports are not opened in a browser",
)


@pytest.fixture(scope="module")
def browser():
    assert sync_playwright is not None, "the package playwright is missing"
    assert CHROMIUM is not None, f"none of {NAMES} is on the PATH"
    with sync_playwright() as play:
        # The sandbox needs rights that root in a container does not have; the pages are our own.
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def reports(runs, tmp_path_factory):
    """Paths of reports of a run of images, of one of points, and of all three."""
    folder = tmp_path_factory.mktemp("reports")
    words = {"plain": ["plain"], "points": ["points"], "all": ["plain", "classes", "points"]}
    for name, chosen in words.items():
        result = cli("report", *(runs / x for x in chosen), "--out", folder / f"{name}.html")
        assert result.status == 0, result
    return {name: folder / f"{name}.html" for name in words}


@pytest.fixture
def visit(browser):
    """Open a report; at the end nothing may have been complained of or asked of the network."""
    faults, contexts = [], []

    def open_page(path, width=1280, **options):
        # Without smooth scrolling, places on the screen hold at once.
        settings = {"viewport": {"width": width, "height": 800}, "reduced_motion": "reduce"}
        context = browser.new_context(**(settings | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda x: faults.append(f"{x.type}: {x.text}"))
        page.on("pageerror", lambda x: faults.append(str(x)))
        own = (path.as_uri(), "data:")
        page.on("request", lambda x: x.url.startswith(own) or faults.append(x.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def shown(page, film=0):
    """The step of the picture of samples that is visible, and the caption below it."""
    figure = page.locator(".film").nth(film)
    images = figure.locator("img").filter(visible=True)
    assert images.count() == 1
    assert images.evaluate("x => x.complete && x.naturalWidth > 0")
    return int(images.get_attribute("data-step")), figure.locator("figcaption").inner_text()


def test_the_slider_moves_by_keyboard_and_shows_picture_and_caption(visit, reports):
    page = visit(reports["plain"])
    assert shown(page) == (12, "Generated, step 12")
    slider = page.get_by_label("Training step")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert shown(page) == (8, "Generated, step 8")
    assert slider.get_attribute("aria-valuetext") == "step 8"
    page.keyboard.press("Home")
    assert shown(page) == (0, "Generated, step 0")
    assert page.locator("#step-now").inner_text() == "0"
    page.keyboard.press("End")
    assert shown(page) == (12, "Generated, step 12")


def test_the_slider_moves_by_mouse_and_moves_the_curves_too(visit, reports):
    page = visit(reports["plain"])
    slider = page.get_by_label("Training step")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 0.34 * box["width"], box["y"] + box["height"] / 2)
    assert shown(page) == (4, "Generated, step 4")
    at = page.locator("figure.chart").first.locator(".at").inner_text()
    assert at in ("3", "4", "5")


def test_play_shows_the_steps_in_turn_and_stops_at_the_last(visit, reports):
    page = visit(reports["plain"], reduced_motion="no-preference")
    page.evaluate(
        """() => {
            const caption = document.querySelector('.film .at');
            window.captions = [];
            const note = () => window.captions.push(caption.textContent);
            new MutationObserver(note).observe(caption, {childList: true});
        }"""
    )
    play = page.get_by_role("button", name="Play")
    play.click()
    play.wait_for()  # It is called Pause until the last step.
    assert page.evaluate("window.captions") == ["step 0", "step 4", "step 8", "step 12"]
    assert page.locator("#play").inner_text() == "Play"
    assert shown(page) == (12, "Generated, step 12")


def test_one_slider_moves_all_runs(visit, reports):
    page = visit(reports["all"])
    page.get_by_label("Training step").focus()
    assert [shown(page, i)[0] for i in range(3)] == [12, 12, 40]
    page.keyboard.press("Home")
    assert [shown(page, i)[0] for i in range(3)] == [0, 0, 0]
    page.keyboard.press("ArrowRight")
    # A run without a picture of that step shows its last one before it.
    assert [shown(page, i) for i in range(3)] == [
        (4, "Generated, step 4"),
        (4, "Generated, step 4"),
        (0, "Generated, step 0"),
    ]


def test_curves_show_values_under_the_pointer_and_by_keyboard(visit, reports):
    page = visit(reports["plain"])
    plot = page.locator("#r0-losses")
    values = page.locator("figure.chart").first.locator(".value")
    chart = page.evaluate("JSON.parse(document.getElementById('data').textContent).charts")
    data = chart["r0-losses"]
    plot.focus()
    page.keyboard.press("Home")
    assert plot.get_attribute("aria-valuenow") == str(data["steps"][0])
    for i, column in enumerate(data["values"]):
        assert float(values.nth(i).inner_text()) == pytest.approx(column[0], rel=1e-3)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + box["height"] / 2)
    assert plot.get_attribute("aria-valuenow") == str(data["steps"][-1])
    # The dot is on the curve: the last point of its path.
    place = "x => [x.getAttribute('cx'), x.getAttribute('cy')].map(Number)"
    dot = plot.locator(".dot").first.evaluate(place)
    path = plot.locator("path").first.get_attribute("d")
    assert dot == pytest.approx([float(x) for x in path.split("L")[-1].split()], abs=0.06)


@pytest.mark.parametrize("name", ["plain", "points", "all"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(visit, reports, name, width):
    page = visit(reports[name], width)
    page.evaluate("document.querySelectorAll('details').forEach(x => { x.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """width => [...document.querySelectorAll('body *')]
        .filter(x => !x.closest('.scroll') && !x.closest('svg') && !x.matches('.skip'))
        .filter(x => x.getBoundingClientRect().right > width + 0.5)
        .map(x => x.outerHTML.slice(0, 80))"""
    assert page.evaluate(wide, width) == []


def pixels(page):
    """The pixels of the whole page, (height, width, 3)."""
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_walks_of_points_stay_in_their_picture(visit, reports, width):
    page = visit(reports["all"], width)
    drawing = page.locator("svg.points")
    box = drawing.bounding_box()
    page.evaluate(
        """() => {
            document.querySelectorAll('.way').forEach((x, i) => x.setAttribute(
                'points', i % 2 ? '-300,180 700,180' : '180,-300 180,700'));
            // The edges of enlarged images differ from one screenshot to the next.
            document.querySelectorAll('img').forEach((x) => { x.style.visibility = 'hidden'; });
        }"""
    )
    drawn = pixels(page)
    drawing.evaluate("x => { x.style.visibility = 'hidden'; }")
    rows, columns = np.nonzero((drawn != pixels(page)).any(-1))
    assert len(rows) > 500  # the lines, within the picture
    assert box["x"] - 1 <= columns.min() <= columns.max() <= box["x"] + box["width"] + 1
    assert box["y"] - 1 <= rows.min() <= rows.max() <= box["y"] + box["height"] + 1


def test_a_table_that_scrolls_has_a_shadow_where_it_goes_on(visit, reports):
    page = visit(reports["plain"], 390)
    frame = page.locator(".scroll").filter(visible=True).first

    def edges():
        image = Image.open(io.BytesIO(frame.screenshot())).convert("L")
        middle = np.asarray(image).astype(int)[3:-3]
        return np.median(middle[:, 1]), np.median(middle[:, -2])

    paper = edges()[0]
    frame.locator("table").evaluate("x => { x.style.width = '900px'; }")
    assert edges()[0] == paper
    assert edges()[1] < paper - 20
    frame.evaluate("x => { x.scrollLeft = 9999; }")
    assert edges()[0] < paper - 20
    assert edges()[1] == paper


def test_the_measures_of_a_run_fit_on_a_phone(visit, runs, tmp_path):
    folder = copy(runs / "points", tmp_path / "measured")
    values = {"value": 0.00264, "low": 0.001394, "high": 0.003886, "floor": -0.02904}
    labels = {"label": "coverage: real samples with a fake", "better": "high", "samples": 2500}
    labels["without_average"] = None
    content = {"step": 40, "measures": [{"name": "coverage_n2500", **labels, **values}]}
    (folder / "evaluation.json").write_text(json.dumps(content))
    result = cli("report", folder, "--out", tmp_path / "x.html")
    assert result.status == 0, result
    frame = visit(tmp_path / "x.html", 390).locator("#measures .scroll")
    assert frame.evaluate("x => x.scrollWidth <= x.clientWidth")


def test_runs_are_beside_each_other_on_a_screen_and_below_on_a_phone(visit, reports):
    def places(width):
        figures = visit(reports["all"], width).locator(".film")
        boxes = [figures.nth(i).bounding_box() for i in range(3)]
        return [(round(box["x"]), round(box["y"])) for box in boxes]

    wide, narrow = places(1280), places(360)
    assert len({x for x, _ in wide}) == 3
    assert len({y for _, y in wide}) == 1
    assert len({x for x, _ in narrow}) == 1
    assert narrow[0][1] < narrow[1][1] < narrow[2][1]


CONTRASTS = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const light = (c) => {
        c /= 255;
        return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    };
    const luminance = (rgb) => {
        const [r, g, b] = rgb.map(light);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (x) => {
        for (; x; x = x.parentElement) {
            const colour = getComputedStyle(x).backgroundColor;
            if (!colour.startsWith('rgba(0, 0, 0, 0')) return parse(colour);
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const x of document.querySelectorAll('body *')) {
        const own = [...x.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || x.closest('svg') || x.matches('script, noscript, .skip')) continue;
        const [a, b] = [parse(getComputedStyle(x).color), behind(x)].map(luminance);
        found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), x.outerHTML.slice(0, 80)]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_of_wcag_aa(visit, reports, scheme):
    page = visit(reports["all"], color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(20, 23, 27)") == (scheme == "dark")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [x for x in contrasts if x[0] < 4.5] == []


def test_tab_reaches_everything_and_shows_where_it_is(visit, reports):
    page = visit(reports["plain"])
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => {
                    const x = document.activeElement;
                    return [x.id || x.className || x.tagName, getComputedStyle(x).outlineStyle];
                }"""
            )
        )
    names = [name for name, _ in reached]
    for name in ("skip", "step", "play", "r0-losses", "r0-gradients", "scroll", "SUMMARY"):
        assert name in names, names
    assert all(outline == "solid" for name, outline in reached if name != "BODY")


def test_a_printed_report_opens_what_is_folded(visit, reports):
    page = visit(reports["plain"])
    assert page.evaluate("document.querySelector('details').open") is False
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelector('details').open") is True
    page.emulate_media(media="print")
    assert page.locator(".player").is_hidden()


def test_without_scripts_the_last_step_is_shown(visit, reports):
    page = visit(reports["plain"], java_script_enabled=False)
    assert page.locator(".film img:not([hidden])").get_attribute("data-step") == "12"
    assert page.locator("#r0-losses path").first.is_visible()
