"""`model: auto`: how much a conversation asks of a model, as a score from 0 to 100, and the tier that follows.

Seven signals of 0 to 100 are weighed; the strongest counts once more, so that one alone can be enough. The same
conversation has the same score on every machine. Weights, steps and words are data; docs/auto.md has the whole table.
Nothing but counts leaves this module.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, count
from types import MappingProxyType
from typing import Literal

from lectr_extproc.core.conversation import Conversation, Message, length

Tier = Literal["economy", "standard", "premium"]
TIERS: tuple[Tier, ...] = ("economy", "standard", "premium")
Steps = tuple[tuple[int, int], ...]
"(from, value), rising: the last step that is reached counts."

WEIGHTS: Mapping[str, int] = MappingProxyType(
    {"code": 20, "terms": 20, "reasoning": 15, "system": 15, "depth": 10, "tools": 10, "length": 10}
)
"The seven signals, and what each weighs in per cent."

STEPS: Mapping[str, Steps] = MappingProxyType(
    {
        "blocks": ((1, 60), (3, 80), (5, 100)),
        "spans": ((3, 30), (10, 50)),
        "code_messages": ((1, 15), (3, 25)),
        "advanced": ((1, 60), (2, 80), (3, 100)),
        "everyday": ((1, 20), (3, 35), (5, 50), (8, 70)),
        "reasoning": ((1, 40), (2, 60), (3, 80), (4, 100)),
        "system": ((1, 10), (100, 30), (500, 60), (2000, 80), (5000, 100)),
        "depth": ((2, 15), (3, 30), (5, 50), (9, 70), (17, 85)),
        "tools": ((1, 40), (3, 60), (7, 80)),
        "length": ((0, 5), (50, 20), (200, 35), (500, 55), (1500, 75), (5000, 90)),
    }
)
"What each count comes to."

MOST_READ = 8_192
"""Letters of the user's, and as many of the other side's, in which words are looked for, the newest first; as many of
all in which lines are. More would hardly reach another step, and a body of megabytes must not hold up the event loop.
Sizes, turns and blocks are counted in all."""

_INSTRUCTION = 300
"Letters of a paragraph in which it says what is to be done."
_LAST_PARAGRAPH = 2000
"Letters of the last paragraph, if it is to say so."
_MOST_ASKED = 8
"How many messages of the user are asked whether they are material for a simple task; older ones count as they are."

_BLOCKS, _SPAN = "```", re.compile(r"`[^`\n]+`")
_PROSE = frozenset({"text", "txt", "plain", "plaintext", "markdown", "md", "quote", "email"})
"The tags of blocks that are no code."
_SYMBOLS = "{}();=<>[]_"
_LETTERS_PER_SYMBOL = 12
"The most of code; a contract's brackets have fifty."

# Each way begins at the end of a line, which is found fast.
_CODE_LINE = re.compile(
    r"\n(?:(?<=\);\n)|(?<=\};\n)|(?<=\{\n)|(?<=\}\)\n)"
    r"|[ \t]*(?:(?:async )?def \w+\(|class \w+[:({]|import [\w.]+(?: as \w+)?;?\n|from [\w.]+ import |#include ?[<\"]"
    r"|(?:export |async )*function\b ?\w*\(|(?:const|let|var) \w+ ?=|(?:public|private|protected) \w+|func \w+\("
    r"|fn \w+[(<]|package \w+;?\n|using [\w.]+;|for ?\(|if ?\(|while ?\(|\w+ = \w+[.(\[]|@\w+(?:\(|\n)|<\?php|<!DOCTYPE"
    r"|(?i:select\b[^\n]{1,200}\bfrom\b|insert into |create table |update \w+ set )|\$ [a-z]|sudo |git [a-z]+ -"
    r"|Traceback \(|File \"[^\"\n]+\", line \d|at [\w.$]+\([\w.]+:\d|\w*(?:Error|Exception): ))"
)
_MESSAGE_END = "\n\0"


_LETTERS = bytes(
    byte if byte > 127 else ord(chr(byte).lower()) if chr(byte).isalnum() or chr(byte) in "+#" else 32
    for byte in range(256)
)
"ASCII letters in lower case, digits, and what C++ and C# are written with; other ASCII is a space."
_MARKS = "’‘“”„«»¿¡—–…·\xa0、。，：；？！（）「」"
"What parts words in writing that is not ASCII."
_WIDE = "\u3000"
"From here on are the scripts that put no space between words."


def _plain(text: str) -> list[bytes]:
    """The words of a text in lower case, as UTF-8."""
    if not text.isascii():
        text = text.lower()
        for mark in _MARKS:
            text = text.replace(mark, " ")
    return text.encode("utf-8", "surrogatepass").translate(_LETTERS).split()


LISTS = ("advanced", "advanced_in_context", "everyday", "everyday_in_context", "reasoning")
_ADVANCED, _ADVANCED_TOO, _EVERYDAY, _EVERYDAY_TOO, _REASONING = range(len(LISTS))
Thing = tuple[int, int]
"Which list, and which of its lines."


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Lists of things, each thing in any of its spellings, as `catalog/auto_words.py` writes them."""

    advanced: str = field(repr=False)
    everyday: str = field(repr=False)
    reasoning: str = field(repr=False)
    advanced_in_context: str = field(repr=False)
    everyday_in_context: str = field(repr=False)
    simple: str = field(repr=False)
    "Verbs of tasks whose material says nothing of how hard they are: translate, summarise."
    asking: str = field(repr=False)
    "What may stand before such a verb."
    index: Mapping[bytes, Sequence[tuple[Thing, int, int, list[bytes]]]] = field(init=False, repr=False)
    "Under each spelling's longest word: what it names, where it begins and ends from there, and its words."
    wide: Mapping[str, Sequence[Thing]] = field(init=False, repr=False)
    "The spellings in scripts that put no space between words."
    any_wide: re.Pattern[str] = field(init=False, repr=False)
    simple_task: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index: dict[bytes, list[tuple[Thing, int, int, list[bytes]]]] = {}
        wide: dict[str, list[Thing]] = {}
        for number, name in enumerate(LISTS):
            for row, spellings in enumerate(_rows(getattr(self, name))):
                for spelling in spellings:
                    if spelling > _WIDE:
                        wide.setdefault(spelling, []).append((number, row))
                        continue
                    for form in dict.fromkeys((spelling, spelling.removesuffix("s") + "s")):
                        parts = _plain(form)
                        rarest = parts.index(max(parts, key=len))
                        entry = ((number, row), -rarest, len(parts) - rarest, parts)
                        index.setdefault(parts[rarest], []).append(entry)
        # A verb of a language without spaces stands behind what it is to be done to.
        verbs, polite = (
            "|".join(rf"{ahead}{each}" if each > _WIDE else rf"{re.escape(each)}(?!\w)" for row in rows for each in row)
            for ahead, rows in ((r"[^。！？\n]{0,20}", _rows(self.simple)), ("", _rows(self.asking)))
        )
        pattern = rf"[\s\"]*(?:(?:{polite})[\s,，]*)*+(?:{verbs})"
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "wide", wide)
        object.__setattr__(self, "any_wide", re.compile("|".join(sorted(wide, key=len, reverse=True)) or "(?!)"))
        object.__setattr__(self, "simple_task", re.compile(pattern, re.IGNORECASE))

    def find(self, text: str) -> set[Thing]:
        """What a text names, in one pass over its words."""
        found: set[Thing] = set()
        plain, index = [*_NOTHING_BEFORE, *_plain(text)], self.index
        for at in compress(count(), map(index.__contains__, plain)):
            for thing, start, end, spelling in index[plain[at]]:
                if thing not in found and plain[at + start : at + end] == spelling:
                    found.add(thing)
        if length(text) > len(text):
            found.update(*map(self.wide.__getitem__, self.any_wide.findall(text)))
        return found

    def is_simple(self, text: str) -> bool:
        """A text's first or last paragraph has a sentence that begins with a simple task, and asks for no reasoning."""
        first = text[:_INSTRUCTION].partition("\n\n")[0]
        _, gap, last = text[-_LAST_PARAGRAPH:].rpartition("\n\n")
        for paragraph in (first, last[:_INSTRUCTION]) if gap else (first,):
            start = paragraph.translate(_APOSTROPHES)
            if any(map(self.simple_task.match, _SENTENCE.split(start))) and not self.asks_for_reasoning(start):
                return True
        return False

    def asks_for_reasoning(self, text: str) -> bool:
        """A text has one of the phrases for it."""
        return any(number == _REASONING for number, _ in self.find(text))


