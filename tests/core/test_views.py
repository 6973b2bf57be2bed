"""The console's views, on SQLite in memory; tests/edge/test_views.py asks PostgreSQL the same."""

import sqlite3
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import pytest

from lectr_extproc.core import views
from lectr_extproc.core.ledger import INSERT_CALL, migrations, row_of
from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.usage import Usage
from lectr_extproc.core.views import (
    DAY_S,
    MOST_CHOICES,
    MOST_GROUPS,
    STEPS_S,
    By,
    Misasked,
    choices_of,
    choices_statement,
    groups_statement,
    money,
    number,
    overview,
    question,
    step_s,
    trend_statement,
    view,
)
from tests.core.finished import STARTED_S, call

NOW_S = STARTED_S + 3600
UNPRICED = Cost("unavailable", "unknown_model")


@pytest.fixture
def ledger() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for sql in chain.from_iterable(migrations("INTEGER PRIMARY KEY")):
        connection.execute(sql)
    yield connection
    connection.close()


def keep(ledger: sqlite3.Connection, *records: CallRecord) -> None:
    ledger.executemany(INSERT_CALL, [row_of(record, str) for record in records])


def by(ledger: sqlite3.Connection, what: By, **parameters: str) -> dict[str, Any]:
    asked = question(parameters, NOW_S)
    return view(what, asked, ledger.execute(*groups_statement(what, asked.filters)))


def at_a_glance(ledger: sqlite3.Connection, **parameters: str) -> dict[str, Any]:
    asked = question(parameters, NOW_S)
    return overview(asked, ledger.execute(*trend_statement(asked)))


def requests(shown: Mapping[str, Any], name: str) -> dict[str | None, int]:
    return {row[name]: row["requests"] for row in shown["rows"]}


# --- what may be asked ------------------------------------------------------------------------------------------------


def test_a_question_without_a_range_is_about_the_last_day() -> None:
    assert question({}, NOW_S).as_json() == {
        "since": NOW_S - DAY_S,
        "until": NOW_S,
        "covers_since": NOW_S - DAY_S,
        "complete": True,
    }
    assert question({"until": "500"}, NOW_S).since_s == 0


MISASKED = {
    "no number": ({"since": "yesterday"}, "since: write a whole number from 0 to 9223372035"),
    "a negative one": ({"since": "-1"}, "since: write"),
    "a number of other digits": ({"until": "١"}, "until: write"),
    "a number beyond all ledgers": ({"until": "9" * 30}, "until: write"),
    "a range that ends before it begins": ({"since": "9", "until": "9"}, "since: it is not before until"),
    "more calls than one may read": ({"calls": "1000001"}, "calls: write a whole number from 1 to 1000000"),
}


@pytest.mark.parametrize(("parameters", "says"), MISASKED.values(), ids=MISASKED)
def test_a_question_that_is_not_understood_is_refused_by_its_parameter(parameters: dict[str, str], says: str) -> None:
    with pytest.raises(Misasked, match=says):
        question(parameters, NOW_S)


def test_a_number_that_is_not_given_is_the_default() -> None:
    assert [number({}, "limit", 50, 1, 200), number({"limit": "200"}, "limit", 50, 1, 200)] == [50, 200]


def test_where_there_are_more_calls_than_may_be_read_the_range_says_from_when_on_it_tells() -> None:
    asked = question({}, NOW_S)
    assert asked.within(None) is asked
    beyond = asked.within(STARTED_S * 10**9 + 5)
    assert beyond.as_json() == {
        "since": NOW_S - DAY_S,
        "until": NOW_S,
        "covers_since": STARTED_S + 1,
        "complete": False,
    }
    assert beyond.filters.since_s == STARTED_S + 1


# --- groups -----------------------------------------------------------------------------------------------------------


def test_a_group_has_all_its_figures_and_what_is_not_known_is_none(ledger: sqlite3.Connection) -> None:
    timed = [call(duration_ms=float(ms), usage=Usage(input_tokens=10)) for ms in range(100, 200)]
    keep(ledger, *timed, call(error_category="rate_limit", error_source="provider", cost=UNPRICED, duration_ms=None))
    keep(ledger, call(feature="odd", usage=None, cost=None, duration_ms=None))
    shown = by(ledger, "features")
    search, odd = shown["rows"]
    p95 = search.pop("p95_ms")
    assert p95 == pytest.approx(194, rel=0.02)
    assert search == {
        "feature": "search",
        "requests": 101,
        "errors": 1,
        "error_rate": 0.009901,
        "provider_errors": 1,
        "unpriced": 1,
        "cost_usd": "25",
        "average_ms": 149.5,
        "input_tokens": 1001,
        "output_tokens": None,
    }
    unknown = ("cost_usd", "average_ms", "p95_ms", "input_tokens", "output_tokens")
    assert [odd[name] for name in unknown] == [None] * 5
    assert (shown["total"]["requests"], shown["total"]["cost_usd"], shown["more"]) == (102, "25", 0)


def test_of_few_calls_the_percentile_is_one_of_them(ledger: sqlite3.Connection) -> None:
    keep(ledger, call(duration_ms=2500.0))
    assert by(ledger, "features")["total"]["p95_ms"] == 2500.0
    keep(ledger, call(duration_ms=100.0), call(duration_ms=2501.0))
    assert by(ledger, "features")["total"]["p95_ms"] == 2501.0


def test_groups_come_by_how_many_calls_they_have_and_those_without_a_name_are_one(ledger: sqlite3.Connection) -> None:
    keep(ledger, call(feature="a"), *(call(feature=None) for _ in range(3)), call(feature="b"), call(feature="b"))
    shown = by(ledger, "features")
    assert list(requests(shown, "feature").items()) == [(None, 3), ("b", 2), ("a", 1)]
    assert shown["untagged_share"] == 0.5


