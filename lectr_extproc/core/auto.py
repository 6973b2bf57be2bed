"""`model: auto`: how much a conversation asks of a model, as a score from 0 to 100, and the tier that follows.

Seven signals of 0 to 100 are weighed; the strongest counts once more, so that one alone can be enough. The same
conversation has the same score on every machine. Weights, steps and words are data; docs/auto.md has the whole table.
Nothing but counts leaves this module.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, count, takewhile
from types import MappingProxyType
from typing import Literal

from lectr_extproc.core.conversation import Conversation, Message, length

Tier = Literal["economy", "standard", "premium"]
Steps = tuple[tuple[int, int], ...]
"(from, value), rising: the last step that is reached counts."

SIGNALS = ("code", "terms", "reasoning", "system", "depth", "tools", "length")

MOST_READ = 32_768
"""Letters in which words and lines are looked for, the newest first. What is left to find in more has reached its step
long before, and a body of megabytes must not hold up the event loop. Sizes, turns and blocks are counted in all."""

_INSTRUCTION = 300
"Letters of a paragraph in which it says what is to be done."
_LONGEST_ASKED = 4
"Long messages of which it is asked whether they are material for a simple task."

_BLOCKS, _SPAN = "```", re.compile(r"`[^`\n]+`")
_PROSE = frozenset({"", "text", "txt", "plain", "plaintext", "markdown", "md", "quote", "email"})
"What stands behind the opening of a block that is no code."
_SYMBOLS = "{}();=<>[]_"
_SYMBOLS_PER_LETTER = 25
"One in so many letters of untagged blocks that are code, at least; a contract's brackets are one in a hundred."

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
Things = tuple[set[int], ...]
"What was found of each list."


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
    index: Mapping[bytes, Sequence[tuple[int, int, int, list[bytes]]]] = field(init=False, repr=False)
    "Where a spelling's longest word stands: its list, its thing, the words before it, the whole spelling."
    wide: Mapping[str, tuple[int, int]] = field(init=False, repr=False)
    "The spellings in scripts that put no space between words."
    any_wide: re.Pattern[str] = field(init=False, repr=False)
    simple_task: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index: dict[bytes, list[tuple[int, int, int, list[bytes]]]] = {}
        wide: dict[str, tuple[int, int]] = {}
        for number, name in enumerate(LISTS):
            for thing, spellings in enumerate(_rows(getattr(self, name))):
                for spelling in spellings:
                    if spelling > _WIDE:
                        wide[spelling] = number, thing
                        continue
                    for form in dict.fromkeys((spelling, spelling.removesuffix("s") + "s")):
                        parts = _plain(form)
                        rarest = parts.index(max(parts, key=len))
                        index.setdefault(parts[rarest], []).append((number, thing, rarest, parts))
        verbs, polite = (
            "|".join(each if each > _WIDE else rf"{re.escape(each)}(?!\w)" for row in _rows(rows) for each in row)
            for rows in (self.simple, self.asking)
        )
        pattern = rf"(?:^|[.!?:。\n])[\s\"]*(?:(?:{polite})[\s,，]*)*(?:{verbs})"
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "wide", wide)
        object.__setattr__(self, "any_wide", re.compile("|".join(sorted(wide, key=len, reverse=True)) or "(?!)"))
        object.__setattr__(self, "simple_task", re.compile(pattern, re.IGNORECASE))

    def find(self, text: str) -> Things:
        """What a text names, in one pass over its words."""
        found: Things = tuple(set() for _ in LISTS)
        plain, index = _plain(text), self.index
        for at in compress(count(), map(index.__contains__, plain)):
            for number, thing, before, spelling in index[plain[at]]:
                if len(spelling) == 1 or plain[max(0, at - before) : at - before + len(spelling)] == spelling:
                    found[number].add(thing)
        if length(text) > len(text):
            for spelling in self.any_wide.findall(text):
                number, thing = self.wide[spelling]
                found[number].add(thing)
        return found

    def is_simple(self, text: str) -> bool:
        """A text's first or last paragraph begins with a simple task, and asks for no reasoning beside it."""
        for paragraph in (text.partition("\n\n")[0], text.rpartition("\n\n")[2]):
            start = paragraph[:_INSTRUCTION]
            if self.simple_task.search(start.translate(_APOSTROPHES)) and not self.find(start)[_REASONING]:
                return True
        return False


_ADVANCED, _ADVANCED_TOO, _EVERYDAY, _EVERYDAY_TOO, _REASONING = range(len(LISTS))


def _rows(rows: str) -> list[list[str]]:
    """Things and their spellings: a line each, with the indented lines below it."""
    lines = rows.replace("\n  ", " ").split("\n")
    return [[spelling.strip() for spelling in line.split(",")] for line in lines if line]


