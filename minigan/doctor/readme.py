"""Write the tables of findings and gauges into README.md: `python -m minigan.doctor.readme`."""

from __future__ import annotations

from pathlib import Path

from ..training.gauges import GAUGES
from .rule import Rule, Test
from .rules import RULES
from .series import DERIVED

README = Path(__file__).with_name("README.md")


def findings() -> str:
    """Return the table of the rules, in their order."""
    titles = ("finding", "runs", "bad if", "why this threshold", "remedy to try")
    head = f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}\n"
    return head + "".join(
        f"| `{rule.name}` | {rule.scope} | {_condition(rule)} | {rule.why} | {rule.remedy} |\n"
        for rule in RULES
    )


def _condition(rule: Rule) -> str:
    text = " and ".join(map(_comparison, (rule.test, *rule.needs)))
    return f"{text}, or the training diverged" if rule.or_diverged else text


def _comparison(test: Test) -> str:
    names = {"median": "", "max": "highest ", "min": "lowest "}
    which = names.get(test.reduce.__name__.removeprefix("a"), "first ")
    share = {0.0: ", whole run", 0.5: ", second half", 0.7: ", last 30 %"}.get(test.start, "")
    share = "" if which == "first " else share
    return f"{which}`{test.gauge}` {'>' if test.above else '<'} {test.threshold:g}{share}"


def gauges() -> str:
    """Return the table of the gauges in metrics.jsonl, and of those derived from them."""
    head = "| gauge | unit | what it is |\n| --- | --- | --- |\n"
    rows = [(name, x.unit, x.about) for name, x in GAUGES.items()]
    rows += [(f"{name} (derived)", x.unit, x.about) for name, x in DERIVED.items()]
    return head + "".join(f"| {name} | {unit} | {about} |\n" for name, unit, about in rows)


def with_tables(text: str) -> str:
    """Return the text with both tables replaced.

    Raises:
        ValueError: a marker is missing.
    """
    for name, table in (("findings", findings()), ("gauges", gauges())):
        begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
        head, _, rest = text.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise ValueError(f"the markers {begin} and {end} are needed")
        text = f"{head}{begin}\n{table}{end}{tail}"
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
