"""Watches one answer pass: what it says leaves as metadata as soon as it is known, so that a cut stream still tells.

Both directions of that metadata (namespace `lectr.usage`) are here. Keys: the counts of Usage by their names, and
  model id tier region error unreadable     text
  finish                                    reasons, joined by commas
  cost                                      what the provider says it charged, in USD, as decimal text
  helpers                                   other models that worked on the answer, as JSON
  complete "1"                              the dialect's own end was seen
  broken "1"                                the client was told that the answer broke off
  out                                       bytes of generated text, to estimate from
  total_tokens cost_micro_usd               sums for Envoy's rate limits and access logs; lectr itself reads neither
Readers tolerate missing and unknown keys.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

import orjson

from lectr_extproc.core.answer import Answer, AnswerReader, Unreadable
from lectr_extproc.core.facts import label
from lectr_extproc.core.guard import Guard
from lectr_extproc.core.outcome import Route
from lectr_extproc.core.pricing import PICO, Cost, price_answer
from lectr_extproc.core.provider_error import ProviderError
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.strip import UsageStripper
from lectr_extproc.core.usage import COUNT_LIMIT, ModelUsage, Usage
from lectr_extproc.core.words import MODEL_LIMIT

COUNTS = tuple(field.name for field in fields(Usage))

_STATUS, _LENGTH = re.compile("[0-9]{1,3}"), re.compile("[0-9]{1,18}")
_UNREADABLE = (None, *get_args(Unreadable))

HTTP_ERRORS = 400

WAITING = 512 * 1024
"""How many bytes of chunks wait at most for it to be known whether the event that they end in is the usage chunk. Envoy
stops to read an answer of which a MiB waits, and so would the answer's end."""

UNNAMED = "error"
"An error of which the provider did not say what kind: no code, though it stands where codes do."

MICRO = 10**6
"Micro-USD in one USD: a rate limit counts whole hits."

GROWS_BY = 1.25
"Progress is told when the text has grown by a quarter: a stream that is cut is estimated from it to that precision."


def watch_answer(
    route: Route, headers: Sequence[tuple[str, str]], snapshot: Snapshot, began_s: int | None = None
) -> "Watch | None":
    """How the body behind these response headers is to be read; None where there is nothing in it for us.

    `began_s` is when the call began, which settles its prices: without it no cost is told.
    """
    one = dict(reversed(headers))
    status = one.get(":status", "")
    row = snapshot.observation.answers.get(route.choice.dialect)
    if row is None or not _STATUS.fullmatch(status):
        return None
    provider = snapshot.kind_of(route.choice.provider)
    kind, encoding = one.get("content-type", ""), one.get("content-encoding", "")
    reader = AnswerReader(
        row,
        provider,
        status=int(status),
        content_type=kind,
        content_encoding=encoding,
        headers=one,
        cost=snapshot.observation.reported_costs.get(provider),
    )
    wants_strip = route.asks_for_usage and snapshot.observation.usage_chunk == "strip"
    choice = route.choice

    def cost_of(answer: Answer) -> Cost | None:
        if began_s is None:
            return None
        return price_answer(
            answer,
            answer.usage,
            snapshot.prices,
            began_s,
            provider=choice.provider,
            sent=label(choice.model_sent, MODEL_LIMIT),
            requested=label(choice.model_requested, MODEL_LIMIT),
        )

    # Out of compressed bytes, or of an answer whose length was told, nothing can be taken.
    is_plain_stream = (
        kind.lower().startswith("text/event-stream")
        and encoding.lower() in {"", "identity"}
        and "content-length" not in one
    )
    stripper: UsageStripper | None = None
    if is_plain_stream and choice.is_guarded and int(status) < HTTP_ERRORS:
        stripper = Guard(choice.dialect, strips=wants_strip)
    elif is_plain_stream and wants_strip:
        stripper = UsageStripper()
    return Watch(
        reader,
        stripper,
        leaves_chunk_in=wants_strip and not is_plain_stream and int(status) < HTTP_ERRORS,
        cost_of=cost_of,
        length=one.get("content-length", ""),
    )


