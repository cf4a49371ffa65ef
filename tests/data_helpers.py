"""Folders of images, and a limit of memory, for tests."""

import tracemalloc
import warnings
from contextlib import contextmanager

from PIL import Image

from minigan.data import DataWarning, load


def draw(path, value=190, size=(6, 5), kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path, kind or "PNG")


def loaded(path, **options):
    """The data and their notes, which are warnings too."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(path, **options)
    assert [str(x.message) for x in caught] == list(data.notes)
    assert {x.category for x in caught} <= {DataWarning}
    assert all(note.isprintable() for note in data.notes)
    return data, [note.removeprefix(str(path)) for note in data.notes]


@contextmanager
def peak_below(megabytes):
    """Fail where a `with` block takes more memory."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()
