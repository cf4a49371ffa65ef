"""Each lesson runs, its checks pass and can fail, and it has the parts that a lesson has."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from emulator_helpers import needs_compiler
from lesson_helpers import BUGS, LESSONS, NAMES, assert_fails, fast_run, run_cells, source
from PIL import Image

from minigan.utils.lesson_bugs import Bug, cells, plant

# Lesson 04 runs on the CUDA emulator, which takes a C++ compiler. The first two lessons are fast.
MARKS = {
    name: [pytest.mark.slow] * (name[:2] > "02") + [needs_compiler] * (name[:2] == "04")
    for name in NAMES
}
ALL = pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS[name]) for name in NAMES])
MAX_LINES = 340  # of a lesson: one sitting
MAX_CODE_LINES = 150  # without imports and figures
MAX_CHECKS = 7

LESSON = """# %%
from minigan.utils.lesson import Lesson

lesson = Lesson("99_made_up", "A lesson that was made up")

# %%
lesson.expect("two and two", 2 + 2, equal=4)
lesson.expect("a number", 0.5, at_least=0.4, at_most=0.6)

# %%
lesson.finish()
"""


@ALL
def test_it_runs_and_all_is_as_expected(name):
    run = fast_run(name)
    assert run["fast"]
    assert run["results"]
    assert all(result["passed"] for result in run["results"])
    passed = re.findall(r"^ *PASS\b", run["output"], re.M)
    assert len(passed) == len(run["results"]), "each has words of its own"
    assert "FAIL" not in run["output"]
    assert "Warning" not in run["errors"]


@ALL
def test_every_expectation_has_its_planted_change(name):
    assert [result["what"] for result in fast_run(name)["results"]] == [
        bug.fails for bug in BUGS[name]
    ]
    assert all(bug.answer for bug in BUGS[name])


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        pytest.param(name, bug, marks=MARKS[name], id=f"{name}-{bug.fails}")
        for name in NAMES
        for bug in BUGS[name]
    ],
)
def test_a_planted_change_turns_it_to_fail(name, bug, tmp_path):
    assert_fails(name, bug, tmp_path)


@ALL
def test_its_picture_shows_something(name):
    picture = Image.open(io.BytesIO(fast_run(name)["files"][f"{name}.png"])).convert("RGB")
    assert min(picture.size) >= 400
    assert picture.width <= 1600
    assert np.asarray(picture).std() > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in LESSONS.glob("figures/*.gif")))
def test_its_film_moves(name):
    film = Image.open(io.BytesIO(fast_run(name)["files"][f"{name}.gif"]))
    first = np.asarray(film.convert("RGB"))
    film.seek(film.n_frames - 1)
    assert film.n_frames > 1
    assert (np.asarray(film.convert("RGB")) != first).any()


@ALL
def test_it_is_built_as_a_lesson_is(name):
    kinds, bodies = zip(*cells(source(name)), strict=True)
    assert bodies[0].lstrip().startswith(f"# # {name[:2]} ")
    assert re.search(r"[\u4e00-\u9fff]", bodies[0]), "a line of Chinese in the opening"
    assert kinds[-1] == "[markdown]"
    assert re.findall(r"^# (\d)\. ", bodies[-1], re.M) == ["1", "2", "3"]
    assert "Figure" in kinds
    for kind, body in zip(kinds, bodies, strict=True):
        if kind == "[markdown]":
            assert all(line.startswith("#") for line in body.strip().splitlines())
    code = [body for kind, body in zip(kinds, bodies, strict=True) if kind == ""]
    lines = [line for line in "\n".join(code).splitlines() if line.strip() and line[0] != "#"]
    lines = [line for line in lines if not line.startswith(("import ", "from "))]
    assert len(lines) <= MAX_CODE_LINES, len(lines)
    assert len(source(name).splitlines()) <= MAX_LINES
    assert bodies[-1].count("<details><summary>Answer</summary>") == 3
    assert 4 <= len(BUGS[name]) <= MAX_CHECKS


@ALL
def test_its_committed_results_and_figures_are_those_of_a_full_run(name):
    results = json.loads((LESSONS / "results" / f"{name}.json").read_text())
    assert not results["fast"]
    assert [result["what"] for result in results["results"]] == [bug.fails for bug in BUGS[name]]
    assert all(result["passed"] for result in results["results"])
    figures = {path.name for path in (LESSONS / "figures").glob(f"{name}*")}
    assert figures == {n for n in fast_run(name)["files"] if n.endswith((".png", ".gif"))}


@ALL
def test_the_gallery_shows_it(name):
    gallery = (LESSONS / "README.md").read_text()
    assert f"({name}.py)" in gallery
    assert f"figures/{name}.png" in gallery


def test_the_gallery_links_to_what_exists():
    gallery = (LESSONS / "README.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", gallery) + re.findall(r'(?:src|href)="([^"]+)"', gallery)
    assert links
    for link in links:
        assert (LESSONS / link).is_file(), link


# ------------------------------------------------------------------------- the class Lesson
BUGS_FILE = """
[[bug]]
fails = "a number"
old = "0.5"
new = "0.7"
answer = "The number is too large."
"""


def _script(tmp_path, text, *options):
    path = tmp_path / "99_made_up.py"
    path.write_text(text)
    (tmp_path / "bugs").mkdir(exist_ok=True)
    (tmp_path / "bugs" / "99_made_up.toml").write_text(BUGS_FILE)
    command = [sys.executable, str(path), "--out", str(tmp_path / "out"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_failure_is_printed_and_sets_the_exit_status(tmp_path):
    good = _script(tmp_path, LESSON)
    assert (good.returncode, good.stderr) == (0, "")
    assert "2 of 2 as expected" in good.stdout
    bad = _script(tmp_path, LESSON.replace("2 + 2", "2 + 3"))
    assert bad.returncode == 1
    assert "FAILED: two and two" in bad.stderr
    assert "1 of 2 as expected" in bad.stdout
    numbers = json.loads((tmp_path / "out" / "99_made_up.json").read_text())
    assert [result["passed"] for result in numbers["results"]] == [False, True]


@pytest.mark.parametrize(
    ("measured", "bounds", "passes"),
    [
        (float("nan"), {"at_most": 1}, False),
        (float("nan"), {"at_least": 1}, False),
        (float("inf"), {"at_least": 1}, False),
        (-float("inf"), {"at_most": 1}, False),
        (1.0, {"at_most": 1}, True),
        (1.01, {"at_most": 1}, False),
        (0.99, {"at_least": 1}, False),
        (2, {"at_least": 1, "at_most": 3}, True),
        (4, {"at_least": 1, "at_most": 3}, False),
        ("ab", {"equal": "ab"}, True),
        (True, {"equal": False}, False),
        (0, {"equal": 0}, True),
        (1, {"equal": 0}, False),
        ("a stale graph", {"says": "stale"}, True),
        ("no error", {"says": "stale"}, False),
    ],
)
def test_what_passes(tmp_path, measured, bounds, passes):
    lesson = run_cells(LESSON, "99_made_up", tmp_path, until="two and two")["lesson"]
    lesson.expect("measured", measured, **bounds)
    assert lesson.results["measured"]["passed"] is passes


def test_a_recorded_number_has_mean_and_standard_error(tmp_path, capsys):
    lesson = run_cells(LESSON, "99_made_up", tmp_path, until="two and two")["lesson"]
    lesson.record("one number", np.float32(2.5))
    lesson.record("three seeds", [1.0, 2.0, 3.0])
    lesson.finish()
    one, three = json.loads((tmp_path / "99_made_up.json").read_text())["numbers"]
    assert one == {"what": "one number", "mean": 2.5, "n": 1}
    assert three == {"what": "three seeds", "mean": 2.0, "n": 3, "se": pytest.approx(3**-0.5)}
    assert "2 ± 0.58  (n = 3)             three seeds" in capsys.readouterr().out
    with pytest.raises(ValueError, match="two numbers are called 'one number'"):
        lesson.record("one number", 3)


@pytest.mark.parametrize("measured", [np.ones((2, 5)), [[1.0], [2.0]], []])
def test_what_is_recorded_has_one_axis(tmp_path, measured):
    lesson = run_cells(LESSON, "99_made_up", tmp_path, until="two and two")["lesson"]
    with pytest.raises(ValueError, match=r"seeds: shape .*, not one number"):
        lesson.record("seeds", measured)
    assert not lesson.numbers


def test_two_expectations_cannot_share_their_words(tmp_path):
    lesson = run_cells(LESSON, "99_made_up", tmp_path, until="two and two")["lesson"]
    with pytest.raises(ValueError, match="two expectations are called 'two and two'"):
        lesson.expect("two and two", 5, equal=4)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "out").write_text("a file is in the way")
    done = _script(tmp_path, LESSON)
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_is_planted_and_only_its_check_is_shown(tmp_path):
    planted = _script(tmp_path, LESSON, "--bug", "1")
    assert planted.returncode == 1
    assert "FAIL           0.7" in planted.stdout
    assert "PASS" not in planted.stdout
    assert "two and two" not in planted.stdout
    assert "bug 1 of 1" in planted.stdout
    assert "0.7" in (tmp_path / "out" / "99_made_up_bug_1.py").read_text()
    revealed = _script(tmp_path, LESSON, "--bug", "1", "--reveal")
    assert revealed.returncode == 0
    assert "- 0.5\n  + 0.7\nThe number is too large.\n" in revealed.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bug", "2"], "--bug 2: this lesson has the bugs 1 to 1"),
        (["--bug", "0"], "--bug 0: this lesson has the bugs 1 to 1"),
        (["--reveal"], "--reveal needs --bug N"),
        (["--bug", "x"], "invalid int value: 'x'"),
    ],
)
def test_a_bug_that_does_not_exist_is_a_clear_error(tmp_path, options, message):
    done = _script(tmp_path, LESSON, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lesson_without_a_file_of_bugs_says_so(tmp_path):
    _script(tmp_path, LESSON)
    (tmp_path / "bugs" / "99_made_up.toml").rename(tmp_path / "bugs" / "98_other.toml")
    command = [sys.executable, str(tmp_path / "99_made_up.py"), "--bug", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "this lesson has no bugs: there is no file" in done.stderr


def test_a_planted_change_that_does_no_harm_is_not_said_to_fail(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "BUGS_FILE", BUGS_FILE.replace("0.7", "0.55"))
    done = _script(tmp_path, LESSON, "--bug", "1")
    assert done.returncode == 0
    assert "PASS          0.55" in done.stdout
    assert "fails" not in done.stdout
    assert "this check passes all the same" in done.stdout


def test_an_error_of_a_changed_lesson_is_no_error_of_the_options(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "BUGS_FILE", BUGS_FILE.replace('"0.7"', "'float(\"x\")'"))
    done = _script(tmp_path, LESSON, "--bug", "1")
    assert done.returncode == 1
    assert "usage:" not in done.stderr
    assert "Traceback" in done.stderr
    assert "could not convert string to float" in done.stderr


def _bug(what, old, new):
    return Bug(what, old, new, answer="")


def test_a_plant_that_changes_nothing_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("lesson_helpers.source", lambda name: LESSON)
    assert_fails("99_made_up", _bug("two and two", "2 + 2", "2 + 3"), tmp_path)
    with pytest.raises(AssertionError, match="passes with"):
        assert_fails("99_made_up", _bug("two and two", "2 + 2", "3 + 1"), tmp_path)


@pytest.mark.parametrize(("old", "count"), [("2 + 4", 0), ("2", 2), ("lesson.expect", 2)])
def test_a_planted_place_is_found_exactly_once(old, count):
    message = f"change for 'two and two': '{old}' is found {count} times"
    with pytest.raises(ValueError, match=re.escape(message)):
        plant(LESSON, _bug("two and two", old, "3 + 1"))


def test_a_planted_place_is_found_whatever_its_layout_and_comments():
    text = 'f(  # (a, b) is a comment\n    a,  # first\n    b,\n)\nCODE = """\n  if (x)\n  y"""\n'
    changed = plant(text, _bug("a sum", "f(a, b)", "g(b)"))
    assert changed == text.replace(text[: text.index(")\nCODE") + 1], "g(b)")
    assert 'CODE = """\n  if (z)' in plant(text, _bug("a sum", "if (x) y", "if (z)"))
    with pytest.raises(ValueError, match="is found 0 times"):
        plant(text, _bug("a sum", "f(a, bb)", ""))
