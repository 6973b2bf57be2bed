import dataclasses
import json
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.answer import Answer, Unreadable
from lectr_extproc.core.candidates import Candidate, Plan, Ranked
from lectr_extproc.core.guard import error_event
from lectr_extproc.core.outcome import to_metadata
from lectr_extproc.core.provider_error import ProviderError
from lectr_extproc.core.record import CallRecord, LogEntry, record_from
from lectr_extproc.core.snapshot import UsageChunk
from lectr_extproc.core.usage import COUNT_LIMIT, COUNTS, ModelUsage, Usage
from lectr_extproc.core.watch import WAITING, Watch, answer_from_metadata, answer_to_metadata, watch_answer
from tests.core.cuts import cuts
from tests.core.given import request, routed, snapshot

SSE = ("content-type", "text/event-stream; charset=utf-8")
OK = (":status", "200")
CHUNK = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06"}
USAGE = {"prompt_tokens": 21, "completion_tokens": 8, "total_tokens": 29}


def event(**more: object) -> bytes:
    return b"data: " + json.dumps({**CHUNK, **more}).encode() + b"\n\n"


def said(text: str, finish: str | None = None, **more: object) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more)


WORDS = [said("Envoy "), said("carries "), said("the state.", "stop")]
USAGE_CHUNK = event(choices=[], usage=USAGE)
DONE = b"data: [DONE]\n\n"


def watching(
    *headers: tuple[str, str], asked: bool = True, usage_chunk: UsageChunk = "strip", path: str = "/v1/chat/completions"
) -> Watch | None:
    """What becomes of a stream's answer with these headers, which was asked for usage unless said otherwise."""
    tables = snapshot()
    tables = dataclasses.replace(tables, observation=dataclasses.replace(tables.observation, usage_chunk=usage_chunk))
    route = routed(request("gpt-4o", path=path), tables)
    return watch_answer(dataclasses.replace(route, asks_for_usage=asked), headers, tables)


def watched(*headers: tuple[str, str], **more: Any) -> Watch:
    watch = watching(*headers, **more)
    assert watch is not None
    return watch


def pass_all(watch: Watch, chunks: list[bytes]) -> tuple[bytes, dict[str, str | int]]:
    """What the client sees, and what Envoy has been told in the end."""
    seen, told, waiting = b"", dict[str, str | int](), list[bytes]()
    for number, chunk in enumerate(chunks, 1):
        waiting.append(chunk)
        for passed, news in watch.feed(chunk, is_last=number == len(chunks)):
            came = waiting.pop(0)
            seen += came if passed is None else passed
            told |= news
    assert not waiting
    return seen, told


def answered(watch: Watch, chunk: bytes, *, is_last: bool = False) -> tuple[bytes | None, dict[str, str | int]]:
    """The one reply to a chunk behind which nothing has to wait."""
    ((passed, news),) = watch.feed(chunk, is_last=is_last)
    return passed, dict(news)


# --- which answers ----------------------------------------------------------------------------------------------------


def test_an_answer_of_an_api_nobody_here_reads_is_left_alone() -> None:
    assert watching(OK, SSE, path="/v1/files") is None


@pytest.mark.parametrize("headers", [[], [(":status", "")], [(":status", "2xx")], [(":status", "²")]])
def test_an_answer_without_a_status_is_left_alone(headers: list[tuple[str, str]]) -> None:
    assert watching(*headers, SSE) is None


TAKEN_OUT: dict[str, tuple[list[tuple[str, str]], bool, bool]] = {
    # headers, whether the chunk is taken out, whether it had to be left in
    "a plain stream": ([OK, SSE], True, False),
    "a stream that says it is not encoded": ([OK, SSE, ("content-encoding", "Identity")], True, False),
    "a stream in capitals": ([OK, ("content-type", "Text/Event-Stream")], True, False),
    "a compressed stream": ([OK, SSE, ("content-encoding", "zstd")], False, True),
    "a stream whose length was told": ([OK, SSE, ("content-length", "999")], False, True),
    "a document": ([OK, ("content-type", "application/json")], False, True),
    "no type": ([OK], False, True),
    "an error": ([(":status", "429"), ("content-type", "application/json")], False, False),
}


