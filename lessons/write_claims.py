"""Write claims.md: the claims of the five tutorials (claims.toml) beside what was measured.

    python lessons/write_claims.py

It runs the small tests of claims_code.py, which takes some seconds; their numbers go to
claims_code.json. The numbers of the lessons are those of results/NAME.json, which a full run of a
lesson wrote. A claim whose lesson has no such file is "not measured yet". If a name does not exist
in the file, all such names are listed and claims.md stays as it was.
"""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from minigan.kernels.runtime.files import atomic_write

LESSONS = Path(__file__).parent
VERDICTS = ("true", "true, but", "false", "not checkable", "open")
Claim = dict[str, Any]
Numbers = dict[str, dict[str, Any]]  # of the small tests, by function


def load(folder: Path = LESSONS) -> dict[str, Any]:
    """Return claims.toml, its claims sorted by topic and numbered."""
    text = tomllib.loads((folder / "claims.toml").read_text(encoding="utf-8"))
    topics = list(text["topics"])
    text["claim"].sort(key=lambda claim: topics.index(claim["topic"]))  # It keeps their order.
    for number, claim in enumerate(text["claim"], 1):
        claim["number"] = number
    return text


def problems(text: dict[str, Any]) -> list[str]:
    """Return what is wrong with claims.toml itself, a line each."""
    found = []
    sections = {
        f"{tutorial} {number}": reason
        for tutorial, value in text["tutorials"].items()
        for number, _, _, *reason in value["sections"]
    }
    for name, count in Counter(claim["id"] for claim in text["claim"]).items():
        if count > 1:
            found.append(f"{name}: {count} claims have this id")
    for claim in text["claim"]:
        name, verdict = claim["id"], claim["verdict"]
        if verdict not in VERDICTS:
            found.append(f"{name}: there is no verdict {verdict!r}")
        found += [f"{name}: there is no section {at!r}" for at in claim["at"] if at not in sections]
        if verdict in ("true", "true, but", "false") and not claim.get("test"):
            found.append(f"{name}: nothing tests it")
        if verdict in ("true, but", "false") and not claim.get("why_zh"):
            found.append(f"{name}: why_zh is missing")
        if (verdict == "open") != (claim.get("lesson") in text["later"]):
            found.append(f"{name}: an open claim, and no other, names one of the [later] lessons")
    said = {at for claim in text["claim"] for at in claim["at"]}
    for section, reason in sections.items():
        if (section in said) == bool(reason):
            found.append(f"section {section}: needs claims or a reason why it has none, not both")
        if reason and reason[0].split(":")[0] not in text["reasons"]:
            found.append(f"section {section}: its reason begins with none of [reasons]")
    return found


# ------------------------------------------------------------------------------------- evidence
def small_tests() -> Numbers:
    """Run every test of claims_code.py; return their numbers, rounded to four digits."""
    from claims_code import TESTS

    def rounded(value: Any) -> Any:
        return value if isinstance(value, str | int) else float(f"{value:.4g}")

    return {
        name: {what: rounded(value) for what, value in test().items()}
        for name, test in TESTS.items()
    }


def results_of(lesson: str, folder: Path = LESSONS) -> dict[str, Any] | None:
    """Return the numbers of the lesson with this number, or None if it has no results yet."""
    paths = sorted((folder / "results").glob(f"{lesson}_*.json"))
    return json.loads(paths[0].read_text(encoding="utf-8")) if paths else None


def measured(lesson: str, name: str, folder: Path = LESSONS) -> tuple[str, str]:
    """Return (full name, value) of a check or a recorded number; ("", "") without results.

    `name` is the name or a part of it that no other name has.

    Raises:
        ValueError: there is no such name, or more than one, or the check failed, or the number is
            NaN or infinite.
    """
    results = results_of(lesson, folder)
    if results is None:
        return "", ""
    if results["fast"]:
        raise ValueError(f"lesson {lesson}: its results are of a run with --fast")
    entries = {entry["what"]: entry for entry in results.get("numbers", []) + results["results"]}
    fits = [what for what in entries if what == name] or [what for what in entries if name in what]
    if len(fits) != 1:
        which = f"{len(fits)} names contain" if fits else "no name contains"
        raise ValueError(f"lesson {lesson}: {which} {name!r}")
    entry = entries[fits[0]]
    if "mean" not in entry:
        if not entry["passed"]:
            raise ValueError(f"lesson {lesson}: the check {fits[0]!r} failed")
        value, expected = entry["measured"], entry["expected"]
        if expected.startswith("says "):  # `value` is a long text that contains this one.
            return fits[0], expected.removeprefix("says ")
        return fits[0], value if value == expected else f"{value} (expected: {expected})"
    if not math.isfinite(entry["mean"]):
        raise ValueError(f"lesson {lesson}: {fits[0]!r} is {entry['mean']}")
    value = f"{entry['mean']:.4g}"
    if entry["n"] > 1:
        value += f" ± {entry['se']:.2g} (n = {entry['n']})"
    return fits[0], value


