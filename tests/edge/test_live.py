"""What the running process shows of itself."""

import time
from pathlib import Path

import pytest

from lectr_extproc.edge.live import VERSION
from tests.core.finished import call
from tests.edge.given import live, settings


def test_health_names_what_is_in_force(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.counts["decisions"] = 2
    shared.counts["bodies_asked_for"] = 1
    health = shared.health()
    assert (health["status"], health["settings_problem"], health["orgs"]) == ("ok", None, 1)
    assert health["clusters"] == [upstream.cluster for upstream in shared.snapshot.upstreams] != []
    assert list(health["counts"].items()) == [("bodies_asked_for", 1), ("decisions", 2)]
    assert (health["version"], health["spool"], health["breakers"]) == (VERSION, None, [])


def test_models_that_fail_are_named_and_no_degradation(tmp_path: Path) -> None:
    shared = live(tmp_path)
    failed = call(model_sent="gpt-4o", host="api.openai.com", error_category="server_error", error_source="provider")
    shared.vitals.heed([failed] * 3, shared.snapshot)
    (breaker,) = shared.health()["breakers"]
    assert (breaker["provider"], breaker["model"]) == ("openai", "gpt-4o")
    assert shared.health()["degraded"] == []


def test_a_settings_file_that_is_not_in_force_is_a_degradation(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.settings_problem = "line 3: no"
    assert (shared.health()["status"], shared.health()["settings_problem"]) == ("degraded", "line 3: no")
    assert shared.health()["degraded"] == ["settings"]


def test_prices_that_are_not_in_force_are_a_degradation(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.prices_problem = "answered 404"
    assert (shared.health()["status"], shared.health()["prices"]["problem"]) == ("degraded", "answered 404")


def test_the_snapshot_is_that_of_the_settings_in_force(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.settings = settings(orgs=[])
    assert shared.snapshot is shared.settings.snapshot
    assert shared.health()["orgs"] == 0


def test_two_processes_share_nothing(tmp_path: Path) -> None:
    one, other = live(tmp_path), live(tmp_path)
    one.counts["decisions"] += 1
    one.draining.set()
    assert not other.counts
    assert not other.draining.is_set()


def test_a_ledger_that_is_not_where_it_should_be_is_told(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.ledger = lambda: {"url": "memory", "problem": None}
    assert (shared.health()["status"], shared.health()["ledger"]["url"]) == ("ok", "memory")
    shared.ledger = lambda: {"url": "memory", "problem": "the disk is full"}
    assert shared.health()["status"] == "degraded"


def test_spans_that_do_not_leave_are_a_degradation_and_what_became_of_calls_is_in_one_place(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.ledger = lambda: {"written": 3, "problem": None}
    shared.export = lambda: {"exported": 2, "lag": 1, "problem": "spans wait in the ledger: HTTP 503"}
    assert shared.health()["degraded"] == ["export"]
    assert shared.health()["export"]["lag"] == 1
    assert [shared.events()[name] for name in ("written", "exported", "lag")] == [3, 2, 1]


def test_calls_that_have_no_record_are_a_degradation_for_as_long_as_that_is_recent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    shared = live(tmp_path)
    shared.lose("batches_failed")
    now += 30
    shared.lose("spool_lines_unreadable", 2)
    assert shared.counts == {"batches_failed": 1, "spool_lines_unreadable": 2}
    assert shared.health()["degraded"] == ["records"]
    assert str(shared.health()["records_problem"]).endswith(": batches_failed, spool_lines_unreadable")
    now += 31
    assert str(shared.health()["records_problem"]).endswith(": spool_lines_unreadable")
    now += 30
    assert (shared.health()["degraded"], shared.health()["records_problem"]) == ([], None)


def test_metrics_that_do_not_leave_are_a_degradation(tmp_path: Path) -> None:
    shared = live(tmp_path)
    shared.telemetry = lambda: {"problem": "Failed to export metrics batch code: 503"}
    assert shared.health()["degraded"] == ["telemetry"]
