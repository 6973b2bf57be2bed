"""One attempt at a call with several candidates: the request as its provider is to get it, and what the answer means.

Envoy asks before each attempt, and shows the headers as the attempt before left them. So what no attempt may lose
travels in the body, which each gets as it was: `enclose` writes it before the client's body, `make` takes it off and
writes the candidate's request. Any lectr can make any attempt.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from lectr_extproc.core import tries
from lectr_extproc.core.candidates import Ranked
from lectr_extproc.core.choosing import as_candidate
from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.decision import ours_in
from lectr_extproc.core.declared import LONGEST, LOOKED_INTO, declared
from lectr_extproc.core.facts import Facts, label, read_facts, with_body
from lectr_extproc.core.outcome import Choice, Route
from lectr_extproc.core.reach import find_endpoint, is_streaming, model_in_path
from lectr_extproc.core.routing import CREDENTIALS, nobodys, rewritten, route_to
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Failover
from lectr_extproc.core.tries import Try
from lectr_extproc.core.upstream import ATTEMPT_SUFFIX, RELAY
from lectr_extproc.core.words import CLUSTER_HEADER, MODEL_LIMIT, REWRITTEN_HEADER, SHAPE_HEADER

RATE_LIMITED = 429
HTTP_ERRORS = 400


class Planned(NamedTuple):
    """One candidate, as it was decided on."""

    provider: str
    model: str
    cluster: str
    credential: str
    "Whose key goes."


def enclose(route: Route, facts: Facts, headers: Sequence[tuple[str, str]], snapshot: Snapshot) -> Route:
    """The call as it is to reach its attempts: no credential in its headers, and before its body what they need."""
    failover = snapshot.failover or Failover()
    names = snapshot.some_providers_headers
    key = facts.credential
    kept = {
        "path": facts.path,
        "query": facts.query,
        "key": (key.form, key.secret) if key else None,
        "headers": {name: value for name, value in reversed(headers) if name in names},
        "plan": [(t.choice.provider, t.choice.model_sent, t.cluster, t.credential) for t in route.tries],
    }
    timeout_s = failover.stream_timeout_s if route.choice.streaming else failover.answer_timeout_s
    return replace(
        route,
        # Of no use to the attempts' own route. Where an Envoy has none, no other may send this body to a provider.
        cluster=route.cluster + ATTEMPT_SUFFIX,
        sets={
            "x-envoy-max-retries": str(len(route.tries) - 1),
            "x-envoy-upstream-rq-per-try-timeout-ms": str(round(timeout_s * 1000)),
        },
        # Error documents are looked into, and nobody would decompress them.
        removes=tuple(sorted(nobodys(facts) | facts.header_names & {"accept-encoding"})),
        body=json.dumps(kept).encode() + b"\n" + (facts.body or b""),
    )


def winner(route: Route, said: Mapping[str, Any]) -> Route:
    """The route to who answered: to whom the last attempt was made, by what it said of itself."""
    if "place" not in said:
        return route
    return replace(route.tries[int(said["place"])], asks_for_usage=said.get("asked") == "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An attempt that is ready to leave."""

    sets: Mapping[str, str] = field(repr=False)
    removes: tuple[str, ...]
    body: bytes = field(repr=False)
    news: Mapping[str, str]
    "What the call's metadata is to say from now on: whoever answers last is who answered."
    mark: Mapping[str, str]
    "Which it is, for whoever reads the answer."
    tries: tuple[Try, ...]
    "Those so far, with this one."
    plan: tuple[Planned, ...]
    order: tuple[int, ...]
    "The candidates' places in the plan, in the order in which Envoy asks them."
    number: int
    "This one's place in that order, counted from 1."
    kind: str
    "Of the provider."

    @property
    def clusters(self) -> list[str]:
        """Of the plan's candidates."""
        return [planned.cluster + ATTEMPT_SUFFIX for planned in self.plan]

    @property
    def is_last(self) -> bool:
        """Nobody else is asked afterwards."""
        return self.number >= len(self.order)