@pytest.mark.parametrize(("headers", "is_taken", "is_left"), TAKEN_OUT.values(), ids=TAKEN_OUT)
def test_a_chunk_is_taken_out_of_plain_streams_only(
    headers: list[tuple[str, str]], is_taken: bool, is_left: bool
) -> None:
    watch = watched(*headers)
    assert watch.leaves_chunk_in is is_left
    assert answered(watch, USAGE_CHUNK)[0] == (b"" if is_taken else None)


@pytest.mark.parametrize(
    "how", [{"asked": False}, {"usage_chunk": "keep"}, {"usage_chunk": "never"}], ids=["unasked", "keep", "never"]
)
def test_a_chunk_that_is_the_clients_passes_and_none_is_said_to_be_left_in(how: dict[str, Any]) -> None:
    watch = watched(OK, SSE, **how)
    seen, told = pass_all(watch, [*WORDS, USAGE_CHUNK, DONE])
    assert (seen, watch.leaves_chunk_in) == (b"".join([*WORDS, USAGE_CHUNK, DONE]), False)
    assert (told["input_tokens"], told["output_tokens"]) == (21, 8)


# --- what passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_however_a_stream_is_cut_the_client_sees_all_of_it_but_the_chunk_and_the_same_is_told(end: bytes) -> None:
    stream, kept = (b"".join(events).replace(b"\n", end) for events in ([*WORDS, USAGE_CHUNK, DONE], [*WORDS, DONE]))
    for chunks in cuts(stream):
        seen, told = pass_all(watched(OK, SSE), list(chunks))
        assert seen == kept
        assert told == {
            "input_tokens": 21,
            "output_tokens": 8,
            "total_tokens": 29,
            "model": "gpt-4o-2024-08-06",
            "id": "chatcmpl-1",
            "finish": "stop",
            "complete": "1",
            "out": len("Envoy carries the state."),
        }


def test_a_chunk_that_passes_as_it_came_is_not_sent_back() -> None:
    assert [answered(watched(OK, SSE), word)[0] for word in WORDS] == [None] * 3


def test_chunks_that_end_in_what_can_still_be_the_chunk_have_their_replies_when_that_is_known() -> None:
    watch = watched(OK, SSE)
    assert watch.feed(WORDS[0] + WORDS[1][:9], is_last=False) == []
    assert watch.feed(WORDS[1][9:12], is_last=False) == []
    assert [passed for passed, _ in watch.feed(WORDS[1][12:], is_last=False)] == [None] * 3


def test_of_chunks_that_waited_only_the_usage_chunk_is_missing() -> None:
    watch = watched(OK, SSE)
    assert watch.feed(WORDS[0] + USAGE_CHUNK[:9], is_last=False) == []
    assert [passed for passed, _ in watch.feed(USAGE_CHUNK[9:] + DONE, is_last=False)] == [WORDS[0], DONE]


def test_a_line_feed_that_comes_after_its_event_has_passed_passes_beside_what_waits() -> None:
    said, usage = (event.replace(b"\n", b"\r\n") for event in (WORDS[0], USAGE_CHUNK))
    watch = watched(OK, SSE)
    assert answered(watch, said[:-1])[0] is None
    assert watch.feed(b"\n" + usage[:9], is_last=False) == []
    assert [passed for passed, _ in watch.feed(usage[9:-1], is_last=False)] == [b"\n", b""]
    assert [answered(watch, chunk)[0] for chunk in (b"\n", DONE)] == [b"", None]


def test_what_waits_at_the_end_passes_as_it_came() -> None:
    watch = watched(OK, SSE)
    assert watch.feed(b'data: {"choices": [', is_last=False) == []
    assert [passed for passed, _ in watch.feed(b"", is_last=True)] == [None, None]


