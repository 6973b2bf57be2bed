"""How well a rule chooses the tier of the labelled conversations, and what its choices cost."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lectr_extproc.catalog.auto_words import WORDS
from lectr_extproc.catalog.prices import price_table
from lectr_extproc.core.auto import Score, Scoring, score
from lectr_extproc.core.conversation import Conversation, read_conversation
from lectr_extproc.core.pricing import price
from lectr_extproc.core.usage import Usage
from tests.evaluation import plain

HERE = Path(__file__).parent
TIERS = ("economy", "standard", "premium")
MODELS = {"economy": "claude-haiku-4-5", "standard": "claude-sonnet-4-6", "premium": "claude-opus-4-7"}
"One provider's, so that the price tells tiers apart and nothing else."
OUTPUT_TOKENS = 500
"Of every answer: what a tier changes of an answer's length is not known."
PRICED_AT = 1_795_219_200  # 2026-11-21
PRICES = price_table()
SCORING = Scoring(words=WORDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A labelled conversation."""

    label: str
    why: str
    conversation: Conversation
    is_held_out: bool


Rule = Callable[[Conversation], Score]

RULES: dict[str, Rule] = {
    "lectr": lambda conversation: score(conversation, SCORING),
    "plain formula": lambda conversation: plain.score(conversation, SCORING),
    "always standard": lambda _: Score(50, "standard", {}),
}


def cases() -> list[Case]:
    """All of them, in the order they are written in."""
    passages = yaml.safe_load((HERE / "passages.yaml").read_text())

    def filled(text: str) -> str:
        for name, passage in passages.items():
            text = text.replace(f"{{{name}}}", passage)
        return text

    rows, more = (yaml.safe_load((HERE / name).read_text()) for name in ("conversations.yaml", "more.yaml"))
    return [_case(row, number % 2 == 1, filled) for number, row in enumerate(rows)] + [
        _case(row, False, filled) for row in more
    ]


def _case(row: dict[str, Any], is_held_out: bool, filled: Callable[[str], str]) -> Case:
    said = [row["say"]] if isinstance(row["say"], str) else row["say"]
    messages: list[dict[str, Any]] = [
        {"role": ("user", "assistant")[number % 2], "content": filled(text)} for number, text in enumerate(said)
    ]
    calls = row.get("calls", 0)
    for number in range(calls):
        call = {"id": str(number), "type": "function", "function": {"name": "look", "arguments": '{"path": "orders"}'}}
        answer = {"role": "tool", "tool_call_id": str(number), "content": filled("{results}")}
        messages[-1:-1] = [{"role": "assistant", "content": None, "tool_calls": [call]}, answer]
    if "system" in row:
        messages.insert(0, {"role": "system", "content": filled(row["system"])})
    [label] = row.keys() & set(TIERS)
    conversation = read_conversation({"messages": messages}, "openai.chat")
    return Case(label=label, why=row[label], conversation=conversation, is_held_out=is_held_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a rule made of some conversations."""

    confusion: Counter[tuple[str, str]]
    "By label and by what the rule chose."
    cost: int
    "In pico-USD."

    @property
    def total(self) -> int:
        return self.confusion.total()

    @property
    def right(self) -> float:
        """How many would get the tier of their label."""
        return self._share(lambda label, chosen: label == chosen)

    @property
    def too_high(self) -> float:
        """How many would get more than they need."""
        return self._share(lambda label, chosen: chosen > label)

    @property
    def too_low(self) -> float:
        """How many would get less than they need."""
        return self._share(lambda label, chosen: chosen < label)

    @property
    def false_premium(self) -> float:
        """How many of those that need no premium model would get one."""
        needless = sum(self.confusion[label, "premium"] for label in TIERS[:-1])
        return needless / sum(self.confusion[label, chosen] for label in TIERS[:-1] for chosen in TIERS)

    def _share(self, counts: Callable[[int, int], bool]) -> float:
        some = sum(
            number
            for (label, chosen), number in self.confusion.items()
            if counts(TIERS.index(label), TIERS.index(chosen))
        )
        return some / self.confusion.total()


def evaluate(chosen: Sequence[str], some: Sequence[Case]) -> Result:
    """What these choices come to, one for each conversation."""
    return Result(
        confusion=Counter(zip((case.label for case in some), chosen, strict=True)),
        cost=sum(_cost(case.conversation, tier) for case, tier in zip(some, chosen, strict=True)),
    )


def _cost(conversation: Conversation, tier: str) -> int:
    usage = Usage(input_tokens=conversation.tokens, output_tokens=OUTPUT_TOKENS)
    cost = price(usage, PRICES.row("anthropic", MODELS[tier]), PRICED_AT).total
    assert cost is not None
    return cost


def halves() -> dict[str, list[Case]]:
    """The half that the words were tuned on, and the half that was held out."""
    everything = cases()
    return {
        "development": [case for case in everything if not case.is_held_out],
        "held out": [case for case in everything if case.is_held_out],
    }


def results(some: Sequence[Case]) -> dict[str, Result]:
    """What every rule makes of these conversations, and at last what the labels themselves cost."""
    found = {name: evaluate([rule(case.conversation).tier for case in some], some) for name, rule in RULES.items()}
    return found | {"the labels": evaluate([case.label for case in some], some)}


def report() -> Iterator[str]:
    """What is published, line by line."""
    for half, some in halves().items():
        found = results(some)
        standard = found["always standard"].cost
        yield f"{half}: {len(some)} conversations"
        yield f"  {'':<16}     right   too high    too low   premium without need      saved"
        for name, result in found.items():
            yield (
                f"  {name:<16}   {result.right:7.1%}    {result.too_high:7.1%}    {result.too_low:7.1%}"
                f"   {result.false_premium:20.1%}    {1 - result.cost / standard:7.1%}"
            )
        yield f"  {'label, chosen:':<16} " + " ".join(f"{tier:>9}" for tier in TIERS)
        for label in TIERS:
            yield f"  {label:<16} " + " ".join(f"{found['lectr'].confusion[label, tier]:>9}" for tier in TIERS)
