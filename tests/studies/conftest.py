"""The small study, run once."""

import pytest

from eigencode.studies import (
    Local,
    Store,
    run_study,
)
from small_study import STUDY


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store") / "store.sqlite")
    summary = run_study(STUDY, store, Local())
    assert (summary.cells, summary.finished, summary.new, summary.failed) == (4, 4, 4, {})
    return store
