"""Runs to report on, and a parser that checks the structure of a page."""

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser

import numpy as np
from run_helpers import train

VOID = {"br", "col", "hr", "img", "input", "link", "meta"}
POINTS = ["--data", "ring", "--samples", 600, "--steps", 40, "--log-every", 4]
IMAGES = ["--steps", 12, "--batch", 8, "--log-every", 2, "--sample-every", 4, "--model", "mlp"]


class Page(HTMLParser):
    """The elements of a page: (tag, attributes, text inside), and what is wrong with its HTML."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.elements, self.faults, self._open = [], [], []
        self.content = content
        self.feed(content)
        self.close()
        if self._open:
            self.faults.append(f"not closed: {[x['tag'] for x in self._open]}")
        self._check_references()

    def handle_starttag(self, tag, attrs):
        names = Counter(name for name, _ in attrs)
        self.faults += [f"{tag} has {name} twice" for name, n in names.items() if n > 1]
        element = {"tag": tag, "attrs": dict(attrs), "text": ""}
        element["parents"] = [x["tag"] for x in self._open]
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        if not self._open or self._open[-1]["tag"] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1]['tag'] if self._open else None}")
        elif self._open:
            self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def _check_references(self):
        ids = Counter(x["attrs"]["id"] for x in self.elements if "id" in x["attrs"])
        self.faults += [f"id {name} {n} times" for name, n in ids.items() if n > 1]
        for element in self.elements:
            for name in ("for", "aria-labelledby"):
                value = element["attrs"].get(name)
                if value is not None and value not in ids:
                    self.faults.append(f"{name}={value} leads nowhere")
            for name, value in element["attrs"].items():
                if name.startswith("on") or name == "style":
                    self.faults.append(f"attribute {name} of {element['tag']}")
                if name in ("src", "href") and not re.match(r"data:image/(png|jpeg);|#", value):
                    self.faults.append(f"{name} {value[:60]}")
                if name == "href" and value[1:] not in ids:
                    self.faults.append(f"href {value} leads nowhere")

    def all(self, tag, **attributes):
        """Elements of a tag whose attributes have these values (class_: one of the classes)."""
        wanted = {name.rstrip("_").replace("_", "-"): x for name, x in attributes.items()}
        return [x for x in self.elements if x["tag"] == tag and _has(x["attrs"], wanted)]

    def one(self, tag, **attributes):
        (element,) = self.all(tag, **attributes)
        return element

    @property
    def charts(self):
        return json.loads(self.one("script", id="data")["text"])["charts"]


def _has(attrs, wanted):
    return all(
        value in (attrs.get(name) or "").split() if name == "class" else attrs.get(name) == value
        for name, value in wanted.items()
    )


def read_page(path):
    """The page of a report, which must be in order."""
    page = Page(path.read_text(encoding="utf-8"))
    assert page.faults == []
    return page


def image_data(path, classes=3, colours=1):
    """An archive of 60 images of 8 x 8 pixels: bright squares whose place is their class."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % classes
    images = rng.integers(0, 60, (60, colours, 8, 8))
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label : 2 * label + 3, 1:6] += 180
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return path


def make_runs(root):
    """An unconditional and a conditional run of images, and one of points, in folders by name."""
    data = image_data(root / "squares.npz")
    train(root / "plain", "--data", data, *IMAGES)
    train(root / "classes", "--data", data, *IMAGES, "--condition", "concat", "--ema", 0.5)
    train(root / "points", *POINTS, "--sample-every", 20)
    return root


def copy(folder, to):
    """A copy of a run, to damage."""
    return shutil.copytree(folder, to)
