import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core import record
from lectr_extproc.core.native import NativeUsage
from lectr_extproc.core.record import LogEntry
from lectr_extproc.core.spool import FLAGS, FORMAT, NATIVE_FORMAT, OPENING, entry_from

# What Envoy 1.40 wrote of a call, names and numbers changed.
SAID: dict[str, Any] = {
    "answer": {"complete": "1", "input_tokens": 21, "cost_micro_usd": 1.5, "share": 2.0, "odd": [1], "nothing": None},
    "attempts": 1,
    "cluster": "openai-88c6c1f2",
    "connection": "[2001:db8::1]:32770",
    "decision": {"call_id": "c1", "routed": "1", "org": "acme"},
    "details": "via_upstream",
    "duration_ns": "0.018890313s",
    "first_byte_ns": 6633990,
    "flags": "DC,UC,NR",
    "method": "POST",
    "native": {
        "extraction_status": "COMPLETE",
        "input_token_details": {"cached_tokens": "0"},
        "input_tokens": "21",
        "llm_protocol": "OPENAI_CHAT_COMPLETIONS",
        "model": "gpt-4o-2024-08-06",
        "output_tokens": "8",
        "provider_total_tokens": "29",
    },
    "path": "/v1/chat/completions",
    "request": {"model": "gpt-4o", "stream": True},
    "request_bytes": 100,
    "request_id": 'a"b\\c',
    "request_received_ns": 0,
    "response_bytes": 543,
    "route": "lectr_routed",
    "start_ns": "1795273492.657591000",
    "status": 200,
    "upstream_first_byte_ns": 5,
    "upstream_start_ns": 4,
}
LINE = orjson.dumps(SAID)
ENTRY = LogEntry(
    start_ns=1_795_273_492_657_591_000,
    duration_ns=18_890_313,
    request_received_ns=0,
    upstream_start_ns=4,
    upstream_first_byte_ns=5,
    first_byte_ns=6633990,
    method="POST",
    path="/v1/chat/completions",
    status=200,
    flags=frozenset({"downstream_connection_termination", "upstream_connection_termination", "NR"}),
    details="via_upstream",
    route="lectr_routed",
    cluster="openai-88c6c1f2",
    attempts=1,
    request_id='a"b\\c',
    request_bytes=100,
    response_bytes=543,
    decision={"call_id": "c1", "routed": "1", "org": "acme"},
    answer={"complete": "1", "input_tokens": 21, "cost_micro_usd": 1.5, "share": 2},
    native=NativeUsage(
        is_chat=True,
        model="gpt-4o-2024-08-06",
        input_tokens=21,
        output_tokens=8,
        cached_tokens=0,
        cache_creation_tokens=None,
        reasoning_tokens=None,
        total_tokens=29,
    ),
)


def test_a_line_says_all_that_an_entry_has() -> None:
    assert entry_from(LINE) == ENTRY


def test_where_a_call_came_from_and_where_to_is_read_where_its_decision_does_not_tell() -> None:
    undecided = entry_from(orjson.dumps({**SAID, "decision": None}))
    told = entry_from(orjson.dumps({**SAID, "decision": {"call_id": "c1", "path": "/v1"}}))
    assert undecided is not None
    assert told is not None
    assert (undecided.path, undecided.connection) == ("/v1/chat/completions", "2001:db8::1:32770")
    assert (told.path, told.connection) == ("", "")


def test_every_field_of_an_entry_is_asked_of_envoy() -> None:
    assert {*FORMAT, *NATIVE_FORMAT} == set(LogEntry.__dataclass_fields__)


def test_what_envoy_does_not_know_is_absent() -> None:
    unknown = dict.fromkeys(SAID) | {"start_ns": "1795273492.5", "flags": "-", "status": 0}
    assert entry_from(orjson.dumps(unknown)) == LogEntry(start_ns=1_795_273_492_500_000_000)


def test_no_header_but_the_request_id_no_query_and_no_body_is_asked_for() -> None:
    operators = {**FORMAT, **NATIVE_FORMAT}
    headers = {name: said for name, said in operators.items() if "REQ(" in said or "RESP(" in said}
    assert headers == {"method": "%REQ(:METHOD)%", "request_id": "%REQ(X-REQUEST-ID)%"}
    assert operators["path"] == "%PATH(NQ:PATH)%"


def test_every_flag_that_a_record_tells_apart_has_a_short_name() -> None:
    told = record._HUNG_UP | record._UNREACHABLE | record._TIMED_OUT | record._CUT
    assert set(FLAGS.values()) == told


def test_every_line_begins_as_a_cut_one_is_told_by() -> None:
    assert orjson.dumps(dict.fromkeys({**FORMAT, **NATIVE_FORMAT}), option=orjson.OPT_SORT_KEYS).startswith(OPENING)


def test_a_line_cut_anywhere_is_nothing_and_takes_the_next_not_along() -> None:
    for cut in range(len(LINE)):
        assert entry_from(LINE[:cut]) is None, cut
        assert entry_from(LINE[:cut] + LINE) == ENTRY, cut


WRONG: dict[str, object] = {
    "a text for a count": "many",
    "a count below zero": -1,
    "a flag for a count": True,
    "a count without end": "9" * 21,
    "digits of another script": "١",
    "a list": [1],
    "an object": {"input_tokens": {}},
    "a number for a text": 7,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_value_of_another_kind_is_absent(wrong: object) -> None:
    found = entry_from(json.dumps(dict.fromkeys(SAID, wrong) | {"start_ns": "1"}).encode())
    assert found is not None
    assert (found.start_ns, found.duration_ns, found.native and found.native.input_tokens) == (10**9, None, None)
    assert not isinstance(found.status, str | bool | list | dict)


VALUES = (
    st.none()
    | st.integers(-1, 2**63)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "1.5s", "-", ",", "\u0661", "1"])
)


@given(st.binary() | st.builds(orjson.dumps, st.dictionaries(st.sampled_from(sorted(SAID)), VALUES)))
def test_whatever_the_bytes_it_is_an_entry_or_nothing(line: bytes) -> None:
    assert isinstance(entry_from(line), LogEntry | None)
