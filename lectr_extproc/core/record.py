"""One access-log entry becomes one CallRecord: everything an entry lacks is absent, never an error.

A caller who hung up, a refused call and an answer cut in the middle go through the same function.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import field, fields
from operator import attrgetter
from typing import Literal

from lectr_extproc.core import tries
from lectr_extproc.core.answer import Answer
from lectr_extproc.core.estimate import TokenSource, settle
from lectr_extproc.core.facts import known_task, label
from lectr_extproc.core.native import NativeUsage, native_answer
from lectr_extproc.core.pricing import Cost, price_answer, remarked
from lectr_extproc.core.provider_error import ProviderError
from lectr_extproc.core.quick import quick_dataclass
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tries import Try
from lectr_extproc.core.usage import Usage
from lectr_extproc.core.watch import answer_from_metadata
from lectr_extproc.core.words import REQUEST_ID_LIMIT

ErrorSource = Literal["client", "gateway", "provider"]
GENERATES = frozenset(
    {
        "openai.chat",
        "openai.completions",
        "openai.responses",
        "anthropic.messages",
        "gemini.generate",
        "cohere.chat",
        "bedrock.converse",
        "bedrock.invoke",
        "ollama",
    }
)
"The dialects whose answers are generated text: there, usage that is missing can be estimated."

COUNTS_GROW = frozenset({"anthropic.messages", "gemini.generate"})
"Of these Envoy reads counts from a stream's first event on; the others count once, at its end."


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """What Envoy says about a finished call. Offsets are nanoseconds after `start_ns`."""

    start_ns: int
    duration_ns: int | None = None
    request_received_ns: int | None = None
    upstream_start_ns: int | None = None
    upstream_first_byte_ns: int | None = None
    first_byte_ns: int | None = None
    method: str = ""
    path: str = ""
    "Without its query; the provider's, once it was rewritten. Of a call whose decision has the client's: none."
    status: int | None = None
    flags: frozenset[str] = frozenset()
    "Envoy's response flags by their field names."
    details: str = ""
    route: str = ""
    cluster: str = ""
    attempts: int | None = None
    request_id: str = ""
    connection: str = ""
    "The client's address and port; only told apart, never kept, and not told of a call that has an id."
    request_bytes: int | None = None
    response_bytes: int | None = None
    decision: Mapping[str, object] = field(default_factory=dict)
    answer: Mapping[str, object] = field(default_factory=dict)
    "What lectr read of the answer (core/watch.py)."
    native: NativeUsage | None = None
    "What Envoy read of it."


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """The event of one call, as every reader of it sees it."""

    call_id: str
    started_ns: int
    duration_ms: float | None
    first_byte_ms: float | None
    "From the start of the call to the first byte of the answer."
    gateway_ms: float | None
    "From the whole request being here to its first byte leaving for the provider: what we, and a new connection, cost."
    provider_first_byte_ms: float | None
    org: str | None
    provider: str | None
    provider_source: str | None
    provider_unknown: bool
    provider_detected: str | None
    model_requested: str | None
    model_sent: str | None
    model_answered: str | None
    dialect: str | None
    method: str
    path: str
    streaming: bool
    status: int | None
    error_category: str | None
    error_source: ErrorSource | None
    error_code: str | None
    "Our own code, where the answer was ours; the provider's, where it said one."
    feature: str | None
    task: str | None
    task_known: str | None
    attempts: int | None
    request_bytes: int | None
    response_bytes: int | None
    request_id: str | None
    notes: tuple[str, ...]
    host: str | None = None
    "The provider's address, with its port where that is not the usual one."
    credential: str | None = None
    "Whose key went to the provider: the `client`'s own, the `gateway`'s, or `none`."
    observed: str | None = None
    "Who read the answer: `native` (Envoy), `stream` (lectr), or nobody."
    usage: Usage | None = None
    token_source: TokenSource = "none"  # noqa: S105 - tokens of text
    service_tier: str | None = None
    "The provider's word for it, from the answer."
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    cost: Cost | None = None
    traceparent: str | None = None
    "The span this call belongs under, as W3C trace context writes it."
    rule: str | None = None
    "The org's rule that this was a call for."
    rule_arm: str | None = None
    "What the rule said was to become of it; a note says where that could not be."
    tier: str | None = None
    "Of which the model was to be chosen."
    auto_tier: str | None = None
    auto_score: int | None = None
    auto_signals: str | None = None
    "What `auto` made of the conversation, and of what: JSON, as it is in the ledger."
    candidates: int | None = None
    "Between how many models was chosen; None where the client pinned one."
    dropped: str | None = None
    "Why how many others were no candidates: JSON, too."
    tries: tuple[Try, ...] | None = None
    "Who was asked, in order; None where there was one candidate."

    @property
    def outcome(self) -> str:
        """One word for a counter: `ok`, or what went wrong."""
        return self.error_category or "ok"


OWN = frozenset(
    {
        "call_id",
        "started_ns",
        "duration_ms",
        "first_byte_ms",
        "gateway_ms",
        "provider_first_byte_ms",
        "request_bytes",
        "response_bytes",
        "request_id",
        "response_id",
        "traceparent",
        "auto_score",
        "auto_signals",
        "usage",
        "cost",
        "tries",
    }
)
"""The fields of a record that differ from call to call. The values of the others are those of many calls, and what is
made of them is made once and kept."""


SHARED = tuple(field.name for field in fields(CallRecord) if field.name not in OWN)
shared_of = attrgetter(*SHARED)
"The values of those others, as one tuple."


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a call that failed. Envoy tells of it apart from the call, sooner or later than of the call."""

    request_id: str
    "The call's, by which the two are joined."
    started_ns: int
    duration_ms: float | None
    cluster: str
    address: str
    status: int | None
    "None where no answer came."
    flags: tuple[str, ...]
    details: str