_NOTHING_BEFORE = (b"",) * 8
"So that no spelling begins before a text does."
_SENTENCE = re.compile(r"[.!?:。\n]\s*")


def _rows(rows: str) -> list[list[str]]:
    """Things and their spellings: a line each, with the indented lines below it."""
    lines = rows.replace("\n  ", " ").split("\n")
    return [[spelling.strip() for spelling in line.split(",")] for line in lines if line]


_APOSTROPHES = str.maketrans("'’-", "   ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Everything that turns signals into a tier."""

    words: Words = field(repr=False)
    weights: Mapping[str, int] = field(default_factory=lambda: WEIGHTS)
    steps: Mapping[str, Steps] = field(default_factory=lambda: STEPS)
    material: Mapping[str, int] = field(
        default_factory=lambda: MappingProxyType({"terms": 20, "reasoning": 0, "length": 20})
    )
    "The most that the material of a simple task adds to a signal."
    economy_to: int = 20
    premium_from: int = 56


@dataclass(frozen=True, slots=True)
class Score:
    """What a conversation asks of a model, and why."""

    score: int
    tier: Tier
    signals: Mapping[str, int]


def score(conversation: Conversation, scoring: Scoring) -> Score:
    """How much this conversation asks of a model."""
    return judge(signals_of(conversation, scoring), scoring)


def judge(signals: Mapping[str, int], scoring: Scoring) -> Score:
    """min(100, 0.6 · weighted sum + 0.4 · strongest), halves up, in whole numbers."""
    weighed = sum(scoring.weights[name] * signals[name] for name in WEIGHTS)
    points = min(100, (6 * weighed + 400 * max(signals.values()) + 500) // 1000)
    tier: Tier = (
        "economy" if points <= scoring.economy_to else "premium" if points >= scoring.premium_from else "standard"
    )
    return Score(points, tier, signals)


def signals_of(conversation: Conversation, scoring: Scoring) -> Mapping[str, int]:
    """The seven signals."""
    words, messages = scoring.words, conversation.messages
    sizes = {index: length(message.text) for index, message in enumerate(messages) if message.role == "user"}
    material = _material(messages, sizes, words)
    own = [message.text for index, message in enumerate(messages) if message.role == "user" and index not in material]
    pasted = [messages[index].text for index in sorted(material)]
    others = [message.text for message in messages if message.role in {"system", "assistant"}]
    asked, given, said = (words.find("\n".join(_newest(texts))) for texts in (own, pasted, others))
    code = _code(messages, scoring)

    def terms(things: Iterable[Thing]) -> int:
        counts = Counter(number for number, _ in things)
        advanced, everyday = counts[_ADVANCED], counts[_EVERYDAY]
        if advanced or everyday or code:  # what plain prose says too is technical in such company only
            advanced += counts[_ADVANCED_TOO]
            everyday += counts[_EVERYDAY_TOO]
        return max(_step(scoring.steps["advanced"], advanced), _step(scoring.steps["everyday"], everyday))

    def reasoning(things: Iterable[Thing]) -> int:
        return _step(scoring.steps["reasoning"], sum(number == _REASONING for number, _ in things))

    most = scoring.material
    longest = max((size for index, size in sizes.items() if index not in material), default=None)
    longest_given = max((sizes[index] for index in material), default=None)
    return MappingProxyType(
        {
            "code": code,
            "terms": max(terms(asked | said), min(most["terms"], terms(asked | said | given))),
            "reasoning": max(reasoning(asked), min(most["reasoning"], reasoning(asked | given))),
            "system": _step(scoring.steps["system"], conversation.system_length),
            "depth": _step(scoring.steps["depth"], sum(message.role in {"user", "assistant"} for message in messages)),
            "tools": _step(scoring.steps["tools"], conversation.tool_calls + conversation.tool_results),
            "length": max(
                _step(scoring.steps["length"], longest),
                min(most["length"], _step(scoring.steps["length"], longest_given)),
            ),
        }
    )


def _step(steps: Steps, reached: int | None) -> int:
    return max((value for start, value in steps if reached is not None and reached >= start), default=0)


def _material(messages: Sequence[Message], users: Collection[int], words: Words) -> frozenset[int]:
    """Which of the user's messages are there to be translated, summarised and the like: all where the system text says
    so, else those of the newest that say so themselves."""
    system = next((message.text for message in messages if message.role == "system"), "")
    if words.is_simple(system):
        return frozenset(users)
    return frozenset(index for index in sorted(users)[-_MOST_ASKED:] if words.is_simple(messages[index].text))


def _newest(texts: Sequence[str]) -> Iterator[str]:
    """Texts from the newest back, and of the first that is too long its beginning and its end."""
    left = MOST_READ
    for text in reversed(texts):
        if len(text) > left:
            yield f"{text[: left // 2]}\n{text[len(text) - left // 2 :]}"
            return
        left -= len(text)
        yield text


def _code(messages: Sequence[Message], scoring: Scoring) -> int:
    """Blocks, else spans, else messages with a line of code: the strongest of what is there."""
    blocks = sum(_is_code(block) for message in messages for block in message.text.split(_BLOCKS)[1::2])
    if blocks:
        return _step(scoring.steps["blocks"], blocks)
    texts = list(_newest([message.text for message in messages]))
    spans = sum(len(_SPAN.findall(text)) for text in texts if "`" in text)
    together = "".join(f"\n{text}{_MESSAGE_END}" for text in texts)
    most, end, lines = max(start for start, _ in scoring.steps["code_messages"]), 0, 0
    while lines < most and (line := _CODE_LINE.search(together, end)):
        lines += 1
        end = together.index(_MESSAGE_END, line.start()) + len(_MESSAGE_END)
    return max(_step(scoring.steps["spans"], spans), _step(scoring.steps["code_messages"], lines))


def _is_code(block: str) -> bool:
    """A fenced block is code by its tag; one without is by how it looks."""
    tag, _, text = block.partition("\n")
    tag = tag.strip().lower()
    if tag and " " not in tag:
        return tag not in _PROSE
    symbols = sum(map(block.count, _SYMBOLS))
    return symbols * _LETTERS_PER_SYMBOL > len(block) or _CODE_LINE.search(f"\n{text}") is not None