_APOSTROPHES = str.maketrans("'’-", "   ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Everything that turns signals into a tier."""

    words: Words = field(repr=False)
    weights: Mapping[str, int] = field(
        default_factory=lambda: MappingProxyType(
            {"code": 20, "terms": 20, "reasoning": 15, "system": 15, "depth": 10, "tools": 10, "length": 10}
        )
    )
    "Per cent."
    blocks: Steps = ((1, 60), (3, 80), (5, 100))
    spans: Steps = ((3, 30), (10, 50))
    code_messages: Steps = ((1, 15), (3, 25))
    advanced: Steps = ((1, 60), (2, 80), (3, 100))
    everyday: Steps = ((1, 20), (3, 35), (5, 50), (8, 70))
    reasoning: Steps = ((1, 40), (2, 60), (3, 80), (4, 100))
    system: Steps = ((1, 10), (100, 30), (500, 60), (2000, 80), (5000, 100))
    depth: Steps = ((2, 15), (3, 30), (5, 50), (9, 70), (17, 85))
    tools: Steps = ((1, 40), (3, 60), (7, 80))
    length: Steps = ((0, 5), (50, 20), (200, 35), (500, 55), (1500, 75), (5000, 90))
    material: Mapping[str, int] = field(
        default_factory=lambda: MappingProxyType({"terms": 35, "reasoning": 0, "length": 20})
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
    weighed = sum(scoring.weights[name] * signals[name] for name in SIGNALS)
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
    texts: dict[str, list[str]] = {"asked": [], "said": [], "given": []}
    for index, text in _newest(messages):
        if messages[index].role == "user":
            texts["given" if index in material else "asked"].append(text)
        elif messages[index].role != "tool":
            texts["said"].append(text)
    asked, said, given = (words.find("\n".join(some)) for some in texts.values())
    code = _code(messages, scoring)

    def terms(*some: Things) -> int:
        found = [set().union(*same) for same in zip(*some, strict=True)]
        advanced, everyday = len(found[_ADVANCED]), len(found[_EVERYDAY])
        if advanced or everyday or code:  # what plain prose says too is technical in such company only
            advanced += len(found[_ADVANCED_TOO])
            everyday += len(found[_EVERYDAY_TOO])
        return max(_step(scoring.advanced, advanced), _step(scoring.everyday, everyday))

    def reasoning(*some: Things) -> int:
        return _step(scoring.reasoning, len(set().union(*(found[_REASONING] for found in some))))

    most = scoring.material
    own = max((size for index, size in sizes.items() if index not in material), default=None)
    pasted = max((sizes[index] for index in material), default=None)
    return MappingProxyType(
        {
            "code": code,
            "terms": max(terms(asked, said), min(most["terms"], terms(asked, said, given))),
            "reasoning": max(reasoning(asked), min(most["reasoning"], reasoning(asked, given))),
            "system": _step(scoring.system, conversation.system_length),
            "depth": _step(scoring.depth, sum(message.role in {"user", "assistant"} for message in messages)),
            "tools": _step(scoring.tools, conversation.tool_calls + conversation.tool_results),
            "length": max(_step(scoring.length, own), min(most["length"], _step(scoring.length, pasted))),
        }
    )


def _step(steps: Steps, reached: int | None) -> int:
    return max((value for start, value in steps if reached is not None and reached >= start), default=0)


def _material(messages: Sequence[Message], sizes: Mapping[int, int], words: Words) -> frozenset[int]:
    """Which of the user's messages are there to be translated, summarised and the like: all where the system text says
    so, else the longest for as long as they do."""
    system = next((message.text for message in messages if message.role == "system"), "")
    if words.is_simple(system):
        return frozenset(sizes)
    longest = sorted(sizes, key=lambda index: -sizes[index])[:_LONGEST_ASKED]
    return frozenset(takewhile(lambda index: words.is_simple(messages[index].text), longest))


def _newest(messages: Sequence[Message]) -> Iterator[tuple[int, str]]:
    """Texts from the newest back, and of the first that is too long its beginning and its end."""
    left = MOST_READ
    for index in range(len(messages) - 1, -1, -1):
        text = messages[index].text
        if len(text) > left:
            yield index, f"{text[: left // 2]}\n{text[len(text) - left // 2 :]}"
            return
        left -= len(text)
        yield index, text


def _code(messages: Sequence[Message], scoring: Scoring) -> int:
    """Blocks, else spans, else messages with a line of code: the strongest of what is there."""
    blocks = sum(_is_code(block) for message in messages for block in message.text.split(_BLOCKS)[1::2])
    if blocks:
        return _step(scoring.blocks, blocks)
    texts = [text for _, text in _newest(messages)]
    spans = sum(len(_SPAN.findall(text)) for text in texts if "`" in text)
    together = "".join(f"\n{text}{_MESSAGE_END}" for text in texts)
    most, end, lines = max(start for start, _ in scoring.code_messages), 0, 0
    while lines < most and (line := _CODE_LINE.search(together, end)):
        lines += 1
        end = together.index(_MESSAGE_END, line.start() + 1)
    return max(_step(scoring.spans, spans), _step(scoring.code_messages, lines))


def _is_code(block: str) -> bool:
    """A fenced block is code by its tag, or by how it looks."""
    tag, _, text = block.partition("\n")
    if tag.strip().lower() not in _PROSE:
        return True
    symbols = sum(map(text.count, _SYMBOLS))
    return symbols * _SYMBOLS_PER_LETTER > len(text) or _CODE_LINE.search(f"\n{text}") is not None