def attempt_from(entry: LogEntry, address: str) -> Attempt | None:
    """The attempt an entry tells of, if it failed: what is to be said of one that went well is said of its call."""
    if entry.status is not None and entry.status < 400 and not entry.flags:
        return None
    return Attempt(
        request_id=label(entry.request_id, REQUEST_ID_LIMIT) or "",
        started_ns=entry.start_ns,
        duration_ms=_ms(entry.duration_ns),
        cluster=entry.cluster,
        address=address,
        status=entry.status,
        flags=tuple(sorted(entry.flags)),
        details=entry.details,
    )


# Envoy's response flags, by the field names of the access-log message.
_HUNG_UP = frozenset({"downstream_connection_termination", "downstream_remote_reset"})
_UNREACHABLE = frozenset(
    {
        "upstream_connection_failure",
        "no_healthy_upstream",
        "no_cluster_found",
        "upstream_overflow",
        "dns_resolution_failure",
    }
)
_TIMED_OUT = frozenset(
    {
        "upstream_request_timeout",
        "stream_idle_timeout",
        "duration_timeout",
        "upstream_max_stream_duration_reached",
    }
)
_CUT = frozenset({"upstream_connection_termination", "upstream_remote_reset", "local_reset", "upstream_protocol_error"})
_ENDED_EARLY = _HUNG_UP | _TIMED_OUT | _CUT

CODE_OF_ROUTE: Mapping[str, str] = {
    "lectr_missing_key": "missing_lectr_key",
    "lectr_missing_key_anthropic": "missing_lectr_key",
    "lectr_invalid_key": "invalid_lectr_key",
    "lectr_invalid_key_anthropic": "invalid_lectr_key",
}
"""Envoy turns a missing or ill-formed key away itself; the route it did so on is all its entry says."""

