import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from lectr_extproc.catalog.dialects import ENDPOINTS
from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.record import OWN, CallRecord
from lectr_extproc.core.usage import Usage
from lectr_extproc.edge import attributes as names
from lectr_extproc.edge.metrics import METRICS
from tests.core.test_ledger import any_of
from tests.edge.finished import call

DOCS = Path(__file__).parents[2] / "docs/telemetry.md"

NO_WORK = {"anthropic.count_tokens", "bedrock.count_tokens", "models", "openai.input_tokens", "other"}


def test_a_span_says_everything_the_record_knows() -> None:
    assert names.of_span(call()) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.4205,
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.output_tokens": 300,
        "gen_ai.usage.cache_read.input_tokens": 1000,
        "gen_ai.usage.cache_creation.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 200,
        "gen_ai.usage.cost": 0.00475,
        "server.address": "api.openai.com",
        "server.port": 8443,
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "lectr.org": "acme",
        "lectr.feature": "search",
        "lectr.task": "Summarization",
        "lectr.call_id": "0123456789abcdef0123456789abcdef",
        "lectr.request_id": "b6a1d2e4-0000-4000-8000-000000000000",
        "lectr.provider": "openai",
        "lectr.provider_source": "exact",
        "lectr.provider_unknown": False,
        "lectr.provider_detected": "xai",
        "lectr.model_requested": "openai/gpt-4o",
        "lectr.dialect": "openai.chat",
        "lectr.streaming": True,
        "lectr.observed": "stream",
        "lectr.token_source": "provider",
        "lectr.service_tier": "default",
        "lectr.attempts": 2,
        "lectr.ttft_ms": 420.5,
        "lectr.provider_ttft_ms": 400.25,
        "lectr.gateway_ms": 0.75,
        "lectr.request_bytes": 2048,
        "lectr.response_bytes": 512,
        "lectr.notes": ("key_mismatch",),
        "lectr.pricing_status": "priced",
        "lectr.price.version": "2026-11-01",
        "lectr.cost.source": "local",
        "lectr.cost.currency": "USD",
        "lectr.cost.input_usd": 0.00025,
        "lectr.cost.output_usd": 0.003,
        "lectr.cost.cache_read_usd": 0.00125,
        "lectr.cost.cache_write_usd": 0.00025,
        "lectr.cost.extras_usd": 0.0,
    }


def test_what_is_not_known_is_absent_and_never_zero() -> None:
    bare = {field.name: None for field in dataclasses.fields(call()) if "None" in str(field.type)}
    said = names.of_span(call(**bare, notes=(), finish_reasons=(), token_source="none", streaming=False))
    assert said == {
        "url.path": "/v1/chat/completions",
        "lectr.call_id": "0123456789abcdef0123456789abcdef",
        "lectr.provider_unknown": False,
        "lectr.streaming": False,
        "lectr.token_source": "none",
    }


def test_a_call_without_a_price_has_a_reason_and_no_cost() -> None:
    said = names.of_span(call(cost=Cost("unavailable", "no price for this model")))
    assert said["lectr.pricing_status"] == "unavailable"
    assert said["lectr.pricing_reason"] == "no price for this model"
    assert not [name for name in said if "cost" in name]


def test_a_cost_the_provider_named_has_no_parts() -> None:
    said = names.of_span(call(cost=Cost("provider_reported", total=25 * 10**8)))
    assert {name: value for name, value in said.items() if "cost" in name} == {
        "gen_ai.usage.cost": 0.0025,
        "lectr.cost.source": "provider",
        "lectr.cost.currency": "USD",
    }


def test_what_is_really_free_costs_nothing() -> None:
    assert names.of_span(call(cost=Cost("free", amounts=(0,) * 16, total=0)))["gen_ai.usage.cost"] == 0.0


def test_a_count_of_zero_is_said() -> None:
    assert names.of_span(call(usage=Usage(output_tokens=0)))["gen_ai.usage.output_tokens"] == 0


