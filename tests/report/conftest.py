"""Runs that the tests of reports share."""

import pytest
from report_helpers import make_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder with the runs plain, classes and points; tests leave them as they are."""
    return make_runs(tmp_path_factory.mktemp("runs"))