def test_models_are_told_apart_by_provider_and_named_as_they_were_sent_or_else_asked_for(
    ledger: sqlite3.Connection,
) -> None:
    keep(ledger, call(), call(provider="azure"), call(provider=None, model_sent=None, model_requested="nonsense"))
    shown = by(ledger, "models")
    assert {(row["provider"], row["model"]) for row in shown["rows"]} == {
        ("openai", "gpt-4o"),
        ("azure", "gpt-4o"),
        (None, "nonsense"),
    }


@pytest.mark.parametrize(
    ("what", "name", "known"),
    [("tasks", "task", "summarisation"), ("orgs", "org", "acme"), ("providers", "provider", "openai")],
)
def test_calls_are_grouped_by_whatever_else_tells_them_apart(
    ledger: sqlite3.Connection, what: By, name: str, known: str
) -> None:
    keep(ledger, call())
    assert requests(by(ledger, what), name) == {known: 1}


def test_of_many_groups_the_largest_are_shown_and_all_are_in_the_total(ledger: sqlite3.Connection) -> None:
    keep(ledger, *(call(feature=f"f{n:03}") for n in range(MOST_GROUPS + 7)), call(feature="f106"))
    shown = by(ledger, "features")
    assert (len(shown["rows"]), shown["more"], shown["total"]["requests"]) == (MOST_GROUPS, 7, MOST_GROUPS + 8)
    assert shown["rows"][0]["feature"] == "f106"


def test_calls_are_chosen_by_range_and_by_name_and_an_empty_name_means_those_without(
    ledger: sqlite3.Connection,
) -> None:
    keep(ledger, call(), call(feature=None, task=None, task_known=None), call(started_ns=(NOW_S + 1) * 10**9))
    assert by(ledger, "features")["total"]["requests"] == 2
    assert requests(by(ledger, "features", feature=""), "feature") == {None: 1}
    assert requests(by(ledger, "features", feature="search"), "feature") == {"search": 1}
    assert requests(by(ledger, "features", task="", org="acme", provider="openai", model="gpt-4o"), "feature") == {
        None: 1
    }
    assert by(ledger, "features", since=str(NOW_S), until=str(NOW_S + 2))["total"]["requests"] == 1


def test_of_no_calls_nothing_is_said(ledger: sqlite3.Connection) -> None:
    shown = by(ledger, "features")
    assert (shown["rows"], shown["untagged_share"], shown["total"]["error_rate"]) == ([], None, None)


# --- the trend --------------------------------------------------------------------------------------------------------


def test_the_trend_has_a_point_for_each_step_of_the_range_where_nobody_called_too(ledger: sqlite3.Connection) -> None:
    keep(ledger, call(), call(error_category="overloaded", cost=UNPRICED), call(started_ns=(STARTED_S + 950) * 10**9))
    shown = at_a_glance(ledger)
    points = shown["trend"]["points"]
    assert shown["trend"]["step_s"] == 900
    assert [point["at"] for point in points] == list(range(NOW_S - DAY_S, NOW_S, 900))
    assert [point["requests"] for point in points[-5:]] == [0, 2, 1, 0, 0]
    assert points[-1] == {
        "at": NOW_S - 900,
        "requests": 0,
        "errors": 0,
        "unpriced": 0,
        "cost_usd": None,
        "average_ms": None,
        "p95_ms": None,
    }
    total = shown["total"]
    assert (total["requests"], total["requests_per_minute"]) == (3, 0.002)
    assert (total["cost_usd"], total["cost_per_hour_usd"]) == ("0.5", "0.020833")


def test_a_rate_of_cost_is_not_known_where_no_cost_is(ledger: sqlite3.Connection) -> None:
    keep(ledger, call(cost=UNPRICED))
    assert at_a_glance(ledger)["total"]["cost_per_hour_usd"] is None


@pytest.mark.parametrize("span_s", [1, 3600, 7201, DAY_S, 7 * DAY_S, 30 * DAY_S, 366 * DAY_S, 10**9])
def test_a_trend_of_any_range_is_neither_coarse_nor_too_fine(span_s: int) -> None:
    asked = question({"since": str(NOW_S - span_s)}, NOW_S)
    step = step_s(asked)
    assert span_s <= views.MOST_POINTS * step
    assert step == STEPS_S[0] or span_s >= 20 * step
    assert step % STEPS_S[0] == 0


# --- what there is to choose from -------------------------------------------------------------------------------------


def test_what_calls_can_be_chosen_by_comes_with_the_most_used_first(ledger: sqlite3.Connection) -> None:
    keep(ledger, call(feature=None), call(), call(), call(org="dal", task=None, task_known=None, provider="groq"))
    asked = question({}, NOW_S)
    shown = choices_of(asked, ledger.execute(*choices_statement(asked.filters)))
    assert shown == {
        "range": asked.as_json(),
        "orgs": ["acme", "dal"],
        "providers": ["openai", "groq"],
        "models": ["gpt-4o"],
        "features": ["search", None],
        "tasks": ["summarisation", None],
    }


def test_there_are_never_too_many_to_choose_from(ledger: sqlite3.Connection) -> None:
    rows = [("acme", None, None, f"f{n}", None, 1) for n in range(MOST_CHOICES + 1)]
    assert len(choices_of(question({}, NOW_S), rows)["features"]) == MOST_CHOICES


@pytest.mark.parametrize(
    ("pico", "text"), [(None, None), (0, "0"), (10**12, "1"), (250 * 10**12, "250"), (1, "0.000000000001")]
)
def test_money_is_text_to_the_last_digit_that_is_not_zero(pico: int | None, text: str | None) -> None:
    assert money(pico) == text
