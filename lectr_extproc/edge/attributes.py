"""What a span says about a call: every attribute by its name, and how it is read from the record.

Names follow the GenAI semantic conventions v1.41, which Python's own package lacks; what they do not have is under
`lectr.`. A name that is not in SPAN cannot leave the process, and docs/telemetry.md explains each one.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from lectr_extproc.core.pricing import PICO, Cost
from lectr_extproc.core.record import Attempt, CallRecord, shared_of
from lectr_extproc.core.tries import Try
from lectr_extproc.core.usage import NO_USAGE, Usage
from lectr_extproc.edge.logs import without_keys

Value = str | bool | int | float | tuple[str, ...]
Reading = Callable[[CallRecord, Usage, Cost], Value | None]

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 (no password)
ERROR_TYPE = "error.type"
STATUS_CODE = "http.response.status_code"
SERVER_ADDRESS, SERVER_PORT = "server.address", "server.port"
ORG = "lectr.org"
FEATURE = "lectr.feature"
TASK = "lectr.task"
PRICING_STATUS = "lectr.pricing_status"

OPERATIONS: Mapping[str, str] = {
    "openai.chat": "chat",
    "openai.responses": "chat",
    "openai.completions": "text_completion",
    "openai.embeddings": "embeddings",
    "openai.images": "generate_content",
    "openai.audio": "generate_content",
    "anthropic.messages": "chat",
    "bedrock.converse": "chat",
    "bedrock.invoke": "chat",
    "cohere.chat": "chat",
    "cohere.embed": "embeddings",
    "cohere.rerank": "rerank",
    "mistral.ocr": "generate_content",
}
"What a dialect does. `rerank` is a word of ours: the conventions have none."

OPERATIONS_BY_METHOD: Mapping[str, Mapping[str, str]] = {
    "gemini.generate": {
        "generateContent": "generate_content",
        "streamGenerateContent": "generate_content",
        "embedContent": "embeddings",
        "batchEmbedContents": "embeddings",
        "predict": "generate_content",
        "predictLongRunning": "generate_content",
    },
    "ollama": {"chat": "chat", "generate": "text_completion", "embed": "embeddings", "embeddings": "embeddings"},
}
"Dialects whose path ends in the word that says what is done; every other word is no work of a model."

PROVIDER_NAMES: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"Where the conventions spell a provider otherwise than we do."

VALUE_LIMIT = 256
NO_COST = Cost("unavailable")

_MODEL_IN_PATH = re.compile(r"/(deployments|models|tunedModels|model)/[^/:]+")
_LAST_WORD = re.compile(r"\w*$")


def operation(record: CallRecord) -> str | None:
    """What the model was asked to do; None for a call that asked none: a list of models, a count of tokens."""
    dialect = record.dialect or ""
    methods = OPERATIONS_BY_METHOD.get(dialect)
    if methods is None:
        return OPERATIONS.get(dialect)
    last = _LAST_WORD.search(record.path)
    return methods.get(last[0]) if last else None


def provider_name(record: CallRecord) -> str | None:
    """As the conventions spell it."""
    return PROVIDER_NAMES.get(record.provider or "", record.provider)


def error_type(record: CallRecord) -> str | None:
    """One word for a failure, from a small set, never a message: a code, the status, else what happened."""
    if record.error_category is None:
        return None
    if record.error_category == "client_disconnect":
        return "cancelled"
    if record.error_code:
        return record.error_code
    return str(record.status) if (record.status or 0) >= 400 else record.error_category


@lru_cache(4096)
def clean(text: str) -> str:
    """A text as it may leave: cut, and without a key that a client put where a name belongs."""
    return without_keys(text)[:VALUE_LIMIT]


@lru_cache(1024)
def path_template(path: str) -> str:
    """A path without what differs from call to call."""
    return clean(_MODEL_IN_PATH.sub(r"/\1/{model}", path))


@lru_cache(256)
def address(host: str) -> tuple[str, int | None]:
    """A provider's host and, where it was told, its port."""
    name, _, port = host.rpartition(":")
    if name and port.isdecimal() and len(port) <= 5 and (":" not in name or name.endswith("]")):
        return name.strip("[]"), int(port)
    return host.strip("[]"), None


def _usd(pico: int | None) -> float | None:
    return None if pico is None else pico / PICO


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