CATEGORY_OF_STATUS: Mapping[int, str] = {
    400: "invalid_request",
    401: "authentication",
    402: "quota",
    403: "permission",
    404: "not_found",
    408: "timeout",
    413: "request_too_large",
    422: "invalid_request",
    429: "rate_limit",
    498: "overloaded",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
"""What a status says happened. Any other from 400 is `invalid_request`, from 500 `server_error`."""


def record_from(entry: LogEntry, snapshot: Snapshot) -> CallRecord:
    """Build the record of one call from its one entry."""
    said = {key: text for key, text in entry.decision.items() if text and isinstance(text, str)}
    provider = said.get("provider")
    answer = _answer(entry, provider, snapshot)
    category, source, code = _failure(entry, answer.error)
    task = said.get("task")
    usage, token_source = _usage(entry, answer)
    return CallRecord(
        call_id=said.get("call_id") or _made_up_id(entry),
        started_ns=entry.start_ns,
        duration_ms=_ms(entry.duration_ns),
        first_byte_ms=_ms(entry.first_byte_ns),
        gateway_ms=_ms(_between(entry.request_received_ns, entry.upstream_start_ns)),
        provider_first_byte_ms=_ms(_between(entry.upstream_start_ns, entry.upstream_first_byte_ns)),
        org=said.get("org"),
        provider=provider,
        provider_source=said.get("source"),
        provider_unknown="unknown" in said,
        provider_detected=said.get("detected"),
        model_requested=said.get("requested"),
        model_sent=said.get("sent"),
        model_answered=answer.model_answered,
        dialect=said.get("dialect"),
        method=entry.method,
        path=said.get("path") or entry.path,
        streaming="stream" in said,
        status=entry.status,
        error_category=category,
        error_source=source,
        error_code=code,
        feature=said.get("feature"),
        task=task,
        task_known=known_task(task),
        attempts=entry.attempts,
        request_bytes=entry.request_bytes,
        response_bytes=entry.response_bytes,
        request_id=label(entry.request_id, REQUEST_ID_LIMIT),
        notes=tuple(filter(None, said["notes"].split(","))) if "notes" in said else (),
        host=said.get("host"),
        credential=said.get("credential"),
        observed=said.get("observe"),
        usage=usage,
        token_source=token_source,
        service_tier=answer.service_tier,
        response_id=answer.response_id,
        finish_reasons=answer.finish_reasons,
        cost=_cost(entry, answer, usage, provider, snapshot),
        traceparent=said.get("parent"),
        rule=said.get("rule"),
        rule_arm=said.get("rule_arm"),
        tier=said.get("tier"),
        auto_tier=said.get("auto_tier"),
        auto_score=_number(said.get("auto_score")),
        auto_signals=said.get("auto_signals"),
        candidates=_number(said.get("candidates")),
        dropped=said.get("dropped"),
        tries=_tries(entry) if "tries" in said else None,
    )


def _tries(entry: LogEntry) -> tuple[Try, ...]:
    ended_ms = (entry.start_ns + (entry.duration_ns or 0)) / 1e6
    # Envoy answers itself with errors alone, and to nobody who has hung up.
    is_theirs = entry.details == "via_upstream" or 200 <= (entry.status or 0) < 300 or entry.flags & _HUNG_UP
    answered = entry.status if is_theirs and not _is_unanswered(entry) else None
    return tries.with_durations(tries.from_text(entry.decision["tries"]), ended_ms, answered)


def _is_unanswered(entry: LogEntry) -> bool:
    """Whether Envoy answered itself, because the last candidate could not be asked (gateway/relay.py)."""
    return entry.decision.get("answered") == "none"


def _answer(entry: LogEntry, provider: str | None, snapshot: Snapshot) -> Answer:
    """What the answer said, by whoever read it; lectr's own reading has more in it than Envoy's."""
    if entry.answer:
        return answer_from_metadata(entry.answer)
    if entry.native is not None:
        return native_answer(entry.native, snapshot.kind_of(provider or ""), snapshot.observation.answers)
    return Answer()


def _usage(entry: LogEntry, answer: Answer) -> tuple[Usage | None, TokenSource]:
    """The provider's own counts; where it gave none although it answered, an estimate from what passed."""
    is_answered = 200 <= (entry.status or 0) < 300 and "routed" in entry.decision
    dialect = _text(entry.decision.get("dialect"))
    if not is_answered or dialect not in GENERATES:
        return answer.usage, "none" if answer.usage is None else "provider"
    if answer.usage is None and answer.is_complete and not answer.output_bytes:
        return None, "none"  # read to its end, and nothing was generated: Gemini's countTokens, or a queued response
    # Of an answer lectr did not read itself there are only the bytes on the wire, and a stream's are mostly framing.
    wire_bytes = None if "stream" in entry.decision else entry.response_bytes
    output_bytes = answer.output_bytes if entry.answer else wire_bytes
    usage, source = settle(answer.usage, prompt_bytes=entry.request_bytes, output_bytes=output_bytes)
    if source == "provider" and not entry.answer and dialect in COUNTS_GROW and entry.flags & _ENDED_EARLY:
        source = "estimated"  # what was counted by then, which is a lower bound
    return usage, source


def _cost(
    entry: LogEntry, answer: Answer, usage: Usage | None, provider: str | None, snapshot: Snapshot
) -> Cost | None:
    """What the call cost at the time it began; a call that reached no provider cost nothing and says nothing."""
    dialect = _text(entry.decision.get("dialect"))
    if "routed" not in entry.decision or dialect not in snapshot.observation.answers:
        return None
    cost = price_answer(
        answer,
        usage,
        snapshot.prices,
        entry.start_ns // 1_000_000_000,
        provider=provider,
        sent=_text(entry.decision.get("sent")),
        requested=_text(entry.decision.get("requested")),
    )
    if cost.status == "priced" and dialect in GENERATES and usage is not None and usage.output_tokens is None:
        cost = remarked(cost, "without the output, which nobody counted")
    if "tries" in entry.decision and any(each.status is None for each in _tries(entry)[:-1]):
        cost = remarked(cost, "without attempts that nobody answered, whatever they cost")
    return cost


def _failure(entry: LogEntry, said: ProviderError | None) -> tuple[str | None, ErrorSource | None, str | None]:
    """What went wrong, who answered so, and our own code where the answer was ours."""
    status = entry.status or 0
    is_routed = "routed" in entry.decision
    code = _text(entry.decision.get("refused")) or CODE_OF_ROUTE.get(entry.route)
    if code is not None:
        return category_of(status), "gateway", code
    reported = said.code or said.type if said else None
    if "broken" in entry.answer:  # whether the client hung up when it was told so, or a moment later
        return "stream_error" if said else "stream_interrupted", "provider", reported or "stream_interrupted"
    # Who has the whole answer, or the error in it, may hang up before Envoy hears that there is no more.
    if entry.flags & _HUNG_UP and "complete" not in entry.answer and said is None:
        return "client_disconnect", "client", None
    if entry.details == "request_payload_too_large":
        return "request_too_large", "gateway", "request_too_large"
    if entry.flags & _TIMED_OUT and status == 408 and entry.upstream_start_ns is None:
        return "timeout", "client", None  # its request never arrived whole
    if entry.flags & _TIMED_OUT:
        return "timeout", "provider", None if 200 <= status < 300 else "provider_timeout"
    if entry.flags & _UNREACHABLE or _is_unanswered(entry):
        if is_routed:
            return "unreachable", "provider", "provider_unreachable"
        return "gateway_unavailable", "gateway", "gateway_unavailable"
    if entry.flags & _CUT:
        if entry.details == "via_upstream" or 200 <= status < 300:
            return "stream_interrupted", "provider", None
        return "unreachable", "provider", "provider_unreachable"
    if status >= 400:
        was_theirs = entry.flags & _HUNG_UP and entry.upstream_start_ns is not None  # had not the client left
        is_theirs = was_theirs or entry.details == "via_upstream"
        return category_of(status), "provider" if is_theirs else "gateway", reported
    if said is not None:
        return "stream_error", "provider", reported
    return None, None, None


def category_of(status: int) -> str:
    return CATEGORY_OF_STATUS.get(status) or ("server_error" if status >= 500 else "invalid_request")


def _made_up_id(entry: LogEntry) -> str:
    """An entry that no decision reached (413, lectr down) is told apart by when, from where and as what it came."""
    seed = f"{entry.start_ns}|{entry.connection}|{entry.request_id}"
    return hashlib.sha256(seed.encode()).hexdigest()[:32]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def _between(start: int | None, end: int | None) -> int | None:
    return end - start if start is not None and end is not None and end >= start else None


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else round(nanoseconds / 1e6, 3)
