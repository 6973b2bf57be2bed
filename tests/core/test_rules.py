import dataclasses
from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.rules import Arm, Rule, Rules, Terms

CALL = Terms("search", "summarisation", "openai", "gpt-4o")


def rule(name: str = "a", when: Terms = CALL, *, enabled: bool = True) -> Rule:
    return Rule(name=name, when=when, arms=(Arm("gpt-4.1"),), enabled=enabled)


def found(call: Terms, *rules: Rule) -> str | None:
    match = Rules(rules).match(call)
    return match.name if match else None


@pytest.mark.parametrize("kept", list(product((True, False), repeat=4)))
def test_a_rule_is_for_every_call_of_which_all_that_it_says_holds(kept: tuple[bool, ...]) -> None:
    when = Terms(*(wanted if is_kept else None for wanted, is_kept in zip(CALL, kept, strict=True)))
    assert found(CALL, rule(when=when)) == "a"
    for i, is_kept in enumerate(kept):
        for other in (None, "another"):
            call = Terms(*(other if i == j else value for j, value in enumerate(CALL)))
            assert found(call, rule(when=when)) == (None if is_kept else "a")
            assert (when.differs(call) is not None) is is_kept


def test_no_rule_is_for_nothing() -> None:
    assert found(CALL) is None


def test_the_first_enabled_rule_wins() -> None:
    narrow, wide = rule("narrow"), rule("wide", Terms(model="gpt-4o"))
    assert found(CALL, narrow, wide) == "narrow"
    assert found(CALL, wide, narrow) == "wide"
    assert found(CALL, dataclasses.replace(narrow, enabled=False), wide) == "wide"
    assert found(CALL, rule("first"), rule("second")) == "first"


TERMS = st.builds(Terms, *(st.sampled_from([None, "a", "b"]) for _ in CALL))


@given(st.lists(st.tuples(TERMS, st.booleans()), max_size=12), TERMS)
def test_the_tables_find_what_asking_one_rule_after_the_other_finds(
    written: list[tuple[Terms, bool]], call: Terms
) -> None:
    rules = [rule(str(i), when, enabled=enabled) for i, (when, enabled) in enumerate(written)]
    one_by_one = next((one.name for one in rules if one.enabled and one.when.differs(call) is None), None)
    assert found(call, *rules) == one_by_one


@given(st.lists(st.tuples(TERMS, st.booleans()), max_size=12))
def test_a_hidden_rule_is_one_that_no_call_can_reach(written: list[tuple[Terms, bool]]) -> None:
    rules = Rules(tuple(rule(str(i), when, enabled=enabled) for i, (when, enabled) in enumerate(written)))
    matches = {rules.match(Terms(*call)) for call in product([None, "a", "b", "c"], repeat=4)}
    hidden = {one.name: by for one, by in rules.hidden()}
    assert hidden.keys() == {one.name for one in rules.ordered if one.enabled and one not in matches}
    assert set(hidden.values()) <= matches


class Counted(dict[object, int]):
    """Counts how often it is looked into."""

    lookups = 0

    def get(self, key: object, default: int = -1) -> int:  # type: ignore[override]
        type(self).lookups += 1
        return super().get(key, default)


@pytest.mark.parametrize("size", [16, 1_000, 10_000])
def test_thousands_of_rules_cost_as_many_lookups_as_a_few(size: int) -> None:
    """One for each set of things that rules ask about, of which there are sixteen."""
    masks = list(product((None, "x"), repeat=4))
    written = (tuple(value and f"{value}{i // 16}" for value in masks[i % 16]) for i in range(size))
    rules = Rules(tuple(rule(str(i), Terms(*when)) for i, when in enumerate(written) if any(when)))
    object.__setattr__(rules, "_tables", tuple((first, part, Counted(table)) for first, part, table in rules._tables))
    Counted.lookups = 0
    assert rules.match(CALL) is None
    assert Counted.lookups == 15


# --- splitting --------------------------------------------------------------------------------------------------------

VALUES = [f"user-{i}" for i in range(4_000)]


def split(**weights: int) -> Rule:
    return Rule(name="canary", arms=tuple(Arm(model, None, weight) for model, weight in weights.items()))


def arms(rule: Rule, org: str = "acme") -> dict[str, str | None]:
    return {value: rule.arm(org, value).model for value in VALUES}


def test_every_arm_gets_its_part_of_the_calls() -> None:
    shares = Counter(arms(split(a=90, b=9, c=1, d=0)).values())
    assert shares.keys() == {"a", "b", "c"}
    for model, weight in {"a": 90, "b": 9, "c": 1}.items():
        assert abs(shares[model] / len(VALUES) - weight / 100) < 0.02


def test_a_value_keeps_its_arm_through_a_restart_and_another_order() -> None:
    before = arms(split(a=50, b=30, c=20))
    assert arms(split(c=20, a=50, b=30)) == before
    assert {value: before[value] for value in VALUES[:12]} == {
        f"user-{i}": model for i, model in enumerate("aacacbbaaaca")
    }, "as it was on the day this was written"


def test_a_changed_weight_moves_only_what_its_arm_wins_or_loses() -> None:
    before, after = arms(split(a=50, b=30, c=20)), arms(split(a=50, b=30, c=40))
    moved = [value for value in VALUES if before[value] != after[value]]
    assert {after[value] for value in moved} == {"c"}
    assert abs(len(moved) / len(VALUES) - (40 / 120 - 20 / 100)) < 0.02


def test_an_arm_that_goes_leaves_the_others_as_they_are() -> None:
    before, after = arms(split(a=50, b=30, c=20)), arms(split(a=50, b=30))
    assert all(before[value] in ("c", after[value]) for value in VALUES)


def test_rules_and_orgs_split_without_regard_to_each_other() -> None:
    one = arms(split(a=50, b=50))
    other_org = arms(split(a=50, b=50), "other")
    other_rule = arms(dataclasses.replace(split(a=50, b=50), name="second"))
    for other in (other_org, other_rule):
        assert abs(sum(one[value] == other[value] for value in VALUES) / len(VALUES) - 0.5) < 0.04


@given(st.text(), st.text(st.characters()), st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_whatever_a_header_says_some_arm_is_chosen(org: str, value: str, weights: list[int]) -> None:
    written = tuple(Arm(str(i), None, weight) for i, weight in enumerate(weights))
    arm = Rule(name="any", arms=written).arm(org, value)
    assert arm in written
    assert arm.weight or not any(weights) or len(weights) == 1


def test_what_is_asked_and_done_is_said_in_few_words() -> None:
    assert str(Terms(None, "extraction", None, "gpt-4o")) == "task=extraction model=gpt-4o"
    assert str(Terms()) == "every call"
    assert [str(arm) for arm in (Arm("m"), Arm(None, "groq"), Arm("m", "groq"), Arm())] == [
        "m",
        "groq",
        "groq/m",
        "unchanged",
    ]
    assert CALL.differs(CALL._replace(feature=None)) == "feature is not said"
    assert CALL.differs(CALL._replace(model="gpt-4o-mini")) == "model is gpt-4o-mini"
