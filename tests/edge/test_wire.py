"""Envoy's messages to values and back."""

import contextlib
import dataclasses
import operator
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, read_facts
from lectr_extproc.core.outcome import Refuse, Route, Serve, to_metadata
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.tables import Org
from lectr_extproc.edge import wire
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.edge import given as here

SNAPSHOT = here.settings().snapshot


def facts_of(message: ext.ProcessingRequest) -> Facts:
    return read_facts(
        wire.headers_from(message.request_headers), wire.request_metadata_from(message), end_of_stream=False
    )


def route_of(message: ext.ProcessingRequest, body: bytes | None = None) -> Route:
    decision = decide(facts_of(message), SNAPSHOT)
    assert isinstance(decision, Route)
    return dataclasses.replace(decision, body=body)


def reply_of(decision: Route | Refuse | Serve, metadata: Mapping[str, str], *, to_body: bool) -> ext.ProcessingResponse:
    return ext.ProcessingResponse.FromString(wire.reply_from(decision, metadata, to_body=to_body))


# --- requests ---------------------------------------------------------------------------------------------------------


ATTRIBUTES = "envoy.filters.http.ext_proc"
URI = "connection.uri_san_peer_certificate"
WEB = "spiffe://cluster.local/ns/shop/sa/web"


def test_what_envoy_says_of_a_connection_is_no_attempt_and_names_the_workload() -> None:
    attempt, call = ext.ProcessingRequest(), ext.ProcessingRequest()
    attempt.attributes[ATTRIBUTES].update({wire.CLUSTER_ATTRIBUTE: "x", wire.NUMBER_ATTRIBUTE: 1})
    call.attributes[ATTRIBUTES].update({URI: WEB})
    assert (wire.is_of_attempt(attempt), wire.is_of_attempt(call)) == (True, False)
    forged = [("x-forwarded-client-cert", "URI=spiffe://x/forged"), (URI, "spiffe://x/forged")]
    assert wire.workload_from(call, forged, URI) == WEB
    assert wire.workload_from(ext.ProcessingRequest(), forged, URI) is None
    assert wire.workload_from(call, [("x-forwarded-client-cert", f"Hash=1;URI={WEB}")], "xfcc") == WEB


def test_a_header_is_read_from_raw_value_before_value() -> None:
    both = ext.HeaderValue(key="a", value="value", raw_value=b"raw")
    old = ext.HeaderValue(key="b", value="value")
    empty = ext.HeaderValue(key="c")
    read = wire.headers_from(ext.HttpHeaders(headers=ext.HeaderMap(headers=[both, old, empty, both])))
    assert read == [("a", "raw"), ("b", "value"), ("c", ""), ("a", "raw")]


@given(st.binary())
def test_the_bytes_of_a_header_survive_the_way_there_and_back(content: bytes) -> None:
    ((_, text),) = wire.headers_from(ext.HttpHeaders(headers=here.core_headers([("a", content)])))
    route = dataclasses.replace(route_of(here.headers()), sets={"a": text})
    *_, option = reply_of(route, {}, to_body=False).request_headers.response.header_mutation.set_headers
    assert (option.header.key, option.header.raw_value) == ("a", content)


def test_a_path_that_is_not_utf_8_reaches_the_provider_as_it_came_and_can_be_recorded() -> None:
    message = here.headers("gpt-4o", path=b"/v1/files/\xff?n=\xfe")
    facts = facts_of(message)
    reply = reply_of(route_of(message), to_metadata(route_of(message), facts, "1"), to_body=False)
    sets = {h.header.key: h.header.raw_value for h in reply.request_headers.response.header_mutation.set_headers}
    assert sets[":path"] == b"/v1/files/\xff?n=\xfe"
    assert here.said(reply)["path"] == "/v1/files/"


def test_a_thousand_headers_are_read() -> None:
    facts = facts_of(here.headers("gpt-4o", *[(f"x-{i}", "v" * 100) for i in range(1000)]))
    assert len(facts.header_names) == 1005
    assert facts.model == "gpt-4o"


def test_metadata_comes_back_as_what_it_was() -> None:
    message = ext.ProcessingRequest()
    wrote: dict[str, Any] = {
        "text": "x", "yes": True, "no": False, "nothing": None, "whole": 3, "half": 0.5,
        "huge": 1e300, "endless": float("inf"), "list": [1], "deep": {"a": 1},
    }  # fmt: skip
    message.metadata_context.filter_metadata["lectr.request"].update(wrote)
    read = wire.request_metadata_from(message)
    assert read == {**wrote, "huge": int(1e300), "list": None, "deep": None}
    assert {type(read["whole"]), type(read["half"]), type(read["no"])} == {int, float, bool}


@pytest.mark.parametrize("model", [None, True, 3, "", ["gpt-4o"], {"a": "b"}], ids=repr)
def test_a_model_that_is_no_text_is_no_model(model: Any) -> None:
    message = here.headers(None)
    message.metadata_context.filter_metadata["lectr.request"].update({"model": model})
    assert facts_of(message).model is None


