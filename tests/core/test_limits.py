from datetime import UTC, datetime

import pytest

from lectr_extproc.core.limits import Exceeded, Hold, Kind, Limit, judge, used_now

NS = 10**9


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = at("2026-11-20 12:30:45")


def limit(kind: Kind, most: int, **more: object) -> Limit:
    return Limit(org="acme", kind=kind, most=most, **more)  # type: ignore[arg-type]


WINDOWS = {
    "a day": (limit("daily", 1), "2026-11-20", "2026-11-20", "2026-11-21"),
    "a month": (limit("monthly", 1), "2026-11-01", "2026-11-01", "2026-12-01"),
    "an hour, by the minute": (
        limit("rolling", 1, window_s=3600),
        "2026-11-20 12:30",
        "2026-11-20 11:30",
        "2026-11-20 13:31",
    ),
}


@pytest.mark.parametrize(("row", "starts", "since", "ends"), WINDOWS.values(), ids=WINDOWS)
def test_a_call_counts_from_the_bucket_it_is_in_until_its_window_has_gone_by(
    row: Limit, starts: str, since: str, ends: str
) -> None:
    assert (row.starts(NOW), row.since(NOW), row.ends(row.starts(NOW))) == (at(starts), at(since), at(ends))


def test_december_ends_with_the_year() -> None:
    row = limit("monthly", 1)
    assert row.ends(row.starts(at("2026-12-31 23:59:59"))) == at("2027-01-01")


def test_what_is_no_window_has_one_bucket() -> None:
    assert [limit(kind, 5).starts(NOW) for kind in ("requests", "tokens", "streams")] == [0, 0, 0]


def test_a_limit_is_for_all_calls_or_for_those_of_a_feature_or_a_model() -> None:
    assert limit("daily", 1).is_for(None)
    assert limit("daily", 1, feature="search").is_for("search", "gpt-4o")
    assert not limit("daily", 1, feature="search").is_for(None)
    assert limit("daily", 1, model="gpt-4o").is_for(None, "gpt-4o", "openai/gpt-4o")
    assert not limit("daily", 1, model="gpt-4o").is_for(None, "gpt-4.1", None)


def test_a_counter_stays_when_its_limit_is_raised_and_is_anothers_for_another_scope() -> None:
    rows = [limit("daily", 1), limit("daily", 1, feature="a"), limit("daily", 1, key="a"), limit("daily", 1, model="a")]
    assert len({row.name for row in rows}) == 4
    assert limit("daily", 1).name == limit("daily", 2, over="economy", warn_at=(80,)).name
    assert [row.of for row in rows] == ["the organisation", "feature 'a'", "key 'a'", "model 'a'"]


def test_a_limit_says_what_it_bounds() -> None:
    kinds: list[Kind] = ["daily", "monthly", "requests", "tokens", "streams"]
    assert [limit(kind, 1).what for kind in kinds] == [
        "daily USD",
        "monthly USD",
        "requests per minute",
        "tokens per minute",
        "parallel streams",
    ]
    assert limit("rolling", 1, window_s=3600).what == "USD in 3600 s"


# --- money and streams ------------------------------------------------------------------------------------------------


def test_money_fits_up_to_the_last_of_it() -> None:
    row = limit("daily", 100)
    hold = Hold(row, 10, row.starts(NOW))
    assert judge(hold, {}, NOW * NS) == 10
    assert judge(hold, {hold.starts: 90}, NOW * NS) == 10
    assert judge(hold, {hold.starts: 91}, NOW * NS) == Exceeded(hold, 91, at("2026-11-21"))
    yesterday = {hold.starts - 86_400: 100}
    assert judge(hold, yesterday, NOW * NS) == 10