def test_chunks_that_all_end_in_what_can_still_be_the_chunk_do_not_wait_without_end() -> None:
    """An answer cut so passes whole, and all of what waits is bounded."""
    event = b'data: {"id": "%s", "choices": [{"delta": {"content": "a"}}]}\n\n' % (b"x" * 60_000)
    watch, waiting, seen = watched(OK, SSE), list[bytes](), b""
    chunks = [event[:12], *[event[12:] + event[:12]] * 30, event[12:]]
    for chunk in chunks:
        waiting.append(chunk)
        for passed, _ in watch.feed(chunk, is_last=False):
            came = waiting.pop(0)
            seen += came if passed is None else passed
        assert sum(map(len, waiting)) <= WAITING + len(event)
    assert (seen, waiting) == (event * 31, [])


# --- what breaks off --------------------------------------------------------------------------------------------------

ERROR = b'data: {"error":{"message":"m","code":"server_is_sad"}}\n\n'


def guarded(*headers: tuple[str, str], asked: bool = True, is_chosen: bool = True) -> Watch:
    """What becomes of the stream of a call whose model was chosen, unless the test says otherwise."""
    tables = snapshot()
    route = routed(request("gpt-4o"), tables)
    row = Candidate(Ranked(provider="openai", model="gpt-4o"), None, None)
    plan = Plan(candidates=(row,) if is_chosen else (), dropped=())
    choice = dataclasses.replace(route.choice, plan=plan, streaming=True)
    route = dataclasses.replace(route, choice=choice, asks_for_usage=asked)
    watch = watch_answer(route, headers, tables)
    assert watch is not None
    return watch


BROKEN = error_event("openai.chat", None)


@pytest.mark.parametrize("asked", [True, False])
def test_a_chosen_stream_that_ends_as_it_should_is_as_it_was(asked: bool) -> None:
    usage = b"" if asked else USAGE_CHUNK
    for end in (DONE, b""):  # a finish reason is an end, too
        for chunks in cuts(b"".join(WORDS) + USAGE_CHUNK + end):
            seen, told = pass_all(guarded(OK, SSE, asked=asked), chunks)
            assert seen == b"".join(WORDS) + usage + end
            assert "broken" not in told


def test_a_chosen_stream_that_ends_too_early_ends_in_an_error_and_says_so() -> None:
    for chunks in cuts(b"".join(WORDS[:2]) + WORDS[2][:30]):
        seen, told = pass_all(guarded(OK, SSE), chunks)
        assert (seen, told["broken"]) == (b"".join(WORDS[:2]) + BROKEN, "1")
    assert answered(guarded(OK, SSE), b"", is_last=True) == (BROKEN, {"broken": "1"})


def test_of_a_chosen_stream_nothing_follows_an_error_and_it_is_told_with_it() -> None:
    replaced = error_event("openai.chat", ProviderError("server_is_sad"))
    for chunks in cuts(WORDS[0] + ERROR + WORDS[1] + DONE):
        seen, told = pass_all(guarded(OK, SSE), chunks)
        assert (seen, told["broken"], told["error"]) == (WORDS[0] + replaced, "1", "server_is_sad")
    watch = guarded(OK, SSE)
    assert answered(watch, WORDS[0])[0] is None
    assert answered(watch, ERROR)[1]["broken"] == "1"


def test_what_cannot_be_read_is_not_said_to_have_broken_off() -> None:
    seen, told = pass_all(guarded(OK, SSE), [b"data: " + b"[" * 1_200_000, b"\n\n"])
    assert "broken" not in told
    assert len(seen) == 1_200_008


UNGUARDED: dict[str, tuple[list[tuple[str, str]], bool]] = {
    "of a pinned call": ([OK, SSE], False),
    "that is compressed": ([OK, SSE, ("content-encoding", "gzip")], True),
    "whose length was told": ([OK, SSE, ("content-length", "999")], True),
    "that is an error": ([(":status", "503"), SSE], True),
    "that is none": ([OK, ("content-type", "application/json")], True),
}


@pytest.mark.parametrize("case", UNGUARDED)
def test_nothing_is_added_to_an_answer(case: str) -> None:
    headers, is_chosen = UNGUARDED[case]
    chunks = [WORDS[0], ERROR, WORDS[1][:9]]
    seen, told = pass_all(guarded(*headers, is_chosen=is_chosen, asked=False), chunks)
    assert seen == b"".join(chunks)
    assert "broken" not in told


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1", "1e3"])
def test_a_length_that_is_none_is_as_if_it_had_not_been_told(length: str) -> None:
    assert answered(watched(OK, ("content-length", length)), b"{}", is_last=True)[0] is None


