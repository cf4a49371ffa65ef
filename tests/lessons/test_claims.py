"""claims.md is what the toml, the small tests and the results of the lessons say."""

import copy
import json
import math
import re
import shutil
import sys
from collections import Counter

import pytest
from lesson_helpers import LESSONS

sys.path.insert(0, str(LESSONS))
import claims_code
import write_claims

sys.path.remove(str(LESSONS))

TEXT = write_claims.load()
SMALL = json.loads((LESSONS / "claims_code.json").read_text(encoding="utf-8"))
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def test_claims_md_is_what_the_script_writes():
    page = write_claims.Page(TEXT, SMALL)
    rendered = page.render()
    assert page.errors == []
    assert rendered == (LESSONS / "claims.md").read_text(encoding="utf-8"), (
        "run `python lessons/write_claims.py`"
    )


def test_the_small_tests_give_the_numbers_that_are_shown():
    assert list(SMALL) == list(claims_code.TESTS)
    for name, numbers in write_claims.small_tests().items():
        for what, value in numbers.items():
            shown = SMALL[name][what]
            near = value if isinstance(value, str) else pytest.approx(value, rel=2e-3)
            assert shown == near, (name, what)


def test_every_small_test_is_used_and_is_short():
    used = {test[6:] for claim in TEXT["claim"] for test in claim.get("test", [])}
    assert set(claims_code.TESTS) <= used
    assert all(test.__doc__ for test in claims_code.TESTS.values())


def test_the_toml_has_no_errors_and_enough_claims():
    assert write_claims.problems(TEXT) == []
    claims = TEXT["claim"]
    assert len(claims) >= 40
    assert {claim["verdict"] for claim in claims} == set(write_claims.VERDICTS)
    for claim in claims:
        assert CHINESE.search(claim["zh"]), claim["id"]
        assert not CHINESE.search(claim["en"] + claim["why"]), claim["id"]
        assert claim["why"], claim["id"]
    assert [len(tutorial["sections"]) for tutorial in TEXT["tutorials"].values()] == [
        29,
        30,
        19,
        27,
        16,
    ]


def test_the_page_shows_every_claim_and_links_to_what_exists():
    page = (LESSONS / "claims.md").read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="([^"]+)">', page)
    assert Counter(anchors) == Counter(claim["id"] for claim in TEXT["claim"])
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) == set(anchors)
    source = (LESSONS / "claims_code.py").read_text(encoding="utf-8").splitlines()
    for file, line in re.findall(r"\]\(([^)#:]+)(?:#L?([^)]+))?\)", page):
        assert (LESSONS / file).is_file(), file
        if file == "claims_code.py" and line:
            assert source[int(line) - 1].startswith("def "), line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "nash"}, "nash: 2 claims have this id"),
        ({"verdict": "maybe"}, "first: there is no verdict 'maybe'"),
        ({"at": ["000 1.2", "005 1.1"]}, "first: there is no section '005 1.1'"),
        ({"test": []}, "first: nothing tests it"),
        ({"why_zh": ""}, "first: why_zh is missing"),
        ({"verdict": "open"}, "first: an open claim, and no other, names"),
        ({"lesson": "19"}, "first: an open claim, and no other, names"),
        ({"at": ["000 1.2", "004 8"], "verdict": "true"}, ""),
        ({"at": ["000 6.2"]}, "section 000 6.2: needs claims or a reason"),
    ],
)
def test_an_error_of_the_toml_is_named(changes, message):
    text = copy.deepcopy(TEXT)
    claim = next(claim for claim in text["claim"] if claim["verdict"] == "true, but")
    claim.update({"id": "first", **changes})
    found = write_claims.problems(text)
    assert any(line.startswith(message) for line in found) if message else not found


def test_a_section_without_a_claim_or_a_reason_is_named():
    text = copy.deepcopy(TEXT)
    text["tutorials"]["000"]["sections"][15].pop()
    text["tutorials"]["000"]["sections"][16][3] = "boring"
    assert write_claims.problems(text) == [
        "section 000 6.2: needs claims or a reason why it has none, not both",
        "section 000 6.3: its reason begins with none of [reasons]",
    ]


# ------------------------------------------------------------------------ the results of a lesson
RESULTS = {
    "fast": False,
    "results": [
        {"what": "the gap", "expected": "at most 1", "measured": "0.5", "passed": True},
        {"what": "the gap at the end", "expected": "at most 1", "measured": "0.2", "passed": True},
        {"what": "a message", "expected": "says 'no'", "measured": "it says no!", "passed": True},
        {"what": "the count", "expected": "7", "measured": "7", "passed": True},
        {"what": "the ratio", "expected": "at most 1", "measured": "2", "passed": False},
    ],
    "numbers": [
        {"what": "KL", "mean": 0.0123456, "se": 0.00234, "n": 5},
        {"what": "W1", "mean": 2.0, "n": 1},
        {"what": "a lost seed", "mean": math.nan, "se": math.nan, "n": 5},
    ],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "99_made_up.json").write_text(json.dumps(RESULTS))
    for name in ("claims.toml", "claims_code.py"):
        shutil.copy(LESSONS / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("the gap", ("the gap", "0.5 (expected: at most 1)")),
        ("at the end", ("the gap at the end", "0.2 (expected: at most 1)")),
        ("KL", ("KL", "0.01235 ± 0.0023 (n = 5)")),
        ("W", ("W1", "2")),
        ("a message", ("a message", "'no'")),
        ("count", ("the count", "7")),
    ],
)
def test_a_number_is_found_by_its_name_or_a_part_of_it(folder, name, expected):
    assert write_claims.measured("99", name, folder) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gap", "lesson 99: 2 names contain 'gap'"),
        ("radius", "lesson 99: no name contains 'radius'"),
        ("the ratio", "lesson 99: the check 'the ratio' failed"),
        ("a lost seed", "lesson 99: 'a lost seed' is nan"),
    ],
)
def test_a_name_that_is_no_number_of_the_lesson_is_an_error(folder, name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_claims.measured("99", name, folder)


def test_the_numbers_of_a_fast_run_are_refused(folder):
    path = folder / "results" / "99_made_up.json"
    path.write_text(json.dumps({**RESULTS, "fast": True}))
    with pytest.raises(ValueError, match="lesson 99: its results are of a run with --fast"):
        write_claims.measured("99", "KL", folder)


def test_missing_names_are_listed_all_at_once_and_missing_results_are_shown(folder):
    text = copy.deepcopy(TEXT)
    first, second, third = text["claim"][:3]
    first["test"] = ["99: radius", "99: W1", "code: nothing"]
    second["test"] = ["98: anything"]
    third["test"] = ["99: gap"]
    page = write_claims.Page(text, SMALL, folder)
    assert [error.split(" contain")[0] for error in page.errors] == [
        f"{first['id']}: lesson 99: no name",
        f"{first['id']}: claims_code.py has no test 'nothing'",
        f"{third['id']}: lesson 99: 2 names",
    ]
    row = next(line for line in page.render().splitlines() if f'"{second["id"]}"' in line)
    assert row.count("not measured yet") == 2, "by the verdict, and by the test"


def test_a_pipe_in_a_name_does_not_end_a_cell(folder):
    results = copy.deepcopy(RESULTS)
    results["numbers"][1]["what"] = "|D - 1/2|"
    (folder / "results" / "99_made_up.json").write_text(json.dumps(results))
    text = copy.deepcopy(TEXT)
    text["claim"][0]["test"] = ["99: D - 1/2"]
    page = write_claims.Page(text, SMALL, folder).render()
    assert r"lesson 99: \|D - 1/2\|: **2**" in page