def test_money_is_a_number_and_the_nearest_one() -> None:
    assert names.of_span(call(cost=Cost("priced", total=1)))["gen_ai.usage.cost"] == 1e-12
    assert names.of_span(call(cost=Cost("priced", total=1_234_567_890_123)))["gen_ai.usage.cost"] == 1.234567890123


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "a caller who hung up": ({"error_category": "client_disconnect", "status": 0}, "cancelled"),
    "a caller who hung up in mid-answer": ({"error_category": "client_disconnect", "status": 200}, "cancelled"),
    "a provider's 429": ({"error_category": "rate_limit", "status": 429}, "429"),
    "a refusal of ours": ({"error_category": "quota", "status": 400, "error_code": "over_budget"}, "over_budget"),
    "a stream that was cut": ({"error_category": "stream_interrupted", "status": 200}, "stream_interrupted"),
    "a timeout in mid-answer": ({"error_category": "timeout", "status": 200}, "timeout"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_has_one_word(failure: str) -> None:
    changes, expected = FAILURES[failure]
    said = names.of_span(call(**changes, error_source="provider"))
    assert said["error.type"] == expected
    assert said["lectr.error.category"] == changes["error_category"]
    assert said["lectr.error.source"] == "provider"


@pytest.mark.parametrize("dialect", sorted({endpoint.dialect for endpoint in ENDPOINTS}))
def test_every_dialect_has_an_operation_or_is_no_work_of_a_model(dialect: str) -> None:
    assert [dialect in names.OPERATIONS, dialect in names.OPERATIONS_BY_METHOD, dialect in NO_WORK].count(True) == 1


METHODS = {
    "/v1beta/models/gemini-3-pro:generateContent": "generate_content",
    "/v1beta/models/gemini-3-pro:streamGenerateContent": "generate_content",
    "/v1beta/models/gemini-embedding:embedContent": "embeddings",
    "/v1beta/models/gemini-3-pro:countTokens": None,
    "/api/chat": "chat",
    "/api/generate": "text_completion",
    "/api/embed": "embeddings",
    "/api/tags": None,
    "/api/": None,
}


@pytest.mark.parametrize("path", METHODS)
def test_where_the_path_says_what_is_done_it_is_believed(path: str) -> None:
    dialect = "ollama" if path.startswith("/api") else "gemini.generate"
    assert names.operation(call(dialect=dialect, path=path)) == METHODS[path]


def test_the_conventions_spell_some_providers_otherwise() -> None:
    said = names.of_span(call(provider="xai"))
    assert (said["gen_ai.provider.name"], said["lectr.provider"]) == ("x_ai", "xai")
    assert names.of_span(call(provider="cerebras"))["gen_ai.provider.name"] == "cerebras"


ADDRESSES: dict[str, tuple[str, int | None]] = {
    "api.openai.com": ("api.openai.com", None),
    "localhost:8080": ("localhost", 8080),
    "[::1]:11434": ("::1", 11434),
    "[::1]": ("::1", None),
    "::1": ("::1", None),
    "localhost:8²": ("localhost:8²", None),
}


@pytest.mark.parametrize("host", ADDRESSES)
def test_an_address_and_its_port_are_told_apart(host: str) -> None:
    said = names.of_span(call(host=host))
    assert (said["server.address"], said.get("server.port")) == ADDRESSES[host]


TEMPLATES = {
    "/openai/deployments/my-gpt/chat/completions": "/openai/deployments/{model}/chat/completions",
    "/v1beta/models/gemini-3-pro:generateContent": "/v1beta/models/{model}:generateContent",
    "/model/anthropic.claude-v1%3A0/converse": "/model/{model}/converse",
    "/v1/messages": "/v1/messages",
}


@pytest.mark.parametrize("path", TEMPLATES)
def test_a_path_is_told_without_the_model_in_it(path: str) -> None:
    assert names.of_span(call(path=path))["url.path"] == TEMPLATES[path]


SECRETS = [
    "sk-proj-0123456789abcdef0123",
    "sk-ant-api03-0123456789abcdef",
    "gsk_0123456789abcdef0123",
    "xai-" + "a" * 30,
]
SECRETS += ["AIzaSy0123456789abcdef0123", "lc_key_0123456789abcdef0123"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_key_that_stands_where_a_name_belongs_never_leaves(secret: str) -> None:
    texts = [f.name for f in dataclasses.fields(call()) if "str" in str(f.type) and "tuple" not in str(f.type)]
    said = names.of_span(
        call(
            **dict.fromkeys(texts, f"x {secret}") | {"dialect": "openai.chat"},
            finish_reasons=(secret,),
            notes=(secret,),
        )
    )
    assert secret[:12] not in repr(said)


def test_a_long_text_is_cut() -> None:
    said = names.of_span(call(response_id="x" * 1000, finish_reasons=("y" * 1000,)))
    assert said["gen_ai.response.id"] == "x" * 256
    assert said["gen_ai.response.finish_reasons"] == ("y" * 256,)


def test_the_page_about_telemetry_names_every_attribute_and_no_other() -> None:
    attributes, attempts, metrics = re.findall(r"<!-- names -->\n(.*?)<!-- end -->", DOCS.read_text(), re.DOTALL)
    assert re.findall(r"^\| `([\w.]+)`", attributes, re.MULTILINE) == list(names.SPAN)
    assert re.findall(r"^\| `([\w.]+)`", attempts, re.MULTILINE) == sorted({*names.ATTEMPT, *names.LAST})
    assert re.findall(r"^\| `([\w.]+)`", metrics, re.MULTILINE) == list(METRICS)


@given(any_of(CallRecord), any_of(CallRecord))
def test_what_calls_share_is_made_once_and_nothing_else_of_them(first: CallRecord, other: CallRecord) -> None:
    own = {name: getattr(other, name) for name in OWN}
    second = dataclasses.replace(first, **own)
    cost = second.cost and second.cost._replace(total=1, amounts=(1,))
    calls = [first, second, dataclasses.replace(second, cost=cost), other]
    together = [names.of_span(one) for one in calls]
    for one, said in zip(calls, together, strict=True):
        names._known.clear()
        assert names.of_span(one) == said


def test_the_kinds_of_calls_that_are_remembered_are_bounded() -> None:
    for number in range(names._KINDS + 10):
        assert names.of_span(call(path=f"/v1/{number}"))["url.path"] == f"/v1/{number}"
    assert len(names._known) <= names._KINDS
