import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from lectr_extproc.core.anomalies import (
    Anomaly,
    Dismissal,
    Kind,
    Learning,
    Watching,
    as_json,
    as_text,
    find,
    learning,
    since_s,
    told,
)
from lectr_extproc.core.hours import HOUR_S, Group, Hour

MONDAY = int(datetime(2026, 11, 16, tzinfo=UTC).timestamp()) // HOUR_S
GROUP: Group = ("acme", "search")
RULE = Watching()
NOON = MONDAY + 12


def usual(**changes: Any) -> Hour:
    """A hundred calls of five cents and a second or so, of which one fails."""
    known: dict[str, Any] = {"calls": 100, "errors": 1, "priced": 100, "cost_micro_usd": 5_000_000, "named": 99}
    return Hour(**{**known, "drifted": 0, "slowness": {31: 94, 34: 5}, **changes})


def weeks(before: int = 14, after: int = 2, **odd: Hour | None) -> dict[int, Hour]:
    """So many days around Monday's beginning, with some hours that are different: `h12` is Monday at noon."""
    hours = {MONDAY + number: usual() for number in range(-24 * before, 24 * after)}
    for name, hour in odd.items():
        number = MONDAY + int(name[1:].replace("_", "-"))
        if hour is None:
            hours.pop(number, None)
        else:
            hours[number] = hour
    return hours


def found(
    hours: dict[int, Hour], *dismissals: Dismissal, until: int = MONDAY + 24, rule: Watching = RULE
) -> list[Anomaly]:
    return find({GROUP: hours}, dismissals, until * HOUR_S, rule)


def kinds(hours: dict[int, Hour], **options: Any) -> list[Kind]:
    return [one.kind for one in found(hours, **options)]


def test_hours_like_all_others_are_not_told() -> None:
    assert found(weeks()) == []


ODD: dict[str, tuple[Hour | None, list[Kind]]] = {
    "three times the cost": (usual(cost_micro_usd=15_000_000), ["cost"]),
    "no more calls, and no cost at all": (usual(cost_micro_usd=0), []),
    "three times as slow": (usual(slowness={36: 94, 39: 5}), ["latency"]),
    "faster": (usual(slowness={25: 99}), []),
    "errors in every fifth call": (usual(errors=20), ["errors"]),
    "no errors": (usual(errors=0), []),
    "three times the calls, at their price": (
        usual(calls=300, errors=3, priced=300, cost_micro_usd=15_000_000, named=297, slowness={31: 282, 34: 15}),
        ["cost", "traffic_up"],
    ),
    "nobody calls": (None, ["traffic_down"]),
    "half of the answers are another model's": (usual(drifted=50), ["drift"]),
}


@pytest.mark.parametrize(("hour", "expected"), ODD.values(), ids=ODD.keys())
def test_an_hour_is_told_for_what_is_unusual_in_it(hour: Hour | None, expected: list[Kind]) -> None:
    assert sorted(kinds(weeks(h12=hour))) == expected


MILD: dict[str, tuple[Hour, list[Kind]]] = {
    "cost, by less than three quarters": (usual(cost_micro_usd=8_500_000), []),
    "cost": (usual(cost_micro_usd=9_000_000), ["cost"]),
    "latency": (usual(slowness={34: 94, 37: 5}), ["latency"]),
    "errors, by less than five points": (usual(errors=5), []),
    "errors": (usual(errors=8), ["errors"]),
    "drift": (usual(drifted=6), ["drift"]),
    "more calls": (usual(calls=180), ["traffic_up"]),
    "fewer calls, by less than the same factor": (usual(calls=60), []),
    "fewer calls": (usual(calls=55), ["traffic_down"]),
}


@pytest.mark.parametrize(("hour", "expected"), MILD.values(), ids=MILD.keys())
def test_what_is_a_little_unusual_is_told_once_the_next_hour_is_too(hour: Hour, expected: list[Kind]) -> None:
    assert kinds(weeks(h12=hour)) == []
    assert kinds(weeks(h12=hour, h14=hour)) == []
    assert kinds(weeks(h12=hour, h13=hour)) == expected


def test_an_hour_that_is_far_off_is_told_at_its_end_and_one_that_is_not_an_hour_later() -> None:
    mild, far = usual(errors=8), usual(errors=50)
    (one,) = found(weeks(h12=far), until=NOON + 1)
    assert (one.severity, one.began.hour, one.detected.hour) == ("critical", 12, 13)
    assert found(weeks(h12=far), until=NOON) == []
    (one,) = found(weeks(h12=mild, h13=mild))
    assert (one.severity, one.began.hour, one.detected.hour) == ("warning", 12, 14)
    (one,) = found(weeks(h12=mild, h13=far))
    assert (one.severity, one.began.hour, one.detected.hour) == ("critical", 12, 14)


def test_the_figures_are_those_of_the_worst_hour() -> None:
    (one,) = found(weeks(h12=usual(errors=10), h13=usual(errors=60), h14=usual(errors=20)))
    assert (one.baseline, one.observed, one.sigmas) == (0.01, 0.6, 23.6)
    assert (one.first_hour, one.last_hour) == (NOON, NOON + 2)