SPAN: Mapping[str, Reading] = {
    OPERATION: lambda r, _u, _c: operation(r),
    PROVIDER: lambda r, _u, _c: provider_name(r),
    REQUEST_MODEL: lambda r, _u, _c: r.model_sent,
    RESPONSE_MODEL: lambda r, _u, _c: r.model_answered,
    "gen_ai.response.id": lambda r, _u, _c: r.response_id,
    "gen_ai.response.finish_reasons": lambda r, _u, _c: r.finish_reasons or None,
    "gen_ai.request.stream": lambda r, _u, _c: r.streaming or None,
    "gen_ai.response.time_to_first_chunk": lambda r, _u, _c: _seconds(r.first_byte_ms) if r.streaming else None,
    "gen_ai.usage.input_tokens": lambda _r, u, _c: u.input_tokens,
    "gen_ai.usage.output_tokens": lambda _r, u, _c: u.output_tokens,
    "gen_ai.usage.cache_read.input_tokens": lambda _r, u, _c: u.cache_read_tokens,
    "gen_ai.usage.cache_creation.input_tokens": lambda _r, u, _c: u.cache_write_tokens,
    "gen_ai.usage.reasoning.output_tokens": lambda _r, u, _c: u.reasoning_tokens,
    # Langfuse takes every other number under gen_ai.usage for a unit of usage: the breakdown stands elsewhere.
    "gen_ai.usage.cost": lambda _r, _u, c: _usd(c.total),
    SERVER_ADDRESS: lambda r, _u, _c: address(r.host)[0] if r.host else None,
    SERVER_PORT: lambda r, _u, _c: address(r.host)[1] if r.host else None,
    ERROR_TYPE: lambda r, _u, _c: error_type(r),
    STATUS_CODE: lambda r, _u, _c: r.status or None,
    "url.path": lambda r, _u, _c: path_template(r.path),
    ORG: lambda r, _u, _c: r.org,
    FEATURE: lambda r, _u, _c: r.feature,
    TASK: lambda r, _u, _c: r.task,
    "lectr.call_id": lambda r, _u, _c: r.call_id,
    "lectr.request_id": lambda r, _u, _c: r.request_id,
    "lectr.provider": lambda r, _u, _c: r.provider,
    "lectr.provider_source": lambda r, _u, _c: r.provider_source,
    "lectr.provider_unknown": lambda r, _u, _c: r.provider_unknown,
    "lectr.provider_detected": lambda r, _u, _c: r.provider_detected,
    "lectr.model_requested": lambda r, _u, _c: r.model_requested if r.model_requested != r.model_sent else None,
    "lectr.rule": lambda r, _u, _c: r.rule,
    "lectr.rule_arm": lambda r, _u, _c: r.rule_arm,
    "lectr.tier": lambda r, _u, _c: r.tier,
    "lectr.auto.tier": lambda r, _u, _c: r.auto_tier,
    "lectr.auto.score": lambda r, _u, _c: r.auto_score,
    "lectr.candidates": lambda r, _u, _c: r.candidates,
    "lectr.credential": lambda r, _u, _c: r.credential,
    "lectr.dialect": lambda r, _u, _c: r.dialect,
    "lectr.streaming": lambda r, _u, _c: r.streaming,
    "lectr.observed": lambda r, _u, _c: r.observed,
    "lectr.token_source": lambda r, _u, _c: r.token_source,
    "lectr.service_tier": lambda r, _u, _c: r.service_tier,
    "lectr.attempts": lambda r, _u, _c: r.attempts,
    "lectr.ttft_ms": lambda r, _u, _c: r.first_byte_ms,
    "lectr.provider_ttft_ms": lambda r, _u, _c: r.provider_first_byte_ms,
    "lectr.gateway_ms": lambda r, _u, _c: r.gateway_ms,
    "lectr.request_bytes": lambda r, _u, _c: r.request_bytes,
    "lectr.response_bytes": lambda r, _u, _c: r.response_bytes,
    "lectr.error.category": lambda r, _u, _c: r.error_category,
    "lectr.error.source": lambda r, _u, _c: r.error_source,
    "lectr.notes": lambda r, _u, _c: r.notes or None,
    PRICING_STATUS: lambda r, _u, c: c.status if r.cost else None,
    "lectr.pricing_reason": lambda r, _u, c: c.reason if r.cost else None,
    "lectr.price.version": lambda _r, _u, c: c.row.version if c.row else None,
    "lectr.cost.source": lambda _r, _u, c: c.source,
    "lectr.cost.currency": lambda _r, _u, c: None if c.total is None else "USD",
    "lectr.cost.input_usd": lambda _r, _u, c: _usd(c.input),
    "lectr.cost.output_usd": lambda _r, _u, c: _usd(c.output),
    "lectr.cost.cache_read_usd": lambda _r, _u, c: _usd(c.cache_read),
    "lectr.cost.cache_write_usd": lambda _r, _u, c: _usd(c.cache_write),
    "lectr.cost.extras_usd": lambda _r, _u, c: _usd(c.extras),
}
"What leaves. The parts of a cost are there only where the arithmetic is ours."