def test_a_message_without_metadata_has_none() -> None:
    assert wire.request_metadata_from(ext.ProcessingRequest()) == {}


# --- replies ----------------------------------------------------------------------------------------------------------


def test_asking_for_the_body_says_nothing_else() -> None:
    reply = ext.ProcessingResponse.FromString(wire.ASK_FOR_BODY)
    assert [field.name for field, _ in reply.ListFields()] == ["request_headers", "mode_override"]
    assert not reply.request_headers.HasField("response")
    mode, sent = reply.mode_override, ext.ProcessingMode
    assert (mode.request_body_mode, mode.request_header_mode) == (sent.BUFFERED, sent.SEND)
    assert (mode.response_header_mode, mode.response_body_mode) == (sent.SEND, sent.NONE), "only headers may override"
    assert (mode.request_trailer_mode, mode.response_trailer_mode) == (sent.SKIP, sent.SKIP)


@pytest.mark.parametrize(("to_body", "kind"), [(False, "request_headers"), (True, "request_body")])
def test_a_route_answers_the_message_it_was_decided_on(to_body: bool, kind: str) -> None:
    reply = reply_of(route_of(here.headers()), {"routed": "1"}, to_body=to_body)
    assert reply.WhichOneof("response") == kind
    assert getattr(reply, kind).response.clear_route_cache
    assert not getattr(reply, kind).response.HasField("body_mutation")
    assert "content-length" not in here.set_headers(reply)
    assert here.said(reply) == {"routed": "1"}


def test_a_replaced_body_brings_its_length() -> None:
    reply = reply_of(route_of(here.headers(), body=b"{}"), {}, to_body=True)
    assert reply.request_body.response.body_mutation.body == b"{}"
    assert here.set_headers(reply)["content-length"] == "2"


def test_a_body_that_became_empty_is_replaced_too() -> None:
    reply = reply_of(route_of(here.headers(), body=b""), {}, to_body=True)
    assert reply.request_body.response.body_mutation.WhichOneof("mutation") == "body"
    assert here.set_headers(reply)["content-length"] == "0"


@pytest.mark.parametrize("more", [(), (("x-lectr-cluster", "elsewhere"),)], ids=["without", "with a client's copy"])
def test_the_cluster_is_always_written_and_never_removed(more: tuple[tuple[str, str], ...]) -> None:
    route = route_of(here.headers("gpt-4o", *more))
    mutation = reply_of(route, {}, to_body=False).request_headers.response.header_mutation
    assert [h.header.raw_value.decode() for h in mutation.set_headers if h.header.key == "x-lectr-cluster"] == [
        route.cluster
    ]
    assert "x-lectr-cluster" not in mutation.remove_headers
    assert "x-lectr-key" in mutation.remove_headers


def test_headers_we_own_overwrite_and_travel_as_bytes() -> None:
    mutation = reply_of(route_of(here.headers()), {}, to_body=False).request_headers.response.header_mutation
    assert {h.append_action for h in mutation.set_headers} == {ext.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD}
    assert not any(h.header.value or h.HasField("append") for h in mutation.set_headers)


@pytest.mark.parametrize("shape", ["openai", "anthropic"])
@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("to_body", [False, True])
def test_a_refusal_is_json_in_the_clients_shape(code: str, shape: Any, to_body: bool) -> None:
    refusal = REFUSALS[code]
    reply = reply_of(Refuse(refusal=refusal, shape=shape), {"refused": code}, to_body=to_body)
    answer = reply.immediate_response
    assert reply.WhichOneof("response") == "immediate_response"
    assert (answer.status.code, answer.details) == (refusal.status, f"lectr_{code}")
    assert answer.body == refusal.body(shape)
    assert [(h.header.key, h.header.raw_value) for h in answer.headers.set_headers] == [
        ("content-type", b"application/json")
    ]
    assert here.said(reply) == {"refused": code}


def test_an_answer_of_our_own_is_json_and_no_error() -> None:
    serve = Serve(body=b"{}", shape="openai", org=Org(name="acme"), notes=())
    reply = reply_of(serve, {"org": "acme"}, to_body=False)
    answer = reply.immediate_response
    assert (answer.status.code, answer.body, answer.details) == (200, b"{}", "lectr_models")
    assert [(h.header.key, h.header.raw_value) for h in answer.headers.set_headers] == [
        ("content-type", b"application/json")
    ]
    assert here.said(reply) == {"org": "acme"}


TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
NAMES = st.text("abc-:", max_size=300)
SETS = st.dictionaries(NAMES, TEXTS, max_size=3)
NEWS = st.dictionaries(TEXTS, TEXTS | st.integers(0, 2**53), max_size=5)


