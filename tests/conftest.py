"""What has to happen before any test module is imported, and what holds for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lectr_extproc.edge.ledger import open_store
from lectr_extproc.edge.store import Store

# Assertions in a module of helpers explain themselves only if pytest rewrites them before the first import.
pytest.register_assert_rewrite("tests.e2e.scene")

# The promised times are held in tests/bench; on a busy machine a deadline per example fails by chance.
# Each run draws other examples: 50 are half of the time of 100, and `make fuzz` looks for longer, guided by coverage.
settings.register_profile("patient", deadline=None, max_examples=50)
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def the_ledger_of_whoever_runs_the_tests_stays_theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept at home: without a setting the ledger is below this variable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A ledger in its default place, which a lectr holds open."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store, _ = open_store(None, {"XDG_STATE_HOME": str(tmp_path)})
    store.migrate()
    yield store
    store.close()