class Page:
    """Render claims.md; `errors` are the tests that do not exist.

    Args:
        text: what `load` returns.
        small: what `small_tests` returns.
        folder: the folder of the lessons.
    """

    def __init__(self, text: dict[str, Any], small: Numbers, folder: Path = LESSONS) -> None:
        self.text, self.small, self.folder = text, small, folder
        self.words = text["page"]
        self.errors: list[str] = []
        source = (folder / "claims_code.py").read_text(encoding="utf-8").splitlines()
        self.lines = {
            line.removeprefix("def ").split("(")[0]: number
            for number, line in enumerate(source, 1)
            if line.startswith("def ")
        }
        self.evidence = {claim["id"]: self._tests(claim) for claim in text["claim"]}

    def _tests(self, claim: Claim) -> list[str | None]:
        """Return a line for each test of the claim, None for one that was not run yet."""
        lines: list[str | None] = []
        for test in claim.get("test", []):
            kind, _, name = test.partition(": ")
            try:
                lines.append(self._test(kind, name))
            except ValueError as error:
                self.errors.append(f"{claim['id']}: {error}")
        return lines

    def _test(self, kind: str, name: str) -> str | None:
        if kind == "source":
            return f"Source: {name}"
        if kind == "code":
            if name not in self.small:
                raise ValueError(f"claims_code.py has no test {name!r}")
            numbers = [f"{what}: **{_shown(x)}**" for what, x in self.small[name].items()]
            return f"[code](claims_code.py#L{self.lines[name]}): {'; '.join(numbers)}"
        what, value = measured(kind, name, self.folder)
        return f"{self._lesson(kind)}: {what}: **{value}**" if what else None

    def _lesson(self, number: str) -> str:
        paths = sorted(self.folder.glob(f"{number}_*.py"))
        return f"[lesson {number}]({paths[0].name})" if paths else f"lesson {number}"

    def _verdict(self, word: str) -> str:
        mark, chinese = self.text["verdicts"][word]
        return f"{mark} {word} {chinese}"

    # --------------------------------------------------------------------------------- parts
    def render(self) -> str:
        """Return the text of claims.md."""
        claims = self.text["claim"]
        parts = [self.words["opening"].format(count=len(claims)).strip(), self._summary()]
        parts += [self.words["credits"], self._credits()]
        for topic, (english, chinese) in self.text["topics"].items():
            rows = [self._row(claim) for claim in claims if claim["topic"] == topic]
            parts += [f"## {english} · {chinese}", self.words["claims"].strip() + _lines(rows)]
        parts.append(self.words["index"])
        for tutorial, value in self.text["tutorials"].items():
            rows = [self._section(tutorial, *section) for section in value["sections"]]
            parts.append(f"### {tutorial} ({value['about']})")
            parts.append(self.words["sections"].strip() + _lines(rows))
        return "\n\n".join(parts) + "\n"

    def _summary(self) -> str:
        rows = ["| --- |" + " ---: |" * (len(VERDICTS) + 2)]
        for tutorial in [*self.text["tutorials"], ""]:  # "" is for all of them
            made = [claim for claim in self.text["claim"] if _makes(tutorial, claim)]
            counts = Counter(claim["verdict"] for claim in made)
            name = self.words["all"]
            if tutorial:
                name = f"{tutorial} ({self.text['tutorials'][tutorial]['about']})"
            waiting = sum(None in self.evidence[claim["id"]] for claim in made)
            rows.append(_cells(name, len(made), *(counts[word] for word in VERDICTS), waiting))
        verdicts = [self._verdict(word) for word in VERDICTS]
        head = self.words["summary"].format(verdicts=" | ".join(verdicts)).strip()
        end = self.words["summary_end"].format(verdicts=", ".join(verdicts)).strip()
        return f"{head}{_lines(rows)}\n\n{end}"

    def _credits(self) -> str:
        items = []
        for tutorial, value in self.text["tutorials"].items():
            made = [claim for claim in self.text["claim"] if _makes(tutorial, claim)]
            right = ", ".join(_link(claim) for claim in made if claim["verdict"] == "true")
            credit = f"{value['credit']}<br>{value['credit_zh']}<br>{self.words['true']}: {right}"
            items.append(f"- **{tutorial}**: {credit}")
        return "\n".join(items)

    def _row(self, claim: Claim) -> str:
        places: dict[str, list[str]] = {}
        for at in claim["at"]:
            tutorial, section = at.split(maxsplit=1)
            places.setdefault(tutorial, []).append(section)
        said = "; ".join(f"{name} ({', '.join(found)})" for name, found in sorted(places.items()))
        mark, chinese = self.text["verdicts"][claim["verdict"]]
        verdict = f"{mark} **{claim['verdict']}**<br>{chinese}"
        if None in self.evidence[claim["id"]]:
            verdict += f"<br>*{self.words['not_measured']}*"
        why = [claim["why"], claim.get("why_zh", "")]
        if claim["verdict"] == "open":
            number = claim["lesson"]
            subject, lesson = self.text["later"][number], self._lesson(number)
            words = {"lesson": lesson, "subject": subject, "number": number}
            why.append(self.words["open"].format(**words))
        for test, line in zip(claim.get("test", []), self.evidence[claim["id"]], strict=False):
            waiting = f"{self._lesson(test[:2])}: *{self.words['not_measured']}*"
            why.append(waiting if line is None else line)
        anchor = f'<a id="{claim["id"]}"></a>{claim["number"]}'
        text = f"{claim['en']}<br>{claim['zh']}<br>*{said}*"
        return _cells(anchor, text, verdict, "<br>".join(filter(None, why)))

    def _section(self, tutorial: str, number: str, english: str, chinese: str, *why: str) -> str:
        made = [claim for claim in self.text["claim"] if f"{tutorial} {number}" in claim["at"]]
        links = [f"{_link(claim)} {self.text['verdicts'][claim['verdict']][0]}" for claim in made]
        if why:
            kind, _, detail = why[0].partition(": ")
            links = [f"{self.words['none']}: {kind} {self.text['reasons'][kind]}"]
            links += [detail] if detail else []
        return _cells(f"{number} {english} · {chinese}", ", ".join(links))


