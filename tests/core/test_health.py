from lectr_extproc.core.health import UNKNOWN, Health, Target


def test_of_what_nobody_has_called_nothing_is_known() -> None:
    assert not UNKNOWN.sick


def test_what_changes_is_seen_without_another_view() -> None:
    sick: dict[Target, int] = {}
    health = Health(sick=sick)
    sick[Target("openai", "gpt-4o", "api.openai.com")] = 5
    assert ("openai", "gpt-4o", "api.openai.com") in health.sick
