"""Each call through a real Envoy is one span at a real OTLP receiver, and in its metrics; a dead one harms no call."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lectr_extproc.edge.metrics import METRICS
from tests.e2e.answers import INPUT_TOKENS, OUTPUT_TOKENS, error
from tests.e2e.calls import CHAT, JSON, KEYS, asking, call, new_id, works
from tests.e2e.candidates import failing_over, refusal
from tests.e2e.conftest import Launch, once
from tests.e2e.gateway import STOP_WITHIN_S, Gateway, wait_until
from tests.e2e.scene import HUSH, ORG, Providers, secret, settings_for
from tests.ports import free_port
from tests.receiver import Receiver, receiver
from tools.dashboards import honeycomb, measures
from tools.dashboards.views import VIEWS

pytestmark = once
"What leaves is made from records, which are alike whichever Envoy they come from (test_records, test_spool)."

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
LABELS = {"X-Lectr-Feature": "search", "X-Lectr-Task": "extraction"}
COST_USD = (INPUT_TOKENS * 2.5 + OUTPUT_TOKENS * 10) / 1e6
"gpt-4o's list price."

ONLY_IN_TROUBLE = {"lectr.breaker.state", "lectr.export.age", "lectr.limit.used"}
"Metrics that are not there while all is well and no org has limits."
OF_SOME_ANSWERS = {"gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.reasoning.output_tokens"}
"What these answers do not report."


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


over_both = pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"], indirect=True)
"That all else is sent alike, tests/edge/test_telemetry_otlp.py says, without a gateway for each."


@pytest.fixture
def protocol(request: pytest.FixtureRequest) -> str:
    protocol: str = getattr(request, "param", "http/protobuf")
    return protocol


@pytest.fixture
def back_end(running: Receiver, protocol: str, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """An empty receiver, to which gateways started from now on send soon."""
    running.clear()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint(protocol))
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "300")
    return running


@pytest.fixture
def observed(back_end: Receiver, launch: Launch, providers: Providers) -> Gateway:
    return launch(settings_for(providers))


@over_both
def test_a_call_is_one_span_with_what_it_used_and_cost(observed: Gateway, back_end: Receiver) -> None:
    for streaming in (False, True):
        back_end.clear()
        assert_is_one_span(observed, back_end, new_id(), streaming=streaming)


def assert_is_one_span(observed: Gateway, back_end: Receiver, call_id: str, *, streaming: bool) -> None:
    before = time.time_ns()
    body = asking(stream=True, stream_options={"include_usage": True}) if streaming else asking()
    context = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    assert call(observed, headers={**JSON, **LABELS, **context}, body=body, call_id=call_id).status_code == 200
    record = observed.record(call_id)
    (span,) = back_end.spans()

    assert (span["name"], span["kind"]) == ("chat gpt-4o", "SPAN_KIND_CLIENT")
    assert base64.b64decode(span["trace_id"]).hex() == TRACE
    assert base64.b64decode(span["parent_span_id"]).hex() == SPAN
    assert "code" not in span.get("status", {})
    start, end = int(span["start_time_unix_nano"]), int(span["end_time_unix_nano"])
    assert (start, end) == (record["started_ns"], record["started_ns"] + round(record["duration_ms"] * 1e6))
    assert before <= start <= end <= time.time_ns()
    attributes = span["attributes"]
    cost = [attributes.pop(name) for name in ("gen_ai.usage.cost", "lectr.cost.input_usd", "lectr.cost.output_usd")]
    assert cost == pytest.approx([COST_USD, INPUT_TOKENS * 2.5e-6, OUTPUT_TOKENS * 1e-5])
    assert (
        attributes.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.usage.input_tokens": INPUT_TOKENS,
            "gen_ai.usage.output_tokens": OUTPUT_TOKENS,
            "http.response.status_code": 200,
            "url.path": CHAT,
            "lectr.org": ORG,
            "lectr.feature": "search",
            "lectr.task": "extraction",
            "lectr.call_id": record["call_id"],
            "lectr.request_id": call_id,
            "lectr.provider": "openai",
            "lectr.provider_source": record["provider_source"],
            "lectr.provider_unknown": False,
            "lectr.streaming": streaming,
            "lectr.token_source": "provider",
            "lectr.pricing_status": "priced",
            "lectr.cost.source": "local",
            "lectr.attempts": 1,
        }.items()
    )
    assert attributes["lectr.ttft_ms"] == record["first_byte_ms"]
    assert ("gen_ai.response.time_to_first_chunk" in attributes) == streaming
    assert {*honeycomb.TOKEN_COLUMNS.values()} - OF_SOME_ANSWERS <= attributes.keys()


def test_each_attempt_is_a_span_below_that_of_its_call(
    back_end: Receiver, launch: Launch, providers: Providers, call_id: str, tmp_path: Path
) -> None:
    gateway = launch(failing_over(providers, tmp_path))
    providers["openai"].answer_with(refusal(503))
    assert call(gateway, body=asking("any"), call_id=call_id).status_code == 200
    spans = {span["name"]: span for span in back_end.spans(3)}
    assert spans.keys() == {"chat claude-sonnet-4-6", "attempt 1", "attempt 2"}
    whole, first, second = (spans[name] for name in ("chat claude-sonnet-4-6", "attempt 1", "attempt 2"))
    assert whole["attributes"]["lectr.attempts"] == 2
    assert first["parent_span_id"] == second["parent_span_id"] == whole["span_id"]
    assert [each["attributes"]["lectr.provider"] for each in (first, second)] == ["openai", "anthropic"]
    assert first["status"] == {"code": "STATUS_CODE_ERROR"}
    assert "code" not in second.get("status", {})
    times = [int(each[f"{end}_time_unix_nano"]) for each in (first, second) for end in ("start", "end")]
    assert times == sorted(times)


def test_the_metrics_add_up_to_what_calls_cost(observed: Gateway, back_end: Receiver) -> None:
    for _ in range(3):
        assert call(observed, headers={**JSON, **LABELS}).status_code == 200
    back_end.spans(3)

    def total(metric: str, field: str) -> float:
        return sum(float(point[field]) for _, point in back_end.points(metric))

    observed.stop()  # the last export is made when it ends
    assert total("lectr.llm.requests", "as_int") == 3
    assert total("lectr.llm.cost", "as_double") == pytest.approx(3 * COST_USD)
    ((labels, _),) = back_end.points("lectr.llm.requests")
    assert labels.keys() == measures.LABELS[measures.REQUESTS] - {"error.type"}
    ((labels, _),) = back_end.points("lectr.llm.cost")
    assert labels.keys() == measures.LABELS[measures.COST]
    tokens = {labels["gen_ai.token.type"]: int(p["as_int"]) for labels, p in back_end.points("lectr.llm.tokens")}
    assert (tokens["input"], tokens["output"]) == (3 * INPUT_TOKENS, 3 * OUTPUT_TOKENS)
    ((labels, duration),) = back_end.points("gen_ai.client.operation.duration")
    assert (int(duration["count"]), labels["server.address"]) == (3, "127.0.0.1")
    assert labels.keys() == measures.LABELS[measures.DURATION] - {"error.type"}
    asked = {measure.metric for view in VIEWS for panel in view.panels for measure in panel.measures}
    asked -= ONLY_IN_TROUBLE | {measures.FIRST_CHUNK}
    assert {name: METRICS[name][0] for name in asked}.items() <= back_end.units().items(), "what dashboards show"


def test_a_failure_is_a_span_and_a_bad_key_is_only_a_count(
    observed: Gateway, back_end: Receiver, providers: Providers, call_id: str
) -> None:
    providers["openai"].answer_with(error("openai", 429))
    assert call(observed, call_id=call_id).status_code == 429
    bad = new_id()
    assert call(observed, headers={**JSON, "X-Lectr-Key": secret("lc_key_")}, call_id=bad).status_code == 401
    assert call(observed, "/v1/models", method="GET", headers=KEYS, call_id=new_id()).status_code in {200, 404}
    observed.record(bad)
    (span,) = back_end.spans()
    observed.stop()
    assert [s["attributes"]["lectr.request_id"] for s in back_end.spans()] == [call_id]
    assert span["status"] == {"code": "STATUS_CODE_ERROR"}
    said = {name: span["attributes"].get(name) for name in ("error.type", "lectr.error.category", "lectr.error.source")}
    assert said == {
        "error.type": "rate_limit_exceeded",
        "lectr.error.category": "rate_limit",
        "lectr.error.source": "provider",
    }
    errors = {labels.get("error.type") for labels, _ in back_end.points("lectr.llm.requests")}
    assert {"rate_limit_exceeded", "invalid_lectr_key"} <= errors


@over_both
def test_no_key_and_no_prompt_is_in_any_byte_that_leaves(observed: Gateway, back_end: Receiver) -> None:
    misplaced = secret("sk-proj-")
    query = f"{CHAT}?key={secret('AIza')}"
    headers = {**JSON, "X-Lectr-Feature": misplaced, "X-Lectr-Task": misplaced}
    call(observed, query, headers=headers, body=asking(user=f"mail@{HUSH}"))
    call(observed, query, headers=headers, body=asking(misplaced))
    back_end.spans(2)
    observed.stop()
    back_end.points("lectr.llm.requests")
    sent = b"".join(base64.b64decode(request["body"]) for request in back_end.requests())
    assert b"chat" in sent
    assert HUSH.encode() not in sent


@over_both
def test_a_back_end_that_is_down_harms_no_call_and_does_not_hold_the_process(
    protocol: str, launch: Launch, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    gateway = launch(settings_for(providers))
    assert all(works(gateway) for _ in range(20))
    health = gateway.healthz()
    assert health.status_code == 200
    assert json.loads(health.text)["telemetry"]["spans"] == "on"
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < STOP_WITHIN_S


def test_the_calls_of_every_test_are_exported_to_where_keys_and_prompts_are_looked_for(
    gateway: Gateway, exported: list[str], call_id: str
) -> None:
    assert call(gateway, headers=JSON, body=asking(), call_id=call_id).status_code == 200
    wait_until(lambda: any(call_id in body for body in list(exported)), "an exported span")