def make(
    headers: Sequence[tuple[str, str]],
    body: bytes,
    said: Mapping[str, Any],
    *,
    order: Sequence[int],
    cluster: str,
    number: int,
    snapshot: Snapshot,
    now_ms: int,
) -> Outgoing | None:
    """The request of one attempt; None where what was decided on is there no more, and nothing may leave."""
    line, _, body = body.partition(b"\n")
    kept = json.loads(line)
    plan = tuple(Planned(*each) for each in kept["plan"])
    place = order[min(number, len(order)) - 1]
    planned = plan[place]
    org, row = snapshot.orgs.get(said.get("org", "")), snapshot.providers.get(planned.provider)
    if org is None or not org.enabled or row is None or cluster not in (planned.cluster + ATTEMPT_SUFFIX, RELAY):
        return None
    shifting = CREDENTIALS | snapshot.some_providers_headers
    path = f"{kept['path']}?{kept['query']}"
    same = [(name, value) for name, value in headers if name != ":path" and name not in shifting]
    facts = with_body(read_facts([(":path", path), *same, *kept["headers"].items()], {}, end_of_stream=False), body)
    key = kept["key"] if planned.credential == "client" else None
    facts = replace(facts, credential=Credential(Form(key[0]), key[1]) if key else None)
    endpoint = find_endpoint(facts.path, snapshot)
    asked = Choice(
        provider=planned.provider,
        source="chosen",
        dialect=endpoint.dialect,
        shape=endpoint.shape,
        model_requested=model_in_path(facts, endpoint) or facts.model,
        streaming=is_streaming(facts, endpoint),
    )
    candidate = Ranked(provider=planned.provider, model=planned.model)
    changed, choice = as_candidate(facts, asked, candidate, endpoint, snapshot)
    route = route_to(changed, choice, endpoint, org, snapshot, drops=ours_in(facts))
    if not isinstance(route, Route) or route.cluster != planned.cluster:
        return None
    if said.get("observe") != "stream":  # nobody would take the chunk out again
        route = replace(route, asks_for_usage=False)
    body = rewritten(body, facts.boundary, route)
    wanted = {name: value for name, value in kept["headers"].items() if name not in route.removes} | dict(route.sets)
    model = label(planned.model, MODEL_LIMIT) or ""
    asks = "1" if route.asks_for_usage else ""
    made = (
        *_answered(tries.from_text(said.get("tries")), str(said.get("answered"))),
        Try(provider=planned.provider, model=model, host=route.authority, began_ms=now_ms),
    )
    return Outgoing(
        sets={
            ":authority": route.authority,
            ":path": route.path,
            "content-length": str(len(body)),
            REWRITTEN_HEADER: "1",
            **({CLUSTER_HEADER: planned.cluster, SHAPE_HEADER: endpoint.shape} if cluster == RELAY else {}),
            **wanted,
        },
        removes=tuple(sorted({name for name, _ in headers if name in shifting} - wanted.keys())),
        body=body,
        news={
            "provider": planned.provider,
            "sent": model,
            "host": route.authority,
            "credential": route.credential,
            "asked": asks,
            "tries": tries.to_text(made),
            "answered": "",
        },
        mark={"place": str(place), "asked": asks},
        tries=made,
        plan=plan,
        order=tuple(order),
        number=number,
        kind=row.kind,
    )


def _answered(made: tuple[Try, ...], status: str) -> tuple[Try, ...]:
    """The attempts so far, the last with what Envoy says of its answer, where lectr did not see that."""
    return (*made[:-1], replace(made[-1], status=int(status))) if made and status.isdecimal() else made


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an answer means for the call."""

    goes_on: bool = False
    "Envoy would take it for final, and another candidate is to be asked."
    news: Mapping[str, str] = field(default_factory=dict)
    order: tuple[int, ...] | None = None
    "Who is asked in which order from now on, if not as before."
    wait_s: int | None = None
    "What the client is to be told as Retry-After: every candidate has refused for now, and one is back sooner."


def wants_document(attempt: Outgoing, status: int, headers: Mapping[str, str]) -> bool:
    """Whether what the error says decides. A length that is not told may be any."""
    length = headers.get("content-length", "")
    is_short = length.isdecimal() and len(length) < 10 and 0 < int(length) <= LONGEST
    return not attempt.is_last and status in LOOKED_INTO and is_short


def judge(
    attempt: Outgoing,
    status: int,
    headers: Mapping[str, str],
    document: bytes | None,
    snapshot: Snapshot,
    *,
    now_s: float,
) -> Verdict:
    """Whether another candidate is worth asking, and whom first."""
    if status < HTTP_ERRORS:
        return Verdict()
    planned = attempt.plan[attempt.order[min(attempt.number, len(attempt.order)) - 1]]
    why = declared(snapshot.declared, attempt.kind, status, document, key_is_held=planned.credential == "gateway")
    order = None if attempt.is_last or why is None else _reordered(attempt, planned, why, snapshot)
    failed = replace(attempt.tries[-1], status=status, why=why, wait_s=_wait(headers, now_s))
    made = (*attempt.tries[:-1], failed)
    waits = [each.wait_s for each in made if each.wait_s is not None]
    is_limited = attempt.is_last and all(each.status == RATE_LIMITED for each in made)
    return Verdict(
        goes_on=order is not None,
        news={"tries": tries.to_text(made)},
        order=order if order != attempt.order else None,
        wait_s=min(waits) if is_limited and waits and min(waits) != failed.wait_s else None,
    )


def _reordered(attempt: Outgoing, failed: Planned, why: str, snapshot: Snapshot) -> tuple[int, ...] | None:
    """The larger windows first, or other providers before the one that has no more; None: nobody else could do it."""

    def window(planned: Planned) -> float:
        known = snapshot.lineup.get((planned.provider, planned.model))
        return known.window if known and known.window else float("inf")

    done, rest = attempt.order[: attempt.number], attempt.order[attempt.number :]
    if why == "context":
        is_known = window(failed) < float("inf")
        if is_known and not any(window(attempt.plan[place]) > window(failed) for place in rest):
            return None
        return *done, *sorted(rest, key=lambda place: -window(attempt.plan[place]))
    return *done, *sorted(rest, key=lambda place: attempt.plan[place].provider == failed.provider)


_LONGEST_WAIT_S = 10**6


def _wait(headers: Mapping[str, str], now_s: float) -> int | None:
    """When to come back, in whole seconds (RFC 9110, 10.2.3). A date is by the clock that wrote the answer's own."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0 <= seconds < _LONGEST_WAIT_S:
            return math.ceil(seconds)
    until, since = _time(headers.get("retry-after", "")), _time(headers.get("date", ""))
    seconds = max(0.0, (until or 0.0) - (now_s if since is None else since))
    return math.ceil(seconds) if until is not None and seconds < _LONGEST_WAIT_S else None


def _time(text: str) -> float | None:
    """A date of HTTP, in any of its three forms, as seconds since 1970."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
