"""The memo on the way of a call: whoever called before, a call gets the reply that it would get from a new server."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import DECIDING, Facts
from lectr_extproc.core.health import Health
from lectr_extproc.core.outcome import Decision
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.edge import ext_proc, wire
from lectr_extproc.edge.ext_proc import ExtProc
from lectr_extproc.edge.live import Live
from lectr_extproc.keys import digest
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.edge.given import CLIENT_KEY, KEY, core_headers, settings

OTHER_KEY = "lc_key_another-another-another"
CUT_KEY = "lc_key_split-split-split-split"

Pairs = list[tuple[str, str]]
CALL: Pairs = [
    (":method", "POST"),
    (":path", "/v1/chat/completions"),
    ("content-type", "application/json"),
    ("content-length", "100"),
    ("accept-encoding", "gzip"),
    ("authorization", f"Bearer {CLIENT_KEY}"),
    ("x-lectr-key", KEY),
    ("x-request-id", "1"),
]


def asked(pairs: Pairs = CALL, *, is_over: bool = False, **read: Any) -> bytes:
    """The message about a call, of which Envoy has read a model unless it says otherwise."""
    message = ext.ProcessingRequest(request_headers=ext.HttpHeaders(headers=core_headers(pairs), end_of_stream=is_over))
    read = {"model": "gpt-4o"} | read
    message.metadata_context.filter_metadata["lectr.request"].update({k: v for k, v in read.items() if v is not None})
    return message.SerializeToString(deterministic=True)


def having(*changed: tuple[str, str], less: str = "") -> Pairs:
    """The call with other values in some of its headers, or with more of them, or with one less."""
    values = {name: value for name, value in CALL if name != less}
    return list((values | dict(changed)).items())


def live(identity: Mapping[str, Any] = {"xfcc": True}) -> Live:
    """Two orgs of which one splits its calls, held keys, and every setting that a reply depends on."""
    halves = [{"weight": 1}, {"weight": 1, "provider": "mistral"}]
    rules = [
        {"name": "split", "when": {"model": "gpt-4.1"}, "split": halves},
        {"name": "moved", "when": {"feature": "moved"}, "then": {"provider": "mistral"}},
        {"name": "by user", "when": {"model": "o3"}, "split": halves, "sticky": "x-user"},
    ]
    orgs = [
        {"name": "acme", "keys": [{"sha256": digest(KEY)}], "workloads": ["spiffe://mesh/acme"]},
        {
            "name": "another",
            "keys": [{"sha256": digest(OTHER_KEY)}],
            "workloads": ["spiffe://mesh/another"],
            "aliases": {"small": "gpt-4o-mini"},
        },
        {"name": "split", "keys": [{"sha256": digest(CUT_KEY)}], "rules": rules},
    ]
    made = settings(orgs=orgs, identity=identity, limits={"request_body_bytes": 5000, "inspect_body_bytes": 1000})
    held = {"mistral": Credential(Form.NONE, "held-for-mistral")}
    return Live(replace(made, snapshot=replace(made.snapshot, credentials=held)))


class Envoy:
    """Envoy's side of one call, and gRPC's. Nothing in it waits, so no loop runs it."""

    def __init__(self, message: bytes, traced: str | None = None, answer: bytes | None = None) -> None:
        self._messages = [answer, message] if answer else [message]
        self._traced = traced
        self.got: list[bytes] = []

    async def read(self) -> Any:
        return self._messages.pop() if self._messages else grpc.aio.EOF

    async def write(self, reply: bytes) -> None:
        self.got.append(reply)

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return [("traceparent", self._traced)] if self._traced else ()


def ask(server: ExtProc, message: bytes, traced: str | None = None) -> bytes:
    """The first reply to a call."""
    envoy = Envoy(message, traced)
    try:
        server.process(None, envoy).send(None)
    except StopIteration as end:
        return (envoy.got or [end.value])[0]
    raise AssertionError("it waited")


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[Facts]:
    """What was decided and not remembered. Calls have the same id meanwhile."""
    seen: list[Facts] = []

    def noting(facts: Facts, known: Snapshot, health: Health) -> Decision:
        seen.append(facts)
        return decide(facts, known, health)

    monkeypatch.setattr(ext_proc, "decide", noting)
    monkeypatch.setattr(ext_proc, "new_call_id", lambda: "0" * 32)
    return seen


ALIKE: dict[str, bytes] = {
    "the same": asked(),
    "another size": asked(having(("content-length", "101"))),
    "another id": asked(having(("x-request-id", "22"))),
    "another encoding": asked(having(("accept-encoding", "br"))),
}


@pytest.mark.parametrize("again", ALIKE.values(), ids=ALIKE)
def test_a_call_like_one_before_gets_its_reply_and_is_not_decided_again(again: bytes, decided: list[Facts]) -> None:
    shared = live()
    server = ExtProc(shared)
    first = ask(server, asked())
    assert ask(server, again) == first == ask(ExtProc(live()), again)
    assert len(decided) == 2
    assert shared.counts == {"decisions": 2}


def test_each_call_has_an_id_and_a_parent_of_its_own() -> None:
    server = ExtProc(live())

    def own(traceparent: str, traced: str | None = None) -> tuple[str, str]:
        reply = ext.ProcessingResponse.FromString(ask(server, asked(having(("traceparent", traceparent))), traced))
        fields = reply.dynamic_metadata["lectr"].fields  # type: ignore[union-attr]
        return fields["call_id"].string_value, fields["parent"].string_value

    told = [own("00-1"), own("00-2"), own("00-222"), own("00-1", "00-3"), own("")]
    assert [parent for _, parent in told] == ["00-1", "00-2", "00-222", "00-3", ""]
    assert len({call_id for call_id, _ in told}) == len(told)


def models(method: str) -> bytes:
    return asked(having((":path", "/v1/models"), (":method", method)), model=None, stream=False)


def unread(content_type: str) -> bytes:
    path = (":path", "/v1/audio/transcriptions")
    return asked(having(path, ("content-type", content_type)), model=None, stream=False)


def with_either(name: str, one: str, other: str) -> tuple[bytes, bytes]:
    return asked(having((name, one), less="authorization")), asked(having((name, other), less="authorization"))


DIFFERENT: dict[str, tuple[bytes, bytes]] = {
    ":method": (models("POST"), models("GET")),
    ":path": (asked(), asked(having((":path", "/v1/responses")))),
    "the query": (asked(), asked(having((":path", "/v1/chat/completions?a=b")))),
    "content-type": (unread("image/png"), unread("multipart/form-data; boundary=x")),
    "content-length": (asked(), asked(having(("content-length", "5001")))),
    "authorization": with_either("authorization", "Bearer sk-1", "Bearer sk-2"),
    "the scheme of authorization": with_either("authorization", "Bearer sk-1", "Barer_ sk-1"),
    "x-api-key": with_either("x-api-key", "sk-1", "sk-2"),
    "api-key": with_either("api-key", "sk-1", "sk-2"),
    "x-goog-api-key": with_either("x-goog-api-key", "sk-1", "sk-2"),
    "x-lectr-key": with_either("x-lectr-key", KEY, OTHER_KEY),
    "a key that is none": with_either("x-lectr-key", KEY, KEY[::-1]),
    "x-lectr-provider": with_either("x-lectr-provider", "groq", "xai"),
    "x-lectr-feature": with_either("x-lectr-feature", "a", "b"),
    "x-lectr-task": with_either("x-lectr-task", "a", "b"),
    "x-lectr-fallback": with_either("x-lectr-fallback", ",", "gpt-4.1"),
    "x-forwarded-client-cert": (
        asked(having(("x-forwarded-client-cert", "URI=spiffe://mesh/acme"), less="x-lectr-key")),
        asked(having(("x-forwarded-client-cert", "URI=spiffe://mesh/another"), less="x-lectr-key")),
    ),
    "the names": (asked(), asked(having(("x-lectr-more", "")))),
    "a key in another header": with_either("cookie", "0" * len(KEY), KEY),
    "the end": (asked(having((":path", "/api/chat"))), asked(having((":path", "/api/chat")), is_over=True)),
    "the model": (asked(), asked(model="gpt-4.1")),
    "stream": (asked(), asked(stream=True, include_usage=True)),
    "include_usage": (asked(stream=True, include_usage=True), asked(stream=True, include_usage=False)),
}


@pytest.mark.parametrize(("before", "call"), DIFFERENT.values(), ids=DIFFERENT)
def test_one_thing_that_decides_makes_it_another_call(before: bytes, call: bytes, decided: list[Facts]) -> None:
    server = ExtProc(live())
    expected = ask(ExtProc(live()), call)
    assert expected != ask(server, before) == ask(server, before), "they must differ for this to say anything"
    assert len(decided) == 2, "and the first must be remembered"
    assert ask(server, call) == expected


def test_whose_certificate_it_was_makes_it_another_call(decided: list[Facts]) -> None:
    name = "connection.uri_san_peer_certificate"

    def of(workload: str) -> bytes:
        message = ext.ProcessingRequest.FromString(asked(having(less="x-lectr-key")))
        message.attributes["envoy.filters.http.ext_proc"].update({name: workload} if workload else {})
        return message.SerializeToString(deterministic=True)

    server = ExtProc(live({"attribute": name}))

    def org(workload: str) -> str:
        reply = ext.ProcessingResponse.FromString(ask(server, of(workload)))
        return reply.dynamic_metadata["lectr"].fields["org"].string_value  # type: ignore[union-attr]

    asked_for = ["spiffe://mesh/acme", "spiffe://mesh/another", "spiffe://mesh/acme", "", "spiffe://mesh/nobody"]
    assert [org(each) for each in asked_for] == ["acme", "another", "acme", "", ""]
    assert len(decided) == 4


def test_what_could_be_read_in_two_ways_is_another_call() -> None:
    one = asked(having(("x-lectr-feature", "a\0b"), ("x-lectr-task", "c")))
    other = asked(having(("x-lectr-feature", "a"), ("x-lectr-task", "b\0c")))
    server = ExtProc(live())
    assert ask(server, one)[:-32] != ask(server, other)[:-32] == ask(ExtProc(live()), other)[:-32]


def test_of_each_header_that_decides_it_was_tried() -> None:
    assert DIFFERENT.keys() >= DECIDING


def test_an_answer_to_a_remembered_call_is_read_as_that_to_the_first() -> None:
    server = ExtProc(live())
    answer = [(":status", "200"), ("content-type", "text/event-stream")]
    message = ext.ProcessingRequest(response_headers=ext.HttpHeaders(headers=core_headers(answer)))
    for _ in range(2):
        envoy = Envoy(asked(stream=True, include_usage=True), answer=message.SerializeToString())
        with pytest.raises(StopIteration):
            server.process(None, envoy).send(None)
        assert envoy.got[1:] == [wire.WATCH_BODY]


def test_a_key_that_is_revoked_is_refused_at_once(decided: list[Facts]) -> None:
    shared = live()
    server = ExtProc(shared)
    before = ask(server, asked())
    shared.settings = settings(orgs=[])
    assert ext.ProcessingResponse.FromString(ask(server, asked())).immediate_response.status.code == 401
    shared.settings = live().settings
    assert ask(server, asked()) == before
    assert len(decided) == 3


TEXT = st.sampled_from(
    ["", "a", "moved", "mistral", "gpt-4o", "small", CLIENT_KEY, KEY, CUT_KEY, "a, b", "\0", "1", "é"]
)
VALUES: dict[str, st.SearchStrategy[str]] = {
    **dict.fromkeys((*sorted(DECIDING), "cookie", "x-user", "upgrade", "accept-encoding", "x-lectr-more"), TEXT),
    ":method": st.sampled_from(["POST", "GET"]),
    ":path": st.sampled_from(["/v1/chat/completions", "/v1/messages", "/v1/models", "/v1/files?key=a", f"/v1/{KEY}"]),
    "content-type": st.sampled_from(["application/json", "text/plain", "multipart/form-data; boundary=x"]),
    "content-length": st.sampled_from(["0", "99", "100", "1001", "5001", "x"]),
    "authorization": st.sampled_from([f"Bearer {key}" for key in ("sk-ant-1", "sk-ant-2", "gsk_1", KEY, "a")]),
    "x-lectr-key": st.sampled_from([KEY, OTHER_KEY, CUT_KEY]),
    "traceparent": st.sampled_from(["00-1", "00-2", "1", "0" * 32, ""]),
}
ONE_HEADER = st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), VALUES[name]))
READ = st.fixed_dictionaries(
    {"model": st.sampled_from([None, "gpt-4o", "gpt-4.1", "o3", "small", "economy", "openai/gpt-4o"])},
    optional={"stream": st.booleans(), "include_usage": st.booleans(), "prefer": st.just("cheap")},
)
CALLS = st.builds(
    lambda changed, read, *, is_over: asked(having(*changed), is_over=is_over, **read),
    st.lists(ONE_HEADER, max_size=3),
    READ,
    is_over=st.booleans(),
)


@settings_of_hypothesis(max_examples=300, deadline=None)
@given(st.lists(st.tuples(CALLS, st.sampled_from([None, "00-3", "00-4"])), min_size=2, max_size=6))
def test_whoever_called_before_a_call_gets_the_reply_of_a_new_server(calls: list[tuple[bytes, str | None]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ext_proc, "new_call_id", lambda: "0" * 32)
        server = ExtProc(SHARED)
        for message, traced in calls + calls:
            assert ask(server, message, traced) == ask(ExtProc(SHARED), message, traced)


SHARED = live()