# --- what is told -----------------------------------------------------------------------------------------------------


def test_news_is_told_once_and_as_soon_as_it_is_known() -> None:
    watch = watched(OK, SSE)
    news = [answered(watch, chunk)[1] for chunk in [*WORDS, USAGE_CHUNK, USAGE_CHUNK, DONE]]
    news.append(answered(watch, b"", is_last=True)[1])
    assert news == [
        {"model": "gpt-4o-2024-08-06", "id": "chatcmpl-1", "out": 6},
        {"out": 14},
        {"out": 24, "finish": "stop", "complete": "1"},
        {"input_tokens": 21, "output_tokens": 8, "total_tokens": 29},
        {},
        {},
        {},
    ]


def test_progress_is_told_when_the_text_has_grown_by_a_quarter_and_at_the_end() -> None:
    watch = watched(OK, SSE)
    told = [answered(watch, said("x" * 10))[1].get("out") for _ in range(12)]
    assert told == [10, 20, 30, 40, 50, None, 70, None, 90, None, None, 120]
    assert answered(watch, said("x"))[1] == {}
    assert answered(watch, b"", is_last=True)[1] == {"out": 121}


@pytest.mark.parametrize("asked", [True, False], ids=["strip", "stream"])
def test_a_chunk_that_tells_nothing_is_not_sent_back_and_tells_nothing(asked: bool) -> None:
    watch = watched(OK, SSE, asked=asked)
    for _ in range(6):
        watch.feed(said("x" * 100), is_last=False)
    assert watch.feed(said("x"), is_last=False) is watch.feed(said("y"), is_last=False), "made once"
    assert answered(watch, said("x")) == (None, {})
    assert pass_all(watch, [USAGE_CHUNK, said("z"), b""])[1]["out"] == 604


@pytest.mark.parametrize("asked", [True, False], ids=["strip", "stream"])
def test_events_that_come_whole_are_told_as_those_that_are_cut(asked: bool) -> None:
    events = [*[said(f"word {n}\\n") for n in range(9)], said("", "stop"), said("late"), USAGE_CHUNK, DONE]
    whole, cut = (
        pass_all(watched(OK, SSE, asked=asked), chunks) for chunks in (events, [*map(bytes, zip(b"".join(events)))])
    )
    assert whole == cut


def test_an_answer_that_cannot_be_read_says_so_and_passes() -> None:
    watch = watched(OK, SSE, ("content-encoding", "rot13"))
    assert answered(watch, b"whatever", is_last=True) == (None, {"unreadable": "unknown_encoding"})


# --- and read back ----------------------------------------------------------------------------------------------------

COUNT = st.integers(0, COUNT_LIMIT - 1)
USAGES = st.builds(Usage, **{name: st.none() | COUNT for name in COUNTS}).filter(lambda usage: usage != Usage())
NAMES = st.text(
    st.characters(codec="ascii", categories=["L", "N"], include_characters="-_:./"), min_size=1, max_size=64
)
ERRORS = st.just(ProviderError()) | st.builds(ProviderError, code=NAMES.filter(lambda code: code != "error"))
ANSWERS = st.builds(
    Answer,
    usage=st.none() | USAGES,
    model_answered=st.none() | NAMES,
    response_id=st.none() | NAMES,
    finish_reasons=st.lists(NAMES, max_size=3).map(tuple),
    service_tier=st.none() | NAMES,
    region=st.none() | NAMES,
    error=st.none() | ERRORS,
    is_complete=st.booleans(),
    output_bytes=COUNT,
    reported_cost=st.none() | st.decimals(0, 10_000, allow_nan=False, allow_infinity=False),
    helpers=st.lists(st.builds(ModelUsage, NAMES, USAGES), max_size=2).map(tuple),
    unreadable=st.none() | st.sampled_from(get_args(Unreadable)),
)


