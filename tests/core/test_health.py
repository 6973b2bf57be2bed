from lectr_extproc.core.health import UNKNOWN, Health, Target, medians


def test_of_what_nobody_has_called_nothing_is_known() -> None:
    assert not UNKNOWN.sick
    assert not UNKNOWN.first_token_ms


def test_what_changes_is_seen_without_another_view() -> None:
    sick: dict[Target, int] = {}
    health = Health(sick=sick)
    sick[Target("openai", "gpt-4o", "api.openai.com")] = 5
    assert ("openai", "gpt-4o", "api.openai.com") in health.sick


def test_what_was_measured_often_enough_is_its_median() -> None:
    one, other = ("openai", "gpt-4o", "api.openai.com"), ("openai", "gpt-4o", "eu.api.openai.com")
    measured = [(*one, microseconds) for microseconds in (900_000, 100_400, 200_600)] + [(*other, 5)] * 2
    assert medians(measured, 3) == {one: 201}
    assert medians(measured, 2) == {one: 201, other: 0}
    assert medians([], 1) == {}
