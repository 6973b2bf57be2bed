"""`model: auto`: a conversation of 100 KB, read and scored."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from lectr_extproc.catalog.auto_words import WORDS
from lectr_extproc.core.auto import Score, Scoring, score
from lectr_extproc.core.conversation import read_conversation
from tests.bench.timing import microseconds

SIZE = 100_000
PROSE = (
    "The replica that was promoted had fewer entries than its follower, so a write that we had acknowledged was gone. "
    "Please compare the two protocols step by step, and say why a quorum in Python would have kept it. Nobody at the "
    "table knew which class of error this was; the branch had been merged on Friday, when most of them were at home.\n"
)
CHINESE = "请比较这两种共识协议，并逐步解释为什么会丢失数据。昨天下午会议室里没有人知道这是哪一类错误。"
GERMAN = "Überprüfe bitte, weshalb der Knoten für die Änderung länger brauchte; größere Pakete kamen später an.\n"


def measure() -> Iterator[tuple[str, str]]:
    """What reading and scoring cost together, once the body was parsed."""
    scoring = Scoring(words=WORDS)
    prose = PROSE * (SIZE // len(PROSE) + 1)
    bodies: dict[str, list[str]] = {
        "in one message (promised: 1,000 µs)": [prose],
        "in 20 messages": [prose[at : at + 5000] for at in range(0, SIZE, 5000)],
        "in 200 messages": [prose[at : at + 500] for at in range(0, SIZE, 500)],
        "in German": [GERMAN * (SIZE // len(GERMAN.encode()))],
        "in Chinese": [CHINESE * (SIZE // len(CHINESE.encode()))],
        "of short lines": ["- item\n" * (SIZE // 7)],
        "of ten times that": [prose * 10],
    }
    for name, texts in bodies.items():
        turns = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
        body: dict[str, Any] = {"messages": turns}
        took = microseconds(partial(_scored, body, scoring), rounds=200, calls=1)
        yield f"auto: 100 KB {name}", f"{took:6.0f} µs"


def _scored(body: dict[str, Any], scoring: Scoring) -> Score:
    return score(read_conversation(body, "openai.chat"), scoring)
