"""The limits of an org's settings, and the values they become."""

import pytest

from lectr_extproc.core.limits import Limit, OrgLimits
from lectr_extproc.settings import ConfigError, load

ONE, OTHER = "a" * 64, "b" * 64
USD = 10**12


def org(limits: str) -> str:
    return f"orgs: [{{name: a, keys: [{{sha256: {ONE}, label: web}}, {{sha256: {OTHER}}}], limits: {limits}}}]"


def read(limits: str, key: str = ONE) -> OrgLimits:
    found = load(org(limits)).snapshot.orgs_by_key[key].limits
    assert found is not None
    return found


def told(row: Limit) -> tuple[object, ...]:
    return row.kind, row.most, row.window_s, row.of


def test_the_simplest_limit_is_one_line() -> None:
    limits = read("{daily_usd: 50}")
    (row,) = limits.rows
    assert told(row) == ("daily", 50 * USD, 0, "the organisation")
    assert (row.over, row.warn_at, limits.is_closed, limits.assumed_output) == (None, (80, 100), False, 4096)


def test_each_thing_that_is_limited_is_a_row() -> None:
    limits = read(
        "{monthly_usd: 0.1, rolling: [{usd: 5, window: 1h}, {usd: 1, window: 90}], requests_per_minute: 6, "
        "tokens_per_minute: 7, parallel_streams: 8, over: economy, warn_at: [0.5], when_store_is_away: closed, "
        "assumed_output_tokens: 9}"
    )
    everybody = "the organisation"
    assert [told(row) for row in limits.rows] == [
        ("monthly", USD // 10, 0, everybody),
        ("rolling", 5 * USD, 3600, everybody),
        ("rolling", USD, 90, everybody),
        ("requests", 6, 0, everybody),
        ("tokens", 7, 0, everybody),
        ("streams", 8, 0, everybody),
    ]
    assert {row.over for row in limits.rows} == {"economy"}
    assert [row.warn_at for row in limits.rows] == [(50,)] * 3 + [()] * 3
    assert (limits.is_closed, limits.assumed_output) == (True, 9)


def test_what_is_for_a_key_is_for_its_calls_alone() -> None:
    narrower = (
        "{narrower: [{for: {key: web}, daily_usd: 1}, {for: {feature: search}, daily_usd: 2},"
        " {for: {model: gpt-4o}, daily_usd: 3}, {daily_usd: 4}]}"
    )
    names = ["feature 'search'", "model 'gpt-4o'", "the organisation"]
    assert [row.of for row in read(narrower).rows] == ["key 'web'", *names]
    assert [row.of for row in read(narrower, OTHER).rows] == names


def test_who_has_no_limits_has_none() -> None:
    settings = load(f"orgs: [{{name: a, keys: [{{sha256: {ONE}}}]}}]")
    assert settings.snapshot.orgs_by_key[ONE].limits is None
    assert settings.snapshot.limits_of == {}
    assert load(org("{}")).snapshot.limits_of.keys() == {"a"}


MISTAKES = {
    "nothing to spend": ("{daily_usd: 0}", "greater than 0"),
    "a window of no time": ("{rolling: [{usd: 1, window: 5s}]}", "greater than or equal to 60"),
    "a window in words": ("{rolling: [{usd: 1, window: an hour}]}", "valid integer"),
    "a tier there is not": ("{over: cheap}", "'refuse', 'economy', 'standard' or 'premium'"),
    "a key there is not": ("{narrower: [{for: {key: app}, daily_usd: 1}]}", "no key of this org has the label 'app'"),
    "two scopes at once": ("{narrower: [{for: {key: web, model: m}, daily_usd: 1}]}", "one of them"),
    "no scope where there is to be one": ("{narrower: [{for: {}, daily_usd: 1}]}", "one of them"),
}


@pytest.mark.parametrize(("limits", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_with_their_line(limits: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(org(limits))


def test_a_webhook_has_a_url_and_a_secret_that_is_found_elsewhere() -> None:
    text = "webhook: {url: 'https://hook.example/a', secret: env:HOOK}"
    webhook = load(text, read_reference={"env:HOOK": "hush-0123456789abcdef"}.__getitem__).webhook
    assert webhook is not None
    assert (webhook.url, webhook.secret) == ("https://hook.example/a", "hush-0123456789abcdef")
    assert "hush" not in repr(webhook)
    assert load("").webhook is None
    for wrong, problem in (
        ("{url: hook.example, secret: env:HOOK}", "write a URL such as"),
        ("{url: 'https://hook.example', secret: hush-0123456789abcdef}", "never the key itself"),
        ("{url: 'https://hook.example'}", "Field required"),
    ):
        with pytest.raises(ConfigError, match=problem):
            load(f"webhook: {wrong}")
    with pytest.raises(ConfigError, match="less than 16 characters"):
        load(text, read_reference=lambda _: "short")