@given(ANSWERS)
def test_what_was_written_is_read_back(answer: Answer) -> None:
    assert answer_from_metadata(answer_to_metadata(answer)) == answer


FULL = Answer(
    usage=Usage(**{name: number for number, name in enumerate(COUNTS)}),
    model_answered="gpt-4o",
    response_id="r1",
    finish_reasons=("stop", "length"),
    service_tier="flex",
    region="us",
    error=ProviderError(code="overloaded"),
    is_complete=True,
    output_bytes=7,
    reported_cost=Decimal("0.0000125"),
    helpers=(ModelUsage("gpt-4o-mini", Usage(input_tokens=3)),),
    unreadable="too_large",
)


def test_every_key_is_written_down() -> None:
    assert answer_to_metadata(FULL) == {
        **{name: number for number, name in enumerate(COUNTS)},
        "model": "gpt-4o",
        "id": "r1",
        "finish": "stop,length",
        "tier": "flex",
        "region": "us",
        "error": "overloaded",
        "complete": "1",
        "out": 7,
        "cost": "0.0000125",
        "helpers": '[{"model":"gpt-4o-mini","input_tokens":3}]',
        "unreadable": "too_large",
    }
    assert answer_from_metadata(answer_to_metadata(FULL)) == FULL


def test_what_is_absent_has_no_key() -> None:
    assert answer_to_metadata(Answer()) == {}
    assert answer_from_metadata({}) == Answer()


@pytest.mark.parametrize(
    ("error", "word"),
    [(ProviderError(type="api_error"), "api_error"), (ProviderError(), "error"), (ProviderError("c", "t"), "c")],
)
def test_an_error_is_told_by_the_best_word_there_is(error: ProviderError, word: str) -> None:
    assert answer_to_metadata(Answer(error=error)) == {"error": word}


KEYS = [*answer_to_metadata(FULL), "from_a_newer_version"]
TEXTS = st.text(st.characters() | st.sampled_from("\ud83d\udcff"), max_size=20)
VALUES = st.none() | st.booleans() | st.floats() | st.integers() | TEXTS | st.sampled_from(["1", "NaN", "-inf", "[7]"])


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_odd_metadata_is_absent_and_never_an_error(told: dict[str, Any]) -> None:
    answer = answer_from_metadata(told)
    for name in COUNTS:
        told_count = told.get(name)
        is_count = type(told_count) is int and 0 <= told_count < COUNT_LIMIT
        assert getattr(answer.usage or Usage(), name) == (told_count if is_count else None)
    assert answer.unreadable is None or answer.unreadable in get_args(Unreadable)
    assert answer.reported_cost is None or answer.reported_cost.is_finite()


ODD_HELPERS = {
    "no JSON": "[",
    "no list": '{"model": "m"}',
    "no objects": "[7, null]",
    "no model": '[{"input_tokens": 3}]',
    "a model that is no text": '[{"model": 7, "input_tokens": 3}]',
    "no counts": '[{"model": "m"}]',
}


@pytest.mark.parametrize("helpers", ODD_HELPERS.values(), ids=ODD_HELPERS)
def test_helpers_that_cannot_be_read_are_absent(helpers: str) -> None:
    assert answer_from_metadata({"helpers": helpers}) == Answer()


@given(
    st.builds(
        Answer,
        model_answered=TEXTS,
        response_id=TEXTS,
        finish_reasons=st.lists(TEXTS, max_size=3).map(tuple),
        service_tier=TEXTS,
        region=TEXTS,
        helpers=st.lists(st.builds(ModelUsage, TEXTS, USAGES), max_size=2).map(tuple),
    )
)
def test_whatever_a_provider_writes_can_be_told_to_envoy(answer: Answer) -> None:
    """A lone half of a surrogate pair is legal in JSON and in no protobuf message."""
    json.dumps(answer_to_metadata(answer), ensure_ascii=False).encode()


# --- sums, for Envoy's rate limits and access logs --------------------------------------------------------------------

BEGAN_S = 1_795_000_000
HOST = "https://provider.test/v1"