def _makes(tutorial: str, claim: Claim) -> bool:
    return any(at.startswith(tutorial) for at in claim["at"])


def _link(claim: Claim) -> str:
    return f"[{claim['number']}](#{claim['id']})"


def _cells(*cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _lines(rows: list[str]) -> str:
    return "".join(f"\n{row}" for row in rows)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _lessons(text: dict[str, Any]) -> set[str]:
    """Return the numbers of the lessons that test something."""
    kinds = {test.split(": ")[0] for claim in text["claim"] for test in claim.get("test", [])}
    return kinds - {"code", "source"}


def main() -> None:
    """Write claims.md and claims_code.json; exit with the list of what is wrong, if anything is."""
    text, small = load(), small_tests()
    errors = problems(text)
    page = Page(text, small)
    rendered, errors = page.render() if not errors else "", errors + page.errors
    if errors:
        for lesson in sorted({error.split("lesson ")[-1][:2] for error in errors} & _lessons(text)):
            results = results_of(lesson) or {}
            entries = results.get("numbers", []) + results.get("results", [])
            names = "".join(f"\n    {entry['what']}" for entry in entries)
            print(f"names of lesson {lesson}:{names}", file=sys.stderr)
        sys.exit("\n".join([f"claims.md is not written, for {len(errors)} reasons:", *errors]))
    numbers = json.dumps(small, indent=2, ensure_ascii=False) + "\n"
    for name, content in (("claims_code.json", numbers), ("claims.md", rendered)):
        atomic_write(LESSONS / name, lambda file, content=content: file.write(content.encode()))
    waiting = sorted(lesson for lesson in _lessons(text) if not results_of(lesson))
    print(f"claims.md: {len(text['claim'])} claims")
    if waiting:
        print(f"lessons without results in lessons/results: {', '.join(waiting)}")
    for claim in text["claim"]:
        if claim["verdict"] == "open" and results_of(claim["lesson"]):
            print(f"{claim['id']} is open, but lesson {claim['lesson']} has results now")


if __name__ == "__main__":
    main()
