"""A finished call as a span, and each attempt at it as one below that.

Everything in a span follows from the record, its ids too: exported twice it is the same span.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.core.tries import Try
from lectr_extproc.edge import attributes as names
from lectr_extproc.edge.metrics import SCOPE_NAME, SCOPE_VERSION

LlmSpans = Literal["always", "follow_parent", "off"]
"Whether a parent that was not sampled takes its call with it. `always`: every paid call is to be seen."

_ERROR = trace.Status(trace.StatusCode.ERROR)
_UNSET = trace.Status(trace.StatusCode.UNSET)
_SAMPLED = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_NO_PARENT = Context()
_W3C = TraceContextTextMapPropagator()


def asks_a_model(record: CallRecord) -> bool:
    """These have a span. A call nobody vouches for has none: a flood of bad keys is a count, not a bill."""
    return record.org is not None and names.operation(record) is not None


def ended_ns(record: CallRecord | Attempt) -> int:
    """When it was over, by Envoy's clock."""
    return record.started_ns + round((record.duration_ms or 0) * 1e6)


def failures_among(record: CallRecord) -> int:
    """How many attempts at a call failed: all, or all but the last."""
    return (record.attempts or 0) - (record.status is not None and record.status < 400)


class Spans:
    """Records to finished spans."""

    def __init__(self, resource: Resource, llm_spans: LlmSpans = "always") -> None:
        # Never a tracer of its own: the provider knows the sampler that OTEL_* asks for.
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._resource = resource
        self._follows = llm_spans == "follow_parent"
        self._scope = InstrumentationScope(SCOPE_NAME, SCOPE_VERSION)
        limit = SpanLimits().max_span_attribute_length
        self._value_limit = names.VALUE_LIMIT if limit is None else limit

    def of(self, record: CallRecord, failed: Sequence[Attempt] = ()) -> list[ReadableSpan]:
        """The call's span, and those of its attempts if there was more than one; none if they are not sampled."""
        context = _W3C.extract({"traceparent": record.traceparent}, _NO_PARENT) if record.traceparent else _NO_PARENT
        parent = trace.get_current_span(context).get_span_context() if context else None
        trace_id = parent.trace_id if parent else _trace_id(record.call_id)
        attributes = names.of_span(record, self._value_limit)
        name = f"{attributes[names.OPERATION]} {attributes.get(names.REQUEST_MODEL, '')}".rstrip()
        verdict = self._sampler.should_sample(
            context if self._follows else _NO_PARENT, trace_id, name, trace.SpanKind.CLIENT, attributes
        )
        if verdict.decision is not Decision.RECORD_AND_SAMPLE:
            return []
        has_failed = record.error_category is not None
        times = record.started_ns, ended_ns(record)
        span = self._span(name, _context(trace_id, record.call_id), parent, attributes, times, has_failed=has_failed)
        return [span, *self._attempts(record, failed, span.context)]

    def _attempts(
        self, record: CallRecord, failed: Sequence[Attempt], parent: trace.SpanContext
    ) -> Iterator[ReadableSpan]:
        count = record.attempts or 0
        if count < 2:
            return
        if record.tries:
            asked = zip_longest(record.tries, failed[: failures_among(record)])
            tries = [(n, *_times(t), names.of_try(t, a)) for n, (t, a) in enumerate(asked, 1) if t is not None]
        else:
            tries = [(n, a.started_ns, ended_ns(a), names.of_attempt(a)) for n, a in enumerate(failed[:count], 1)]
        # A stream that broke off has an entry of its own beside the call's, though it began well.
        if len(tries) < count and failures_among(record) < count:
            began_ns = _last_began_ns(record, tries[-1][2] if tries else 0)
            tries.append((count, began_ns, ended_ns(record), names.of_last(record)))
        for number, start, end, attributes in tries:
            context = _context(parent.trace_id, f"{record.call_id}/{number}")
            has_failed = names.ERROR_TYPE in attributes
            yield self._span(f"attempt {number}", context, parent, attributes, (start, end), has_failed=has_failed)

    def _span(
        self,
        name: str,
        context: trace.SpanContext,
        parent: trace.SpanContext | None,
        attributes: dict[str, names.Value],
        times: tuple[int, int],
        *,
        has_failed: bool,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=trace.SpanKind.CLIENT,
            status=_ERROR if has_failed else _UNSET,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=self._scope,
        )


def _times(one: Try) -> tuple[int, int]:
    began_ns = one.began_ms * 1_000_000
    return began_ns, began_ns + round((one.duration_ms or 0) * 1e6)


def _last_began_ns(record: CallRecord, failure_ended_ns: int) -> int:
    """When the attempt began that the call's own entry tells of: its first byte, less what the provider took for it."""
    offset_ms = (record.first_byte_ms or 0) - (record.provider_first_byte_ms or 0)
    return min(max(failure_ended_ns, record.started_ns + round(offset_ms * 1e6)), ended_ns(record))


def _context(trace_id: int, seed: str) -> trace.SpanContext:
    """Zero would be no span id."""
    span_id = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) or 1
    return trace.SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)


def _trace_id(call_id: str) -> int:
    """The call id itself, which is 128 bits in hex; one of an older lectr, or by another hand, is made to fit."""
    try:
        number = int(call_id, 16)
    except ValueError:
        number = 0
    return number if 0 < number < 2**128 else int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:16])
