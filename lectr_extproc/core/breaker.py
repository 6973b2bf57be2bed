"""Which models fail where: after failures in a row they are not asked first, until one call has found them well again.

A state machine for each address and model, without a clock: closed, open, half-open. It only ever changes an order, so
whatever it gets wrong refuses no call.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from math import ceil
from types import MappingProxyType
from typing import Literal, NamedTuple

from lectr_extproc.core.health import Breaking, Target
from lectr_extproc.core.record import CallRecord, category_of
from lectr_extproc.core.tables import Provider

TARGETS = 1000
"So many are told apart: names of models are clients'. Of more the one that failed longest ago is forgotten."

Phase = Literal["closed", "half_open", "open"]


class Event(NamedTuple):
    """What happened to a target."""

    target: Target
    what: Literal["failed", "well", "asked"]
    "`asked`: it is half-open, and this is the call that tries."
    at_s: float
    "When a failure was over, and when a call that went well or tries began; seconds since 1970."


class State(NamedTuple):
    """What is known of a target that has failed. Of one that did not there is none."""

    failures: int
    "In a row."
    failed_s: float
    until_s: int | None = None
    "It is not to be asked first before then; None while it is closed. A decision's time has whole seconds, too."
    is_asked: bool = False
    "A call that tries is on its way; should nobody hear of it until then, the next one does."

    def is_due(self, now_s: float) -> bool:
        """It is half-open, and nobody tries it."""
        return self.until_s is not None and self.until_s <= now_s

    def phase(self, now_s: float) -> Phase:
        """The word for it."""
        if self.until_s is None:
            return "closed"
        return "half_open" if self.is_asked or self.until_s <= now_s else "open"


def step(state: State | None, event: Event, rule: Breaking) -> State | None:
    """What a target is after an event."""
    _, what, at_s = event
    if what == "failed":
        return _failed(state or State(0, at_s), at_s, rule)
    if state is None:
        return None
    if what == "asked":
        return state._replace(until_s=ceil(at_s + rule.open_s), is_asked=True) if state.is_due(at_s) else state
    # A call that began before the last failure, or while it was open, proves nothing by going well.
    since_s = state.failed_s if state.until_s is None or state.is_asked else state.until_s
    return state if at_s < since_s else None


def _failed(state: State, at_s: float, rule: Breaking) -> State:
    is_closed, failed_s = state.until_s is None, max(at_s, state.failed_s)
    failures = state.failures + 1 if not is_closed or abs(at_s - state.failed_s) <= rule.within_s else 1
    if state.until_s is not None and at_s < state.until_s and not state.is_asked:
        return State(failures, failed_s, state.until_s)
    opens = not is_closed or failures >= rule.failures
    return State(failures, failed_s, ceil(at_s + rule.open_s) if opens else None)


class Breakers:
    """The targets that have failed lately."""

    def __init__(self, states: Mapping[Target, State] | None = None) -> None:
        self._states = dict(states or {})
        self._until: dict[Target, int] = {}
        self.states: Mapping[Target, State] = MappingProxyType(self._states)
        self.until: Mapping[Target, int] = MappingProxyType(self._until)
        "Until when (s since 1970) those that are not closed are not to be asked first."

    def take(self, event: Event, rule: Breaking) -> tuple[State | None, State | None]:
        """The state before an event and after it."""
        before = self._states.get(event.target)
        after = step(before, event, rule)
        if after is not before:
            self.keep(event.target, after)
        return before, after

    def keep(self, target: Target, state: State | None) -> None:
        """What a target is from now on; None is closed, and as if it had never failed."""
        self._until.pop(target, None)
        if state is None:
            self._states.pop(target, None)
            return
        self._states[target] = state
        if state.until_s is not None:
            self._until[target] = state.until_s
        if len(self._states) > TARGETS:
            self.keep(min(self._states, key=lambda each: self._states[each].failed_s), None)

    def adopt(self, states: Mapping[Target, State], claimed: Collection[Target], until_s: int) -> None:
        """What all lectrs know together: of those that are half-open this one tries the `claimed`.

        Before `until_s` it asks no other first, for by then it knows more; or is on its own, and tries for itself.
        """
        for target in self._states.keys() - states.keys():
            self.keep(target, None)
        for target, state in states.items():
            self.keep(target, state)
            if state.until_s is not None:
                self._until[target] = 0 if target in claimed else max(state.until_s, until_s)


_CALLERS = frozenset(
    {"invalid_request", "authentication", "permission", "not_found", "request_too_large", "rate_limit"}
)
"What is no sign of sickness: the caller's mistakes, and a limit that is kept."
_CALLERS_WORDS = re.compile(
    r"rate.?limit|too.?many|throttl|resource.?exhausted|context|too.?long|invalid.?request|authentication|permission"
    r"|not.?found",
    re.IGNORECASE,
)
"The same in a provider's own words: within a stream they are all there is, and some say a full window with a 500."
_COUNTING = frozenset({"anthropic.count_tokens", "openai.input_tokens", "bedrock.count_tokens"})
"Calls that a model's machines have no part in."


def events_of(record: CallRecord, providers: Mapping[str, Provider]) -> Iterator[Event]:
    """What a finished call says of each whom it was sent to."""
    for one in (record.tries or ())[:-1]:
        row = providers.get(one.provider)
        if one.why is not None and (row is None or one.status not in row.quota_statuses):
            continue  # a full window, a spent credit, a bad key
        category = "unreachable" if one.status is None else category_of(one.status)
        failed = replace(
            record,
            provider=one.provider,
            model_sent=one.model,
            host=one.host,
            started_ns=one.began_ms * 1_000_000,
            duration_ms=one.duration_ms,
            status=one.status,
            error_category=category,
            error_source="provider",
            error_code=None,
        )
        if event := event_of(failed, providers):
            yield event
    if event := event_of(record, providers):
        yield event


def event_of(record: CallRecord, providers: Mapping[str, Provider]) -> Event | None:
    """What a finished call says of whom it was sent to, if anything. A caller who hung up says nothing."""
    if record.provider is None or record.model_sent is None or record.host is None or record.dialect in _COUNTING:
        return None
    target = Target(record.provider, record.model_sent, record.host)
    began_s = record.started_ns / 1e9
    if record.error_category is None:
        return Event(target, "well", began_s)
    if not _is_sick(record, providers.get(record.provider)):
        return None
    return Event(target, "failed", began_s + (record.duration_ms or 0) / 1000)


def _is_sick(record: CallRecord, row: Provider | None) -> bool:
    if record.error_source != "provider":
        return False
    if row is not None and record.status in row.quota_statuses:
        return True
    if record.error_category in _CALLERS or _CALLERS_WORDS.search(record.error_code or ""):
        return False
    return record.error_category != "quota" or record.credential == "gateway"  # a client's credit is its own