ATTEMPT: Mapping[str, Callable[[Attempt], Value | None]] = {
    ERROR_TYPE: lambda a: str(a.status) if (a.status or 0) >= 400 else next(iter(a.flags), "error"),
    STATUS_CODE: lambda a: a.status,
    "network.peer.address": lambda a: address(a.address)[0] or None,
    "network.peer.port": lambda a: address(a.address)[1],
}
"What leaves about an attempt that failed."

LAST = (SERVER_ADDRESS, SERVER_PORT, ERROR_TYPE, STATUS_CODE)
"What leaves about the attempt that the call's own entry tells of."


def of_attempt(attempt: Attempt) -> dict[str, Value]:
    """The attributes of the span of an attempt that failed."""
    return {name: value for name, read in ATTEMPT.items() if (value := read(attempt)) is not None}


def of_try(one: Try, failed: Attempt | None) -> dict[str, Value]:
    """The attributes of the span of one of several candidates; `failed` is what Envoy says of it, if it failed."""
    values: dict[str, Value | None] = {
        "lectr.provider": one.provider,
        REQUEST_MODEL: clean(one.model),
        SERVER_ADDRESS: address(one.host)[0],
        SERVER_PORT: address(one.host)[1],
        STATUS_CODE: one.status,
        ERROR_TYPE: None if one.status and one.status < 400 else str(one.status or "error"),
        "lectr.error.category": one.why,
        **(of_attempt(failed) if failed else {}),
    }
    return {name: value for name, value in values.items() if value is not None}


def of_last(record: CallRecord) -> dict[str, Value]:
    """The attributes of the span of the attempt that answered."""
    values = {name: SPAN[name](record, NO_USAGE, NO_COST) for name in LAST}
    return {name: value for name, value in values.items() if value is not None}


_SHARED = frozenset(
    [
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.request.stream",
        "server.address",
        "server.port",
        "error.type",
        "http.response.status_code",
        "url.path",
        "lectr.org",
        "lectr.feature",
        "lectr.task",
        "lectr.provider",
        "lectr.provider_source",
        "lectr.provider_unknown",
        "lectr.provider_detected",
        "lectr.model_requested",
        "lectr.rule",
        "lectr.rule_arm",
        "lectr.tier",
        "lectr.auto.tier",
        "lectr.candidates",
        "lectr.credential",
        "lectr.dialect",
        "lectr.streaming",
        "lectr.observed",
        "lectr.token_source",
        "lectr.service_tier",
        "lectr.attempts",
        "lectr.error.category",
        "lectr.error.source",
        "lectr.notes",
        "lectr.pricing_status",
        "lectr.pricing_reason",
        "lectr.price.version",
    ]
)
"What follows from fields that many calls share (core/record.py), and from why a cost is what it is."
_OF_MANY, _OF_ONE = (
    {n: read for n, read in SPAN.items() if (n in _SHARED) is is_shared} for is_shared in (True, False)
)
_KINDS = 1024
_known: dict[object, dict[str, Value]] = {}


def of_span(record: CallRecord, limit: int = VALUE_LIMIT) -> dict[str, Value]:
    """The attributes of the span of one call; a text longer than the limit is cut."""
    cost = record.cost
    kind = limit, shared_of(record), cost and (cost.status, cost.reason, cost.row and cost.row.version)
    if (shared := _known.get(kind)) is None:
        if len(_known) >= _KINDS:  # clients choose some of these words
            _known.clear()
        shared = _known[kind] = _read(_OF_MANY, record, limit)
    return {**shared, **_read(_OF_ONE, record, limit)}


def _read(readings: Mapping[str, Reading], record: CallRecord, limit: int) -> dict[str, Value]:
    usage, cost = record.usage or NO_USAGE, record.cost or NO_COST
    attributes: dict[str, Value] = {}
    for name, read in readings.items():
        value = read(record, usage, cost)
        if value is None:
            continue
        if type(value) is str:
            value = clean(value)[:limit]
        elif type(value) is tuple:
            value = tuple(clean(text)[:limit] for text in value)
        attributes[name] = value
    return attributes