Reply = tuple[bytes | None, Mapping[str, str | int]]
"To one chunk: the bytes to pass on, or None for the chunk as it is; and its news."

_AS_IT_CAME: tuple[Reply, ...] = ((None, {}),)


class Watch:
    """One answer: feed it the body's chunks, pass on what it returns."""

    def __init__(
        self,
        reader: AnswerReader,
        stripper: UsageStripper | None = None,
        *,
        leaves_chunk_in: bool = False,
        cost_of: Callable[[Answer], Cost | None] = lambda _: None,
        length: str = "",
    ) -> None:
        self.leaves_chunk_in = leaves_chunk_in
        "A usage chunk was asked for and cannot be taken out of this answer."
        self._reader = reader
        self._stripper = stripper
        self._cost_of = cost_of
        # A client that has every byte may hang up before Envoy tells us that there are no more of them.
        self._to_come = int(length) if _LENGTH.fullmatch(length) else None
        self._told: dict[str, str | int] = {}
        self._tells_at = 1.0
        "How much text is progress worth telling."
        self._waiting: list[tuple[bytes, bytes | None, dict[str, str | int]]] = []

    def feed(self, chunk: bytes, *, is_last: bool) -> Sequence[Reply]:
        """One reply for each chunk that has none.

        None at all while the chunks end in what can still be the usage chunk: they wait in Envoy, which passes them on
        by itself should we die. Held here, their bytes would die with us.
        """
        if (
            not is_last
            and self._to_come is None
            and (self._stripper is None or self._stripper.would_pass(chunk))
            and self._reader.skim(chunk)
        ):
            return _AS_IT_CAME if self._reader.output_bytes < self._tells_at else ((None, self._news(is_last=False)),)
        self._reader.feed(chunk)
        if self._to_come is not None:
            self._to_come -= len(chunk)
            is_last = is_last or self._to_come == 0
        if is_last:
            self._reader.close()
        passed: bytes | None = None
        if self._stripper is not None:
            kept = self._stripper.feed(chunk)
            if is_last:
                kept += self._stripper.flush() if self._is_whole() else self._stripper.break_off()
            if self._stripper.holds and len(chunk) + sum(len(each) for each, _, _ in self._waiting) > WAITING:
                kept += self._stripper.let_go()
            passed = None if kept == chunk else kept
        self._waiting.append((chunk, passed, self._news(is_last=is_last)))
        if self._stripper is not None and self._stripper.holds:
            return []
        waited, self._waiting = self._waiting, []
        came = b"".join(chunk for chunk, _, _ in waited)
        is_whole = came == b"".join(chunk if passed is None else passed for chunk, passed, _ in waited)
        return [(None if is_whole else passed, news) for _, passed, news in waited]

    def _is_whole(self) -> bool:
        """Whether the answer has ended as it should, or in a way that was told, or cannot be known."""
        answer = self._reader.answer()
        return answer.is_complete or answer.error is not None or answer.unreadable is not None

    def _news(self, *, is_last: bool) -> dict[str, str | int]:
        known = answer_to_metadata(self._reader.answer())
        if self._reader.output_bytes < self._tells_at and not is_last:
            known.pop("out", None)
        else:
            self._tells_at = max(1.0, self._reader.output_bytes * GROWS_BY)
        if self._stripper is not None and self._stripper.is_over:
            known["broken"] = "1"
        news = self._not_told(known)
        if news.keys() - {"out"}:
            # Of what Envoy was told and not of the answer: so they cannot differ from the record, which is made of it.
            answer = answer_from_metadata(self._told)
            news |= self._not_told(_sums(answer.usage, self._cost_of(answer)))
        return news

    def _not_told(self, known: Mapping[str, str | int]) -> dict[str, str | int]:
        news = {key: value for key, value in known.items() if self._told.get(key) != value}
        self._told |= news
        return news


