import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.outcome import AskForBody, Route, to_metadata
from lectr_extproc.core.record import LogEntry
from tests.core.calls import ANY, EVERYWHERE, INGRESS, ODD_PATHS, SMALLEST, refused
from tests.core.given import DISABLED_KEY, KEY, recorded, request, routed


def test_a_route_writes_what_its_record_needs() -> None:
    facts = request(
        "openai/gpt-4o",
        ("x-lectr-provider", "nobody"),
        ("x-lectr-feature", "Search\t1"),
        ("x-lectr-task", "Summarization"),
        path="/v1/chat/completions?key=k",
        bearer="gsk_abc",
        metadata={"stream": True},
    )
    facts = with_body(facts, b'{"model": "openai/gpt-4o"}')
    assert to_metadata(routed(facts), facts, "c1") == {
        "call_id": "c1",
        "routed": "1",
        "org": "acme",
        "provider": "openai",
        "source": "prefix",
        "dialect": "openai.chat",
        "shape": "openai",
        "requested": "openai/gpt-4o",
        "sent": "gpt-4o",
        "path": "/v1/chat/completions",
        "feature": "Search1",
        "task": "Summarization",
        "stream": "1",
        "host": "api.openai.com",
        "observe": "stream",
        "credential": "client",
        "notes": "provider_header_invalid,credential_of_another_provider",
    }


STREAMS: dict[str, tuple[Facts, bool]] = {
    "a chat": (request("gpt-4o"), False),
    "a message that asks": (request("claude-sonnet-4-6", path="/v1/messages", metadata={"stream": True}), True),
    "Gemini's answer": (request(path="/v1beta/models/gemini-2.5-pro:generateContent"), False),
    "Gemini's stream": (request(path="/v1beta/models/gemini-2.5-pro:streamGenerateContent"), True),
    "Ollama unasked": (request("llama3", path="/api/chat"), True),
    "Ollama refused": (request("llama3", path="/api/chat", metadata={"stream": False}), False),
    "Ollama with nothing to read": (request(path="/api/generate", has_body=False), False),
    "Ollama's embeddings": (request("llama3", path="/api/embed"), False),
}


@pytest.mark.parametrize("case", STREAMS)
def test_the_record_says_of_each_api_whether_it_streamed(case: str) -> None:
    facts, streaming = STREAMS[case]
    assert ("stream" in to_metadata(routed(facts), facts, "c1")) is streaming


def test_what_is_absent_has_no_key() -> None:
    facts = request("ollama/mistral", bearer=None)
    assert to_metadata(routed(facts), facts, "c1") == {
        "call_id": "c1",
        "routed": "1",
        "org": "acme",
        "provider": "openai",
        "source": "default",
        "unknown": "1",
        "detected": "ollama",
        "dialect": "openai.chat",
        "shape": "openai",
        "requested": "ollama/mistral",
        "sent": "ollama/mistral",
        "path": "/v1/chat/completions",
        "host": "api.openai.com",
        "observe": "stream",
        "credential": "none",
    }


def test_a_refusal_is_never_routed() -> None:
    facts = request("gpt-4o", path="/v1/messages", key=None)
    assert to_metadata(refused(facts), facts, "c1") == {
        "call_id": "c1",
        "refused": "missing_lectr_key",
        "shape": "anthropic",
        "path": "/v1/messages",
    }


def test_a_refusal_after_the_choice_tells_the_choice() -> None:
    facts = request("gpt4", ("x-lectr-provider", "azure"))
    written = to_metadata(refused(facts), facts, "c1")
    assert (written["refused"], written["provider"], written["org"]) == ("azure_config_missing", "azure", "acme")
    assert "routed" not in written


def test_the_decision_comes_back_as_the_record() -> None:
    facts = request(
        "grok-3",
        ("x-lectr-provider", "nobody"),
        ("x-lectr-feature", "search"),
        ("x-lectr-task", "Summarization"),
        metadata={"stream": True, "include_usage": True},
    )
    route = routed(facts)
    record = recorded(LogEntry(start_ns=1, decision=to_metadata(route, facts, "c1")))
    choice = route.choice
    assert (record.call_id, record.org, record.path) == ("c1", route.org.name, facts.path)
    assert (record.provider, record.provider_source) == (choice.provider, choice.source)
    assert (record.provider_unknown, record.provider_detected) == (choice.unknown, choice.detected)
    assert record.credential == route.credential == "client"
    assert (record.dialect, record.notes) == (choice.dialect, choice.notes)
    assert (record.model_requested, record.model_sent) == (choice.model_requested, choice.model_sent)
    assert (record.feature, record.task, record.task_known) == ("search", "Summarization", "summarisation")
    assert (record.streaming, record.model_answered, record.error_code) == (True, None, None)


def test_a_refusal_comes_back_as_the_record() -> None:
    facts = request("gpt-4o", key=DISABLED_KEY)
    record = recorded(LogEntry(start_ns=1, status=401, decision=to_metadata(refused(facts), facts, "c1")))
    assert (record.call_id, record.error_source, record.error_code) == ("c1", "gateway", "org_disabled")
    assert (record.outcome, record.provider, record.path) == ("authentication", None, facts.path)


def test_a_long_name_is_cut_on_the_record_and_not_on_its_way() -> None:
    name = "gpt-" + "x" * 1000
    facts = request(name, path="/v1/" + "y" * 1000)
    route = routed(facts)
    written = to_metadata(route, facts, "c1")
    assert (len(written["requested"]), len(written["sent"]), len(written["path"])) == (256, 256, 512)
    assert (route.choice.model_sent, len(route.path)) == (name, 1004)


SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=24, max_size=40)


@given(
    SECRETS, st.sampled_from(["", *sorted({shape for row in PROVIDERS.values() for shape in row.key_shapes})]), SECRETS
)
def test_no_key_is_ever_in_the_metadata_or_shown(secret: str, shape: str, own: str) -> None:
    everywhere = itertools.product(
        INGRESS, ("gpt-4o", "azure/gpt4", "mystery"), (KEY, f"lc_key_{own}"), (SMALLEST, EVERYWHERE)
    )
    for ingress, model, key, tables in everywhere:
        query, forms = INGRESS[ingress]
        arrived = [(name, value.format(shape + secret)) for name, value in forms]
        path = "/v1/chat/completions" + query.format(shape + secret)
        facts = request(model, *arrived, path=path, key=key, bearer=None)
        decision = decide(facts, tables)
        shown = repr(facts.credential) + facts.query
        if not isinstance(decision, AskForBody):
            shown += repr(to_metadata(decision, facts, "c1"))
        assert secret not in shown
        assert own not in shown
        assert KEY not in shown


@given(
    model=ANY,
    path=ODD_PATHS,
    method=st.sampled_from(["POST", "GET"]),
    label=ANY,
    secret=ANY,
    provider=st.sampled_from([None, "azure", "anthropic", "ollama"]),
    body=st.binary() | st.none(),
)
def test_whatever_arrives_is_decided_and_can_be_written_down(
    *, model: str, path: str, method: str, label: str, secret: str, provider: str | None, body: bytes | None
) -> None:
    named = [("x-lectr-provider", provider)] if provider else []
    facts = request(model, *named, ("x-lectr-feature", label), path=path, method=method, bearer=secret, content_type="")
    facts = facts if body is None else with_body(facts, body)
    decision = decide(facts, EVERYWHERE)
    if not isinstance(decision, AskForBody):
        for value in to_metadata(decision, facts, "c1").values():
            assert value.encode().decode().isprintable()
    if isinstance(decision, Route):
        assert decision.path is not None
