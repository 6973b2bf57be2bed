from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lectr_extproc.core.auto import MOST_READ, STEPS, WEIGHTS, Score, Scoring, Words, judge, score, signals_of
from lectr_extproc.core.conversation import Conversation, Message

LISTS = Words(
    advanced="theorem, théorème, 定理\nmutex\nlock free\nconsensus protocol, konsensprotokoll",
    advanced_in_context="proof, 证明\nkernel",
    everyday="python\nc++, c#\nsql\nrest api\ndocker\nregex\njson\ngit",
    everyday_in_context="class\ntest\nbranch",
    reasoning="step by step,\n  schritt für schritt, 逐步\ntrade off\nanalyse, analyze, 证明\ns il faut, compare",
    simple="translate, übersetze, 翻译\nsummarise",
    asking="please, can you, hello, s il te plaît, 请",
)
SCORING = Scoring(words=LISTS)
BLOCK = "```python\nx = 1\n```"


def said(*texts: str, system: str | None = None, tools: int = 0) -> Conversation:
    """A conversation in which the user and the assistant take turns."""
    turns = [Message("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
    first = [] if system is None else [Message("system", system)]
    return Conversation(messages=(*first, *turns), tool_calls=tools)


def signal(name: str, conversation: Conversation) -> int:
    return signals_of(conversation, SCORING)[name]


def nothing_but(**values: int) -> Mapping[str, int]:
    return dict.fromkeys(WEIGHTS, 0) | values


def test_a_conversation_without_anything_scores_nothing() -> None:
    assert score(Conversation(), SCORING) == Score(0, "economy", MappingProxyType(nothing_but()))


# What one signal alone comes to, as 0.6 · weight · signal + 0.4 · signal, halves up.
ALONE = {
    "a system text of a line": (nothing_but(system=30), 15, "economy"),
    "a system text of a page": (nothing_but(system=60), 29, "standard"),
    "the longest system text": (nothing_but(system=100), 49, "standard"),
    "a block of code": (nothing_but(code=60), 31, "standard"),
    "the last of economy": (nothing_but(depth=30, length=20, reasoning=40), 23, "standard"),
    "twenty": (nothing_but(reasoning=40), 20, "economy"),
    "twenty-one": (nothing_but(reasoning=40, length=20), 21, "standard"),
    "a half, which goes up": (nothing_but(depth=50, length=25), 25, "standard"),
    "fifty-five": (nothing_but(terms=100, reasoning=40, length=-1), 56, "premium"),
    "one less": (nothing_but(terms=100, reasoning=35), 55, "standard"),
    "everything": (dict.fromkeys(WEIGHTS, 100), 100, "premium"),
}


@pytest.mark.parametrize("name", ALONE)
def test_the_score_is_the_weighed_sum_and_the_strongest_signal_once_more(name: str) -> None:
    signals, points, tier = ALONE[name]
    assert judge(signals, SCORING) == Score(points, tier, signals)  # type: ignore[arg-type]


def test_weights_steps_and_thresholds_are_data() -> None:
    scoring = replace(
        SCORING,
        weights=nothing_but(code=100),
        steps={**STEPS, "blocks": ((1, 50),)},
        economy_to=49,
        premium_from=50,
        material={"terms": 0},
    )
    assert judge(nothing_but(code=50, terms=50), scoring) == Score(50, "premium", nothing_but(code=50, terms=50))
    assert signals_of(said(BLOCK), replace(SCORING, steps={**STEPS, "blocks": ((1, 50),)}))["code"] == 50


READ: dict[str, tuple[str, Conversation, int]] = {
    "no code": ("code", said("How are you?"), 0),
    "a block": ("code", said(BLOCK), 60),
    "three blocks": ("code", said("\n".join([BLOCK] * 3)), 80),
    "five blocks in three messages": ("code", said(BLOCK, f"{BLOCK}\n{BLOCK}", f"{BLOCK}\n{BLOCK}"), 100),
    "a block that never ends": ("code", said("```c\nint x;"), 60),
    "a block that looks like code": ("code", said("```\nfor (i = 0; i < n; i++) { f(i); }\n```"), 60),
    "a block with a line of code": (
        "code",
        said("```\nimport os\nand much text behind it, so that symbols are few\n```"),
        60,
    ),
    "a block of prose": ("code", said("```\nThe ferry had gone (as it did each day).\n```"), 0),
    "a block that says it is prose": ("code", said("```text\n[a] {b} (c)\n```"), 0),
    "a block on one line": ("code", said("```x = f[1];```"), 60),
    "a block of prose on one line": ("code", said("```as it did each day```"), 0),
    "two spans": ("code", said("`a` or `b`?"), 0),
    "three spans": ("code", said("`a`, `b` or `c`?"), 30),
    "ten spans": ("code", said("`a` " * 10), 50),
    "a line of code": ("code", said("See\nconst a = 1\nthere"), 15),
    "a message that ends with one": ("code", said("if x {"), 15),
    "two lines in two messages": ("code", said("def f(x):", "foo();\nbar"), 15),
    "three messages with such lines": ("code", said("def f(x):\ndef g(x):", "x {\n", "SELECT a FROM b"), 25),
    "code that a tool read": ("code", Conversation(messages=(Message("tool", BLOCK),)), 60),
    "no terms": ("terms", said("A nice day"), 0),
    "an advanced term": ("terms", said("a mutex"), 60),
    "its plural": ("terms", said("some theorems"), 60),
    "two": ("terms", said("Mutex? A theorem!"), 80),
    "three, one of the system text and one of the answer": ("terms", said("mutex", "lock-free", system="theorem"), 100),
    "one in several languages is one": ("terms", said("theorem, théorème, 定理"), 60),
    "in capitals with accents": ("terms", said("LE THÉORÈME"), 60),
    "in a script without spaces": ("terms", said("请看这个定理。"), 60),
    "a phrase that is not whole": ("terms", said("free lock, protocol of consensus"), 0),
    "a phrase cut by the beginning": ("terms", said("free"), 0),
    "a word within a word": ("terms", said("mutexes2 premutex theoremata"), 0),
    "an everyday term": ("terms", said("Is it C++?"), 20),
    "three": ("terms", said("Python, JSON and git"), 35),
    "five": ("terms", said("Python, JSON, git, docker, SQL"), 50),
    "eight": ("terms", said("Python, C#, JSON, git, docker, SQL, regex, REST API"), 70),
    "an advanced term beside eight": ("terms", said("theorem Python, C#, JSON, git, docker, SQL, regex, REST API"), 70),
    "what plain prose says too": ("terms", said("The class had a test on a branch, proof of a kernel"), 0),
    "the same beside a term": ("terms", said("A class and a test in Python"), 35),
    "the same beside code": ("terms", said(f"A class\n{BLOCK}"), 20),
    "an advanced one beside a term": ("terms", said("The proof in Python"), 60),
    "a spelling of two lists, in the one": ("terms", said("Python: 证明"), 60),
    "and in the other": ("reasoning", said("Python: 证明"), 40),
    "terms that a tool said": ("terms", Conversation(messages=(Message("tool", "theorem"),)), 0),
    "no reasoning": ("reasoning", said("Tell me"), 0),
    "one phrase": ("reasoning", said("Think step-by-step."), 40),
    "a British and an American spelling of one": ("reasoning", said("analyse, analyze"), 40),
    "two phrases": ("reasoning", said("Schritt für Schritt, trade-offs"), 60),
    "three phrases": ("reasoning", said("Schritt für Schritt, trade-offs, analyse"), 80),
    "four phrases": ("reasoning", said("逐步 trade-offs, analyse, compare"), 100),
    "with a typographic apostrophe": ("reasoning", said("S’il faut comparer"), 40),
    "of the system text and the answer": ("reasoning", said("Hm", "step by step", system="Analyse step by step"), 0),
    "no system text": ("system", said("Hi"), 0),
    "a short one": ("system", said("Hi", system="x"), 10),
    "a hundred letters": ("system", said("Hi", system="x" * 100), 30),
    "five hundred": ("system", said("Hi", system="x" * 500), 60),
    "two thousand": ("system", said("Hi", system="x" * 2000), 80),
    "five thousand": ("system", said("Hi", system="x" * 5000), 100),
    "the second does not count": (
        "system",
        Conversation(messages=(Message("system", "x"), Message("system", "x" * 500))),
        10,
    ),
    "one turn": ("depth", said("a"), 0),
    "two turns": ("depth", said("a", "b"), 15),
    "three turns": ("depth", said(*"abc"), 30),
    "five turns": ("depth", said(*"abcde"), 50),
    "nine turns": ("depth", said(*"abcdefghi"), 70),
    "seventeen turns": ("depth", said(*"abcdefghijklmnopq"), 85),
    "a tool's messages are no turns": ("depth", Conversation(messages=(Message("tool", "a"),) * 9), 0),
    "no tools": ("tools", said("a"), 0),
    "a call": ("tools", said("a", tools=1), 40),
    "calls and results": ("tools", Conversation(tool_calls=2, tool_results=1), 60),
    "seven": ("tools", Conversation(tool_calls=4, tool_results=3), 80),
    "nothing said by a user": ("length", Conversation(), 0),
    "nothing said": ("length", said(""), 5),
    "fifty letters": ("length", said("x" * 50), 20),
    "two hundred": ("length", said("x" * 200), 35),
    "five hundred in the longest": ("length", said("x" * 500, "x" * 9000, "x"), 55),
    "fifteen hundred": ("length", said("x" * 1500), 75),
    "five thousand of a user": ("length", said("x" * 5000), 90),
    "seventeen Chinese characters": ("length", said("好" * 17), 20),
}


@pytest.mark.parametrize("name", READ)
def test_a_signal_is_the_last_step_that_is_reached(name: str) -> None:
    which, conversation, expected = READ[name]
    assert signal(which, conversation) == expected


HARD = " The theorem on a mutex, lock-free, step by step, in the trade-off." * 30
# What is only pasted in to be worked on; and what looks alike and is not.
MATERIAL = {
    "behind the task": (said(f"Please translate this:\n\n{HARD}"), True),
    "before the task": (said(f"{HARD}\n\nSummarise it."), True),
    "after a greeting": (said(f"Hello! Can you translate\n\n{HARD}"), True),
    "in German": (said(f"Übersetze:\n\n{HARD}"), True),
    "with an apostrophe": (said(f"S'il te plaît, translate\n\n{HARD}"), True),
    "in Chinese, whose verb comes last": (said(f"请把下面的文字翻译成英文：\n\n{HARD}"), True),
    "as the system text says": (said(HARD, system="You are a tool. Translate what the user says."), True),
    "with reasoning asked for": (said(f"Translate this and analyse it:\n\n{HARD}"), False),
    "a task in the middle": (said(f"{HARD}\n\ntranslate\n\n{HARD}"), False),
    "a verb within a sentence": (said(f"Build what can translate:\n\n{HARD}"), False),
    "a longer word": (said(f"Translated by me:\n\n{HARD}"), False),
    "no task": (said(HARD), False),
    "too many messages ago": (said(f"Translate:\n\n{HARD}", *["ok"] * 16), False),
}


@pytest.mark.parametrize("name", MATERIAL)
def test_the_material_of_a_simple_task_says_little_of_how_hard_it_is(name: str) -> None:
    conversation, is_material = MATERIAL[name]
    signals = signals_of(conversation, SCORING)
    given = (signals["terms"], signals["reasoning"], signals["length"])
    assert given == ((20, 0, 20) if is_material else given)
    assert (score(conversation, SCORING).tier == "economy") == is_material


def test_a_short_reply_has_the_score_of_what_it_continues() -> None:
    hard = (f"Analyse the theorem step by step, and the trade-off of a lock-free mutex. {'x' * 500}", "Shall I go on?")
    assert score(said(*hard, "Yes, please."), SCORING).tier == "premium"
    assert score(said("Yes, please."), SCORING).tier == "economy"


def test_a_score_is_the_same_every_time() -> None:
    conversation = said(HARD, "ok", BLOCK)
    assert score(conversation, SCORING) == score(conversation, SCORING)


def test_neither_score_nor_scoring_shows_a_text() -> None:
    assert "ferry" not in repr(score(said("the ferry"), SCORING))
    assert "theorem" not in repr(SCORING)


TEXTS = st.lists(
    st.sampled_from(
        [
            *(
                "Translate this:",
                "Summarise it.",
                "The class took a test.",
                "A theorem.",
                "Python and JSON.",
                "\n\n",
                "\n",
            ),
            *(
                "step by step",
                "compare",
                "`a` `b` `c`",
                "def f(x):",
                "```",
                "```text\nprose\n```",
                BLOCK,
                "x" * 300,
                "定理",
                "翻译",
            ),
        ]
    )
    | st.text(max_size=20),
    max_size=8,
).map(" ".join)
ADDITIONS = st.sampled_from([BLOCK, "theorem", "mutex", "Python", "a test", "step by step", "analyse", "逐步", "定理"])


@given(st.lists(TEXTS, min_size=1, max_size=6), st.none() | TEXTS, ADDITIONS, st.integers(0, 5), st.booleans())
def test_code_a_term_or_a_marker_more_never_lowers_a_score(
    texts: list[str], system: str | None, addition: str, where: int, is_new: bool
) -> None:
    where %= len(texts)
    # Behind a fence that nobody closed an addition belongs to that block, or closes it.
    assume(is_new or texts[where].count("```") % 2 == 0)
    before = score(said(*texts, system=system), SCORING)
    more = [*texts, addition] if is_new else [*texts[:where], f"{texts[where]}\n\n{addition}", *texts[where + 1 :]]
    after = score(said(*more, system=system), SCORING)
    assert after.score >= before.score


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text())))
def test_whatever_is_said_there_is_a_score(turns: list[tuple[str, str]]) -> None:
    messages = tuple(Message(role, text) for role, text in turns)  # type: ignore[arg-type]
    found = score(Conversation(messages=messages), SCORING)
    assert 0 <= found.score <= 100
    assert set(found.signals) == set(WEIGHTS)