def answer_to_metadata(answer: Answer) -> dict[str, str | int]:
    """What Envoy is asked to remember about an answer."""
    told: dict[str, str | int | None] = {"out": answer.output_bytes or None}
    if answer.usage is not None:
        told |= _counts(answer.usage)
    told |= {
        "model": label(answer.model_answered, MODEL_LIMIT),  # half a surrogate pair would make the reply unwritable
        "id": label(answer.response_id, MODEL_LIMIT),
        "finish": ",".join(filter(None, (label(reason, MODEL_LIMIT) for reason in answer.finish_reasons))) or None,
        "tier": label(answer.service_tier, MODEL_LIMIT),
        "region": label(answer.region, MODEL_LIMIT),
        "error": (answer.error.code or answer.error.type or UNNAMED) if answer.error else None,
        "cost": None if answer.reported_cost is None else str(answer.reported_cost),
        "helpers": _write_helpers(answer.helpers),
        "complete": "1" if answer.is_complete else None,
        "unreadable": answer.unreadable,
    }
    return {key: value for key, value in told.items() if value is not None}


def answer_from_metadata(told: Mapping[str, Any]) -> Answer:
    """The same answer, as far as it was told. Total: what is missing or odd is absent."""
    finish, error = _text(told, "finish"), _text(told, "error")
    return Answer(
        usage=_read_counts(told),
        model_answered=_text(told, "model"),
        response_id=_text(told, "id"),
        finish_reasons=tuple(finish.split(",")) if finish else (),
        service_tier=_text(told, "tier"),
        region=_text(told, "region"),
        error=ProviderError(code=None if error == UNNAMED else error) if error else None,
        is_complete="complete" in told,
        output_bytes=_count(told.get("out")) or 0,
        reported_cost=_money(_text(told, "cost")),
        helpers=_read_helpers(_text(told, "helpers")),
        unreadable=unreadable if (unreadable := told.get("unreadable")) in _UNREADABLE else None,
    )


def _sums(usage: Usage | None, cost: Cost | None) -> dict[str, int]:
    """Of what the provider said, without estimates. A fraction of a micro-USD counts as a whole one."""
    sums: dict[str, int] = {}
    tokens = [count for count in (usage.input_tokens, usage.output_tokens) if count is not None] if usage else []
    if tokens:
        sums["total_tokens"] = sum(tokens)
    if cost is not None and cost.total is not None:
        sums["cost_micro_usd"] = -(-cost.total // (PICO // MICRO))
    return sums


def _counts(usage: Usage) -> dict[str, int]:
    return {name: value for name in COUNTS if (value := getattr(usage, name)) is not None}


def _read_counts(told: Mapping[str, Any]) -> Usage | None:
    counts = {name: value for name in COUNTS if (value := _count(told.get(name))) is not None}
    return Usage(**counts) if counts else None


def _write_helpers(helpers: tuple[ModelUsage, ...]) -> str | None:
    if not helpers:
        return None
    told = [{"model": label(helper.model, MODEL_LIMIT) or "", **_counts(helper.usage)} for helper in helpers]
    return orjson.dumps(told).decode()


def _read_helpers(text: str | None) -> tuple[ModelUsage, ...]:
    try:
        members = orjson.loads(text or "[]")
    except orjson.JSONDecodeError:
        return ()
    if not isinstance(members, list):
        return ()
    told = [(member.get("model"), _read_counts(member)) for member in members if isinstance(member, dict)]
    return tuple(ModelUsage(model, usage) for model, usage in told if isinstance(model, str) and usage is not None)


def _money(text: str | None) -> Decimal | None:
    try:
        amount = Decimal(text) if text else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() else None


def _text(told: Mapping[str, Any], key: str) -> str | None:
    value = told.get(key)
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < COUNT_LIMIT else None