@given(SETS, st.lists(NAMES, max_size=3), TEXTS, st.none() | st.binary(max_size=70_000), NEWS)
def test_what_is_written_by_hand_is_what_protobuf_would_write(
    sets: dict[str, str], removes: list[str], path: str, body: bytes | None, metadata: Any
) -> None:
    changed: dict[str, Any] = {"sets": sets, "removes": tuple(removes), "path": path, "body": body, "observe": "native"}
    route = dataclasses.replace(route_of(here.headers()), **changed)
    wrote = {":authority": route.authority, "x-lectr-cluster": route.cluster, ":path": path, **sets}
    common = ext.CommonResponse(clear_route_cache=True)
    if route.body is not None:
        wrote["content-length"] = str(len(route.body))
        common.body_mutation.body = route.body
    overwrite = ext.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    common.header_mutation.remove_headers.extend(removes)
    for name, value in wrote.items():
        header = ext.HeaderValue(key=name, raw_value=value.encode())
        common.header_mutation.set_headers.append(ext.HeaderValueOption(header=header, append_action=overwrite))
    expected = ext.ProcessingResponse(request_body=ext.BodyResponse(response=common))
    expected.dynamic_metadata.update({"lectr": metadata})
    assert reply_of(route, metadata, to_body=True) == expected


KINDS = [field.name for field in ext.ProcessingRequest.DESCRIPTOR.oneofs_by_name["request"].fields]


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_did_not_ask_for_passes_with_an_empty_reply_of_its_kind(kind: str) -> None:
    message = ext.ProcessingRequest()
    getattr(message, kind).SetInParent()
    empty = wire.empty_reply(message)
    assert empty is not None
    reply = ext.ProcessingResponse.FromString(empty)
    assert reply.WhichOneof("response") == kind
    assert getattr(reply, kind).ByteSize() == 0


def test_a_kind_of_a_newer_envoy_has_no_reply() -> None:
    assert wire.empty_reply(ext.ProcessingRequest.FromString(b"\x6a\x00")) is None  # field 13 of the oneof since 1.40


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_call_to_be_read_asks_for_the_answers_headers_and_not_yet_for_its_body() -> None:
    route = dataclasses.replace(route_of(here.headers()), observe="stream")
    read = reply_of(route, {}, to_body=False).mode_override
    assert (read.response_header_mode, read.response_body_mode) == (ext.ProcessingMode.SEND, ext.ProcessingMode.NONE)
    assert not reply_of(route, {}, to_body=True).HasField("mode_override")
    for observe in ("native", "none"):
        unread = dataclasses.replace(route, observe=observe)
        assert not reply_of(unread, {}, to_body=False).HasField("mode_override")


def test_reading_a_body_never_asks_to_hold_it() -> None:
    reply = ext.ProcessingResponse.FromString(wire.WATCH_BODY)
    assert [field.name for field, _ in reply.ListFields()] == ["response_headers", "mode_override"]
    assert reply.mode_override.response_body_mode == ext.ProcessingMode.STREAMED
    assert reply.mode_override.request_body_mode == ext.ProcessingMode.NONE


@settings(max_examples=150)
@given(
    st.binary(max_size=300) | st.builds(operator.mul, st.binary(min_size=1, max_size=1), st.integers(16_000, 17_000)),
    st.booleans(),
    st.booleans(),
    st.integers(0),
)
def test_a_chunk_read_by_hand_is_what_protobuf_would_read(chunk: bytes, ends: bool, more: bool, cut: int) -> None:
    message = ext.ProcessingRequest(response_body=ext.HttpBody(body=chunk, end_of_stream=ends))
    if more:
        message.metadata_context.filter_metadata["lectr.request"].update({"model": "gpt-4o"})
    written = message.SerializeToString()
    assert wire.chunk_from(written) == (chunk, ends)
    body = ext.ProcessingRequest(response_body=message.response_body).ByteSize()
    with contextlib.suppress(DecodeError):  # what is cut in the middle of it is no message
        assert wire.chunk_from(written[: cut % body]) in {None, (b"", False)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_another_kind_is_no_chunk(kind: str) -> None:
    message = ext.ProcessingRequest()
    getattr(message, kind).SetInParent()
    assert wire.chunk_from(message.SerializeToString()) == ((b"", False) if kind == "response_body" else None)


def test_a_length_without_end_is_no_message() -> None:
    with pytest.raises(DecodeError):
        wire.chunk_from(b"\x2a" + b"\xff" * 1_000_000)


CHUNKS: dict[str, tuple[bytes | None, bool, bytes]] = {
    "as it came": (None, False, b""),
    "what is left of it": (b"data: x", False, b"data: x"),
    "nothing of it": (b"", True, b""),
}


@pytest.mark.parametrize(("kept", "is_cleared", "body"), CHUNKS.values(), ids=CHUNKS)
def test_a_chunk_passes(kept: bytes | None, is_cleared: bool, body: bytes) -> None:
    reply = ext.ProcessingResponse.FromString(wire.pass_chunk(kept, {}))
    mutation = reply.response_body.response.body_mutation
    assert reply.response_body.HasField("response") is (kept is not None)
    assert (mutation.clear_body, mutation.body, reply.HasField("dynamic_metadata")) == (is_cleared, body, False)
