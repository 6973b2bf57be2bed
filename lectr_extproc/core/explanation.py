"""One finished call as the console shows it: its figures, why it went where it went, and where its time went.

All of it is from the call's record and the failed attempts that belong to it; what they do not say is not made up.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.usage import Usage
from lectr_extproc.core.views import money

_SOURCES: Mapping[str, str] = {
    "header": "{provider}, because the client said so (X-Lectr-Provider)",
    "path": "{provider}, because the path is of its API",
    "registry": "{provider}, because {model} is registered as a model of it in lectr.yaml",
    "exact": "{provider}, because {model} is a model of it",
    "prefix": "{provider}, because of how the name {model} begins",
    "rule": "{provider}, because a rule of the org says so",
    "chosen": "{provider}, because the gateway chose {sent}",
    "credential": "{provider}, because of the form of the client's key",
    "default": "{provider}, because nothing said which provider",
}
_NOTES: Mapping[str, str] = {
    "provider_header_invalid": "X-Lectr-Provider names no provider, and was not heeded",
    "credential_of_another_provider": "the client's key has the form of another provider's",
    "aws_signature_removed": "the client's AWS signature was taken off: it holds for the client's own address alone",
    "answered_by_gateway": "the gateway answered it itself",
    "rule_without_credential": "the rule could not be followed: there is no key for where it leads",
    "rule_without_api": "the rule could not be followed: where it leads there is no such API",
    "rule_without_address": "the rule could not be followed: where it leads there is no address",
    "no_candidate": "no model could answer it as it was asked",
    "over_limit": "a limit was used up, and it got a cheaper tier than it asked for",
}
_KEYS: Mapping[str, str] = {
    "client": "it went with the client's own key",
    "gateway": "it went with a key that the gateway holds",
    "none": "it went without a key",
}
_READERS: Mapping[str, str] = {
    "native": "Envoy read its tokens",
    "stream": "lectr read its tokens as it passed",
}


def why(record: CallRecord) -> Iterator[str]:
    """What was decided of a call and for which reason: sentences, in the order in which it was decided."""
    if record.rule:
        yield f"rule {record.rule!r} is for it, and says: {record.rule_arm or 'nothing of it is changed'}"
    if record.auto_tier:
        signals = _counts(record.auto_signals) or {}
        strong = sorted((-points, name) for name, points in signals.items() if points)
        of = f" ({', '.join(f'{name} {-points}' for points, name in strong)})" if strong else ""
        yield f"auto gave the conversation {record.auto_score} of 100 points{of}, which makes it {record.auto_tier}"
    if record.candidates is not None:
        tier = f" of the tier {record.tier}" if record.tier else ""
        yield f"{record.candidates} {'model' if record.candidates == 1 else 'models'}{tier} could answer it"
    if others := _counts(record.dropped):
        yield f"{sum(others.values())} could not: {', '.join(f'{count} {reason}' for reason, count in others.items())}"
    if record.provider and (source := _SOURCES.get(record.provider_source or "")):
        yield source.format(
            provider=record.provider, model=record.model_requested or "the model", sent=record.model_sent or "a model"
        )
    if record.provider_unknown:
        belongs = f"it belongs to {record.provider_detected}, which has no address here"
        yield belongs if record.provider_detected else "nobody here knows the model"
    if record.model_sent and record.model_requested and record.model_sent != record.model_requested:
        yield f"{record.model_requested} was asked for, and {record.model_sent} was sent"
    for place, one in enumerate((record.tries or ())[:-1]):
        became = one.why or (f"it answered {one.status}" if one.status else "it did not answer")
        yield f"{one.provider}/{one.model} was tried {'next' if place else 'first'}: {became}"
    yield from (_NOTES.get(note, note) for note in record.notes)
    if record.provider and (key := _KEYS.get(record.credential or "")):
        yield key
    if reader := _READERS.get(record.observed or ""):
        yield reader
    if record.token_source == "estimated":  # noqa: S105 - tokens of text
        yield "nobody told its tokens: they are estimated from its bytes"
    if record.error_category:
        code = f" ({record.error_code})" if record.error_code else ""
        by = f", by the {record.error_source}" if record.error_source else ""
        yield f"it failed: {record.error_category}{code}{by}"


def _counts(text: str | None) -> dict[str, int] | None:
    """Numbers by name, as the decision wrote them; what is no such text says nothing."""
    try:
        found = orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return None
    return {str(name): int(n) for name, n in found.items() if isinstance(n, int)} if isinstance(found, dict) else None


def phases(record: CallRecord) -> list[dict[str, Any]]:
    """Where a call's time went, as far as it was measured: where a phase began is known by its end."""
    first, total = record.first_byte_ms, record.duration_ms
    sent = _before(first, record.provider_first_byte_ms)
    received = _before(sent, record.gateway_ms)
    spans = (
        ("receive", None if received is None else 0.0, received),
        ("gateway", received, sent),
        ("wait", sent, first),
        ("answer", first, total),
    )
    return [
        {"name": name, "from_ms": start, "to_ms": max(start, end)}
        for name, start, end in spans
        if start is not None and end is not None
    ]


def _before(end_ms: float | None, lasted_ms: float | None) -> float | None:
    return None if end_ms is None or lasted_ms is None else max(0.0, round(end_ms - lasted_ms, 3))


def call_as_json(seq: int, record: CallRecord, attempts: Sequence[Attempt] = ()) -> dict[str, Any]:
    """All of a call; what is not known is None."""
    usage, cost = record.usage or Usage(), record.cost
    at_ms = record.started_ns / 1e6
    return {
        "seq": seq,
        "at": record.started_ns // 10**6 / 1000,
        **{name: getattr(record, name) for name in _AS_IT_IS},
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": money(cost.total) if cost else None,
        "pricing_status": cost.status if cost else None,
        "pricing_reason": cost.reason if cost else None,
        "decision": {
            "why": list(why(record)),
            **{name: getattr(record, name) for name in _DECIDED},
            "auto": {
                "tier": record.auto_tier,
                "score": record.auto_score,
                "signals": _counts(record.auto_signals),
            }
            if record.auto_tier
            else None,
            "dropped": _counts(record.dropped),
            "notes": list(record.notes),
        },
        "timing": phases(record),
        "tries": [
            {
                "provider": one.provider,
                "model": one.model,
                "host": one.host,
                **_span(one.began_ms - at_ms, one.duration_ms),
                "status": one.status,
                "why": one.why,
                "wait_s": one.wait_s,
            }
            for one in record.tries or ()
        ],
        "failed_attempts": [
            {
                **_span((one.started_ns - record.started_ns) / 1e6, one.duration_ms),
                "address": one.address,
                "status": one.status,
                "flags": list(one.flags),
                "details": one.details,
            }
            for one in attempts
        ],
    }


def _span(start_ms: float, lasted_ms: float | None) -> dict[str, float | None]:
    """The clocks of Envoy and lectr may differ by some milliseconds: nothing begins before its call."""
    start = max(0.0, round(start_ms, 3))
    return {"from_ms": start, "to_ms": None if lasted_ms is None else round(start + lasted_ms, 3)}


_AS_IT_IS = (
    "call_id",
    "org",
    "feature",
    "task",
    "provider",
    "model_requested",
    "model_sent",
    "model_answered",
    "method",
    "path",
    "dialect",
    "streaming",
    "status",
    "error_category",
    "error_source",
    "error_code",
    "token_source",
    "duration_ms",
    "first_byte_ms",
)
_DECIDED = ("provider_source", "rule", "rule_arm", "tier", "candidates", "credential", "observed")