def test_unusual_hours_within_a_day_are_one_anomaly_and_after_it_another() -> None:
    bad = usual(errors=50)
    (one,) = found(weeks(h1=bad, h25=bad), until=MONDAY + 40)
    assert (one.first_hour, one.last_hour, one.ended) == (MONDAY + 1, MONDAY + 25, None)
    last, first = found(weeks(h1=bad, h26=bad), until=MONDAY + 48)
    assert (first.first_hour, last.first_hour) == (MONDAY + 1, MONDAY + 26)
    assert first.ended == datetime(2026, 11, 16, 2, tzinfo=UTC)
    assert last.ended is None


def test_an_anomaly_has_the_same_id_each_time_it_is_looked_for() -> None:
    bad = usual(errors=50)
    once = found(weeks(h12=bad), until=NOON + 1)
    later = found(weeks(h12=bad, h13=bad), until=NOON + 60)
    ahead = found(weeks(h12=bad), until=NOON + 24 * 7, rule=replace(RULE, days=10))
    assert len({one.id for one in (*once, *later, *ahead) if one.kind == "errors"}) == 1
    assert len({one.id for one in found(weeks(h12=usual(errors=50, drifted=40)))}) == 2


def test_what_began_before_the_feed_is_not_told_as_if_it_were_new() -> None:
    bad = usual(errors=50)
    hours = weeks(after=9, h0=bad, h12=bad)
    assert [one.first_hour for one in found(hours, until=MONDAY + 24)] == [MONDAY]
    assert found(hours, until=MONDAY + 24 * 7 + 1) == []
    assert kinds(weeks(h12=bad), until=MONDAY + 24 * 7 + 1, rule=replace(RULE, min_calls=90)) == [
        "traffic_down",
        "errors",
    ]


def test_a_feature_is_judged_after_two_days_and_not_before() -> None:
    for hour, expected in ((47, []), (48, ["errors"])):
        hours = {MONDAY + number: usual() for number in range(60)} | {MONDAY + hour: usual(errors=50)}
        assert kinds(hours, until=MONDAY + hour + 1) == expected


def test_a_weekend_is_no_outage_and_the_first_one_is_not_judged() -> None:
    quiet = usual(calls=5, errors=0, priced=5, cost_micro_usd=250_000, named=5, slowness={31: 5})
    hours = {}
    for number in range(28 * 24):
        hours[MONDAY + number] = quiet if number // 24 % 7 > 4 else usual()
    for day in (7, 14, 28):
        assert found(hours, until=MONDAY + 24 * day) == []
    del hours[MONDAY + 7 * 24 + 60]
    assert kinds(hours, until=MONDAY + 7 * 24 + 72) == ["traffic_down"]


def test_what_happens_every_day_at_its_hour_is_usual() -> None:
    hours = weeks()
    for number in hours:
        if number % 24 == 3:
            hours[number] = usual(calls=2000, priced=2000, cost_micro_usd=10**8, named=1980, errors=20)
    assert found(hours) == []
    hours[MONDAY + 4] = hours[MONDAY + 3]
    assert sorted(kinds(hours)) == ["cost", "traffic_up"]
    new = {number: hour for number, hour in hours.items() if number >= MONDAY - 24 * 3 and number != MONDAY + 4}
    assert found(new) == []


def test_hours_of_few_calls_are_not_judged() -> None:
    few = usual(calls=40, errors=30, priced=40, named=10, drifted=9, slowness={31: 10})
    assert found({number: few if number == NOON else replace(few, errors=0, drifted=0) for number in weeks()}) == []
    some = weeks(h12=usual(calls=49, errors=40, named=9, drifted=9, slowness={40: 9}, cost_micro_usd=50_000_000))
    assert found(some) == []


def test_a_cost_that_nobody_knows_is_no_saving_and_no_measure() -> None:
    unknown = usual(priced=0, cost_micro_usd=0)
    hours = {number: unknown if number < MONDAY else usual() for number in weeks()}
    assert found(hours) == []
    assert found(weeks(h12=unknown)) == []


def test_a_spike_of_cents_is_not_told() -> None:
    cheap = usual(cost_micro_usd=50_000)
    hours = dict.fromkeys(weeks(), cheap) | {NOON: usual(cost_micro_usd=900_000)}
    assert found(hours) == []
    assert kinds(hours | {NOON: usual(cost_micro_usd=2_100_000)}) == ["cost"]


def test_a_restless_feature_has_to_be_more_unusual() -> None:
    def restless(number: int) -> Hour:
        return usual(cost_micro_usd=500_000 + number * 7919 % 7 * 1_500_000)

    hours = {number: restless(number) for number in weeks()}
    odd = {number: usual(cost_micro_usd=9_500_000) for number in (NOON, NOON + 1)}
    assert found(hours | odd) == []
    assert kinds(weeks() | odd) == ["cost"]