def summed(
    provider: str, model: str, *chunks: dict[str, Any], path: str = "/v1/chat/completions"
) -> tuple[dict[str, Any], CallRecord]:
    """What Envoy is told of an answer in these chunks, and the record that is made of it."""
    facts, tables = request(model, ("x-lectr-provider", provider), path=path), snapshot(addresses={provider: HOST})
    route = routed(facts, tables)
    watch = watch_answer(route, [OK, SSE], tables, BEGAN_S)
    assert watch is not None
    told = pass_all(watch, [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks])[1]
    decision = to_metadata(route, facts, "c1")
    entry = LogEntry(start_ns=BEGAN_S * 10**9 + 1, status=200, decision=decision, answer=told)
    return told, record_from(entry, tables)


CHARGES: dict[str, tuple[tuple[str, str], dict[str, Any], int, int]] = {
    # provider and model, the chunk with its usage, tokens, micro-USD
    "rounded up": (("openai", "gpt-4o"), {"model": "gpt-4o-2024-08-06", "usage": USAGE}, 29, 133),
    "by the model sent": (("openai", "gpt-4o"), {"usage": USAGE}, 29, 133),
    "by the service tier": (("openai", "gpt-5"), {"model": "gpt-5", "service_tier": "flex", "usage": USAGE}, 29, 54),
    "as the provider says": (("openrouter", "x/y"), {"model": "x/y", "usage": {**USAGE, "cost": 0.00000125}}, 29, 2),
}


@pytest.mark.parametrize(("asked", "chunk", "tokens", "micro_usd"), CHARGES.values(), ids=CHARGES)
def test_the_sums_are_the_records_tokens_and_cost(
    asked: tuple[str, str], chunk: dict[str, Any], tokens: int, micro_usd: int
) -> None:
    told, record = summed(*asked, chunk)
    assert (told["total_tokens"], told["cost_micro_usd"]) == (tokens, micro_usd)
    assert record.cost is not None
    assert record.cost.total is not None
    assert -(-record.cost.total // 10**6) == micro_usd


def test_each_sum_follows_what_it_is_made_of() -> None:
    begun = {"type": "message_start", "message": {"model": "claude-opus-4-1", "usage": {"input_tokens": 21}}}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 8}}
    sums = [
        (told["total_tokens"], told["cost_micro_usd"])
        for told, _ in (
            summed("anthropic", "claude-opus-4-1", *chunks, path="/v1/messages") for chunks in ([begun], [begun, ended])
        )
    ]
    assert sums == [(21, 315), (29, 915)]


def test_a_model_without_a_price_has_tokens_and_no_cost() -> None:
    told, record = summed("openai", "gpt-of-tomorrow", {"model": "gpt-of-tomorrow", "usage": USAGE})
    assert (told["total_tokens"], "cost_micro_usd" in told) == (29, False)
    assert record.cost is not None
    assert record.cost.total is None


def test_an_estimate_is_in_no_sum() -> None:
    told, record = summed("openai", "gpt-4o", CHUNK)
    assert not told.keys() & {"total_tokens", "cost_micro_usd"}
    assert record.token_source == "estimated"


@pytest.mark.parametrize("cost", ["a lot", "NaN", "Infinity", ""])
def test_a_charge_that_is_no_amount_is_absent(cost: str) -> None:
    assert answer_from_metadata({"cost": cost}).reported_cost is None


def test_the_answer_of_a_second_xai_is_read_as_xais_with_the_cost_it_tells() -> None:
    row = dataclasses.replace(PROVIDERS["xai"], id="ours")
    tables = snapshot(more=[row], addresses={"ours": "https://ours.example/v1"}, registered={"grok-x": "ours"})
    counts = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 15, "cost_in_usd_ticks": 5}
    usage = {**counts, "completion_tokens_details": {"reasoning_tokens": 3}}
    route = routed(request("grok-x"), tables)
    watch = watch_answer(route, [OK, ("content-type", "application/json")], tables)
    assert watch is not None
    _, told = pass_all(watch, [json.dumps({"usage": usage, "choices": []}).encode()])
    read = answer_from_metadata(told)
    assert read.usage is not None
    assert (read.usage.output_tokens, read.reported_cost) == (5, Decimal("5E-10"))