def test_a_window_that_slides_has_room_when_enough_of_it_has_gone_by() -> None:
    row = limit("rolling", 100, window_s=3600)
    hold = Hold(row, 50, row.starts(NOW))
    buckets = {at("2026-11-20 11:00"): 999, at("2026-11-20 11:40"): 30, at("2026-11-20 12:10"): 60}
    assert judge(hold, buckets, NOW * NS) == Exceeded(hold, 90, at("2026-11-20 13:11"))
    assert judge(hold._replace(amount=30), buckets, NOW * NS) == Exceeded(
        hold._replace(amount=30), 90, at("2026-11-20 12:41")
    )
    assert judge(hold._replace(amount=10), buckets, NOW * NS) == 10
    never = judge(hold._replace(amount=101), {}, NOW * NS)
    assert isinstance(never, Exceeded)


def test_a_call_that_waits_for_others_only_may_come_back_at_once() -> None:
    row = limit("daily", 100)
    full = Exceeded(Hold(row, 10, 0), 95, at("2026-11-21"))
    assert full.less(5, NOW * NS) == full._replace(held=5, resets_s=NOW + 1)
    assert full.less(4, NOW * NS) == full._replace(held=4)


def test_streams_are_as_many_as_are_open() -> None:
    hold = Hold(limit("streams", 2), 1, 0)
    assert judge(hold, {0: 1}, NOW * NS) == 1
    assert judge(hold, {0: 2}, NOW * NS) == Exceeded(hold, 2, NOW + 1)


# --- by the minute ----------------------------------------------------------------------------------------------------


def take(row: Limit, amounts: list[int], *, every_s: float = 0.0) -> list[bool]:
    """Whether each of these fits, one after the other."""
    buckets: dict[int, int] = {}
    fits = []
    for i, amount in enumerate(amounts):
        found = judge(Hold(row, amount, 0), buckets, int((NOW + i * every_s) * NS))
        fits.append(not isinstance(found, Exceeded))
        if not isinstance(found, Exceeded):
            buckets[0] = buckets.get(0, 0) + found
    return fits


def test_a_minutes_bucket_is_full_at_first_and_refills_evenly() -> None:
    assert take(limit("requests", 60), [1] * 61) == [True] * 60 + [False]
    assert take(limit("requests", 60), [1] * 200, every_s=1.0) == [True] * 200
    assert take(limit("requests", 7), [1] * 8) == [True] * 7 + [False]


def test_a_full_bucket_says_when_the_call_fits() -> None:
    row = limit("tokens", 600)
    hold = Hold(row, 300, 0)
    full = (NOW + 45) * NS  # three quarters are used
    assert judge(hold, {0: full}, NOW * NS) == Exceeded(hold, 450, NOW + 15)
    assert judge(hold, {0: full}, (NOW + 15) * NS) == 300 * NS // 10


def test_what_is_larger_than_a_minute_fits_into_a_full_bucket_and_keeps_it_empty_for_longer() -> None:
    assert take(limit("tokens", 600), [6000, 1], every_s=60) == [True, False]
    assert take(limit("tokens", 600), [6000, 1], every_s=600) == [True, True]


# --- reports ----------------------------------------------------------------------------------------------------------


def test_what_is_used_is_told_with_its_end() -> None:
    day, hour = limit("daily", 1), limit("rolling", 1, window_s=3600)
    assert used_now(day, {day.starts(NOW): 7}, NOW * NS) == (7, at("2026-11-21"))
    assert used_now(day, {day.starts(NOW) - 86_400: 7, day.starts(NOW): 0}, NOW * NS) == (0, None)
    assert used_now(hour, {at("2026-11-20 12:10"): 3, at("2026-11-20 12:00"): 4}, NOW * NS) == (
        7,
        at("2026-11-20 13:11"),
    )
    assert used_now(limit("streams", 5), {0: 2}, NOW * NS) == (2, None)
    assert used_now(limit("requests", 60), {0: (NOW + 30) * NS}, NOW * NS) == (30, NOW + 30)
    assert used_now(limit("requests", 60), {0: (NOW - 30) * NS}, NOW * NS) == (0, None)