def test_a_dismissed_anomaly_is_known_as_that_and_its_hours_are_no_measure() -> None:
    bad = usual(errors=50)
    hours = weeks(after=20, h12=bad, h36=bad, h60=bad, h84=bad, h180=bad)
    (first,) = found(hours, until=MONDAY + 24 * 4, rule=replace(RULE, days=14))
    assert not first.dismissed
    until, rule = MONDAY + 181, replace(RULE, days=14)
    assert [one.first_hour for one in found(hours, until=until, rule=rule)] == [NOON]
    later, again = found(hours, first.dismissal(), until=until, rule=rule)
    assert (again.id, again.dismissed, later.dismissed) == (first.id, True, False)
    assert later.first_hour == MONDAY + 180
    other = first.dismissal()._replace(feature="another", id="-")
    assert [one.first_hour for one in found(hours, other, until=until, rule=rule)] == [NOON]


def test_a_lasting_change_becomes_usual() -> None:
    hours = weeks(before=14, after=14)
    for number in range(MONDAY, MONDAY + 14 * 24):
        hours[number] = usual(errors=30)
    (one,) = found(hours, until=MONDAY + 14 * 24, rule=replace(RULE, days=14))
    assert one.first_hour == MONDAY
    assert 3 * 24 <= one.last_hour - one.first_hour <= 4 * 24


def test_features_that_are_too_new_are_named_with_the_hours_that_are_left() -> None:
    hours: dict[Group, dict[int, Hour]] = {
        GROUP: weeks(),
        ("acme", None): {MONDAY: usual()},
        ("acme", "of one call"): {MONDAY: usual(calls=1)},
    }
    assert learning(hours, (MONDAY + 10) * HOUR_S + 59, RULE) == [Learning("acme", None, 38)]
    assert learning(hours, (MONDAY + 48) * HOUR_S, RULE) == []


def test_enough_is_read_to_judge_the_first_hour_of_the_feed() -> None:
    begin = since_s(MONDAY * HOUR_S + 17, RULE) // HOUR_S
    assert MONDAY - begin == 24 * 7 + 24 + 24 * 7 + 1
    bad = weeks(before=21)
    bad[MONDAY - 24 * 7] = usual(errors=50)
    whole = found(bad, until=MONDAY)
    assert whole == found({number: hour for number, hour in bad.items() if number >= begin}, until=MONDAY)
    assert len(whole) == 1


def test_programs_get_what_is_known_with_moments_as_text() -> None:
    (one,) = found(weeks(h12=usual(errors=50)), until=NOON + 1)
    shown = as_json([replace(one, feature=None)], [Learning("acme", "new", 3)])
    assert json.loads(json.dumps(shown)) == shown
    assert shown == {
        "anomalies": [
            {
                "id": one.id,
                "kind": "errors",
                "severity": "critical",
                "org": "acme",
                "began": "2026-11-16T12:00:00+00:00",
                "detected": "2026-11-16T13:00:00+00:00",
                "baseline": 0.01,
                "observed": 0.5,
                "sigmas": 19.6,
                "dismissed": False,
            }
        ],
        "learning": [{"org": "acme", "feature": "new", "hours_left": 3}],
    }


def test_a_webhook_gets_the_same_with_the_name_of_the_event() -> None:
    (one,) = found(weeks(h12=usual(errors=50)), until=NOON + 1)
    assert told(one) == {"event": "anomaly", **as_json([one], [])["anomalies"][0]}


SHOWN: dict[str, tuple[Callable[[Anomaly], Anomaly], str]] = {
    "errors": (lambda one: one, "acme, feature search: errors, 50.0% of calls, usually 1.0% of calls (+19.6 σ)"),
    "cost, of calls without a feature, dismissed": (
        lambda one: replace(one, kind="cost", observed=1200.5, baseline=0.2, org=None, feature=None, dismissed=True),
        "-, feature -: cost, $1,200.50 an hour, usually $0.20 an hour (+19.6 σ)  dismissed",
    ),
    "less traffic": (
        lambda one: replace(one, kind="traffic_down", observed=0, baseline=1200, sigmas=-4.1),
        "acme, feature search: less traffic, 0 calls an hour, usually 1,200 calls an hour (-4.1 σ)",
    ),
}


@pytest.mark.parametrize(("change", "text"), SHOWN.values(), ids=SHOWN.keys())
def test_people_get_a_line_for_each(change: Callable[[Anomaly], Anomaly], text: str) -> None:
    (one,) = found(weeks(h12=usual(errors=50)), until=NOON + 1)
    assert as_text([change(one)], []) == f"{one.id}  2026-11-16 12:00 to now  critical  {text}"


def test_people_are_told_that_there_is_nothing_what_is_over_and_what_is_too_new() -> None:
    new = Learning("acme", None, 3)
    assert as_text([], [new]) == ("nothing unusual\nacme, feature -: watched in 3 hours, when enough is known of it")
    (one,) = found(weeks(h1=usual(errors=50)), until=MONDAY + 40)
    assert "2026-11-16 01:00 to 11-16 02:00  critical" in as_text([one], [])
