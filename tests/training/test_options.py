"""Options are declared once: checks, the command line and README.md follow from the fields."""

import dataclasses
import re
from dataclasses import dataclass

import pytest
from run_helpers import cli

from minigan import Config
from minigan.cli.options import add_train_options, config_options
from minigan.cli.parser import Parser
from minigan.gan.losses import LOSSES, Hinge
from minigan.gan.models import MODELS
from minigan.training import readme
from minigan.training.config import SHORTHANDS
from minigan.training.options import (
    POSITIVE_INTEGER,
    markdown_table,
    most_common_first,
    option,
    options,
)
from minigan.utils.names import list_names

DECLARED = list(options(Config).values())


@dataclass(frozen=True)
class Small:
    steps: int = option(7, "training steps", group="training", check=POSITIVE_INTEGER)
    rate: float | None = option(None, "rate", group="more", default_text=lambda: "half")
    flag: bool = option(True, "a flag", group="more")
    names: str = option("none", "names", group="more", choices=("none", "a", "b"), separator="+")


def test_a_declaration_is_read_from_its_field():
    steps, rate, flag, _ = options(Small).values()
    assert (steps.name, steps.type, steps.optional, steps.default) == ("steps", int, False, 7)
    assert (rate.type, rate.optional, rate.describe_default()) == (float, True, "half")
    assert (flag.type, flag.describe_default()) == (bool, "yes")
    assert Small().steps == 7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 0, "steps = 0 is not a positive integer"),
        ("steps", None, "steps = None is not a positive integer"),
        ("rate", "x", "rate = 'x' is not a number"),
        ("flag", 1, "flag = 1 is neither True nor False"),
        ("names", "a+c", r"unknown names 'c' \(accepted: a, b, several joined by \+\)"),
    ],
)
def test_a_value_is_checked_by_its_declaration(name, value, message):
    with pytest.raises(ValueError, match=message):
        options(Small)[name].check_value(value)


def test_none_is_accepted_where_the_annotation_says_so():
    options(Small)["rate"].check_value(None)


def test_the_table_of_a_small_class():
    assert markdown_table(Small) == (
        "**training**\n\n"
        "| option | accepted | default | what it does |\n"
        "| --- | --- | --- | --- |\n"
        "| `steps` | a positive integer | 7 | training steps |\n"
        "\n**more**\n\n"
        "| option | accepted | default | what it does |\n"
        "| --- | --- | --- | --- |\n"
        "| `rate` | a number | half | rate |\n"
        "| `flag` | yes or no | yes | a flag |\n"
        "| `names` | `none`, `a` or `b`, joined by `+` | none | names |\n"
    )


def test_lists_in_words():
    assert [list_names(names) for names in (["a"], "ab", "abc")] == ["a", "a or b", "a, b or c"]
    assert most_common_first({"x": 10, "y": 2, "z": 10, "w": 2}) == "10; y, w: 2"


@pytest.mark.parametrize("item", DECLARED, ids=lambda item: item.name)
def test_every_field_is_an_option_with_help(item):
    assert item.help
    assert item.group
    assert "\n" not in item.help
    if item.default is None:
        assert item.optional
        assert item.describe_default() != "none"  # what None stands for is said
    item.check_value(item.default)
    numeric = item.type in (int, float)
    assert numeric == (item.check is not None)


def test_the_help_of_train_is_made_from_the_fields():
    text = " ".join(cli("train", "--help").out.split())
    for item in DECLARED:
        # A line may be broken at a hyphen, so blanks are left out.
        line = f"{item.describe()} [{item.describe_default()}]"
        assert re.search(rf"--{item.name.replace('_', '-')}[ ,]", text)
        assert line.replace(" ", "") in text.replace(" ", ""), item.name
    for shorthand in SHORTHANDS:
        assert f"--{shorthand.name} " in text


def test_the_help_has_the_groups_and_options_in_the_order_of_the_fields():
    text = cli("train", "--help").out
    titles = re.findall(r"^(\w[\w ]*):$", text, re.MULTILINE)
    assert titles == ["options", *dict.fromkeys(item.group for item in DECLARED)]


def test_a_model_that_is_added_later_is_accepted_and_listed(monkeypatch):
    monkeypatch.setitem(MODELS, "mine", MODELS["mlp"])
    monkeypatch.setitem(LOSSES, "my-loss", Hinge)
    assert Config(model="mine", loss="my-loss").model == "mine"
    assert "my-loss" in cli("train", "--help").out
    assert "`mine`" in markdown_table(Config)


def test_defaults_come_from_the_fields_alone():
    """In the help of no option is its default repeated by hand."""
    for item in DECLARED:
        assert "[" not in item.help
        assert "default" not in item.help


def _parsed(*words):
    parser = Parser()
    add_train_options(parser)
    return config_options(parser.parse_args(list(words)))


def test_only_given_options_are_set():
    assert _parsed() == {}
    assert _parsed("--steps", "3", "--no-standardize") == {"steps": 3, "standardize": False}


def test_an_option_for_one_field_wins_over_the_shorthand():
    assert _parsed("--lr", "0.5") == {"lr_g": 0.5, "lr_d": 0.5}
    for words in (("--lr", "0.5", "--lr-d", "0.1"), ("--lr-d", "0.1", "--lr", "0.5")):
        assert _parsed(*words) == {"lr_g": 0.5, "lr_d": 0.1}


def test_the_config_keys_and_their_order_stay():
    """config.json and checkpoints of older runs have them."""
    assert [item.name for item in DECLARED] == [field.name for field in dataclasses.fields(Config)]
    assert list(Config().as_dict())[:4] == ["data", "split", "data_dir", "samples"]
    assert len(DECLARED) == 64


def test_the_readme_has_the_table():
    text = readme.README.read_text()
    assert text == readme.with_options(text), "run: python -m minigan.training.readme"
    text = readme.TRANSLATION.read_text()
    table = readme.translation_table()
    assert text == readme.with_options(text, table), "run: python -m minigan.training.readme"


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="the markers"):
        readme.with_options("no markers")