def test_half_an_emoji_is_no_error() -> None:
    assert score(said("theorem \ud83d"), SCORING).signals["terms"] == 60


class Counting(dict[bytes, object]):
    """Words, and how often somebody asked for one."""

    asked = 0

    def __contains__(self, word: object) -> bool:
        self.asked += 1
        return super().__contains__(word)


def lookups(conversation: Conversation) -> int:
    """How many words a score looks up."""
    words = replace(LISTS)
    index = Counting(words.index)
    object.__setattr__(words, "index", index)
    score(conversation, Scoring(words=words))
    return index.asked


def test_each_word_is_looked_up_once() -> None:
    empty = lookups(Conversation())
    assert lookups(said("mutex test " * 100)) - empty == 200
    assert lookups(said(*["mutex test"] * 100)) - empty == 200


@pytest.mark.parametrize(
    "text", ["mutex ", "step by step ", "a\n", "`", "```", "请", "please ", "select ", "x = ", "\n "]
)
def test_megabytes_cost_no_more_than_what_is_read(text: str) -> None:
    assert lookups(said(text * 50_000)) <= MOST_READ
    assert lookups(said(*[text * 50] * 1000)) <= 2 * MOST_READ


def test_the_beginning_the_end_and_the_newest_are_read() -> None:
    filling = "and so on " * MOST_READ
    assert signal("terms", said(f"theorem {filling} mutex")) == 80
    assert signal("terms", said(f"{filling} theorem", filling, "mutex")) == 80
    assert signal("terms", said("theorem", "ok", filling, "ok", "mutex")) == 60
    assert signal("terms", said("theorem", filling, "mutex", filling)) == 80  # each side has its own measure
