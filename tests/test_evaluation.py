from collections import Counter
from pathlib import Path

from tests.evaluation.evaluate import TIERS, cases, halves, report, results

PUBLISHED = Path(__file__).parents[1] / "docs" / "auto.md"


def test_the_published_figures_are_what_the_evaluation_says() -> None:
    assert "\n".join(report()) in PUBLISHED.read_text()


def test_at_least_two_hundred_conversations_are_labelled_and_half_of_the_first_are_held_out() -> None:
    everything = cases()
    assert len(everything) >= 200
    assert all(case.why and case.conversation.messages for case in everything)
    assert min(Counter(case.label for case in everything).values()) >= 50
    assert len(halves()["held out"]) >= 100


def test_no_conversation_is_there_twice() -> None:
    counts = Counter((case.conversation.messages, case.conversation.tool_calls) for case in cases())
    assert [messages for messages, number in counts.items() if number > 1] == []


def test_auto_is_right_more_often_than_the_plain_formula_and_than_one_tier_for_all() -> None:
    for some in halves().values():
        found = results(some)
        ours = found["lectr"]
        assert ours.right > found["plain formula"].right + 0.2
        assert ours.right > found["always standard"].right + 0.2
        assert ours.too_low < found["plain formula"].too_low
        assert ours.false_premium <= found["plain formula"].false_premium
        assert ours.cost < found["always standard"].cost


def test_no_conversation_is_two_tiers_off_but_for_a_few() -> None:
    for some in halves().values():
        confusion = results(some)["lectr"].confusion
        assert confusion[TIERS[0], TIERS[2]] + confusion[TIERS[2], TIERS[0]] <= len(some) * 0.02
