"""What a call takes of its org's limits: held before it is sent, as far as that is known, and settled by its record."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from lectr_extproc.core.conversation import Conversation, read_conversation
from lectr_extproc.core.facts import Facts, read_json
from lectr_extproc.core.limits import Ask, Hold, Limit, OrgLimits, Unit
from lectr_extproc.core.outcome import Route
from lectr_extproc.core.pricing import price
from lectr_extproc.core.record import GENERATES, CallRecord
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.usage import Usage

_LONGEST = 10**6
"Tokens that are held for a call at most, and for an answer whose model nobody knows, whatever its client asks for."
_DEAREST = 10**17
"100,000 USD."

BYTES_PER_TOKEN = 3
"Of a body that was not looked into: fewer than there are, with the JSON around the texts."


class Settlement(NamedTuple):
    """What a finished call took, by unit; None is as much as was held for it."""

    call_id: str
    used: Mapping[Unit, int | None]
    holds: tuple[Hold, ...]
    "What counts it if nothing was held for it, because the counters could not be had."
    others: frozenset[str] = frozenset()
    "The limits of models that were held for it, and did not answer."


def ask_for(route: Route, facts: Facts, snapshot: Snapshot, limits: OrgLimits) -> Ask:
    """What to hold for a call. Of those that may answer the dearest counts, and the limits of each."""
    choice, plan = route.choice, route.choice.plan
    usage = _expected(route, facts, snapshot, limits)
    models = {(choice.provider, choice.model_sent or choice.model_requested)}
    models |= {(one.choice.provider, one.choice.model_sent) for one in route.tries}
    costs = [price(usage, snapshot.prices.row(*model), facts.at_s).total for model in models] if usage else []
    amounts: dict[Unit, int] = {
        "requests": 1,
        "streams": int(choice.streaming or facts.is_upgrade),
        "usd": min(max([cost for cost in costs if cost is not None], default=0), _DEAREST),
        "tokens": min((usage.input_tokens or 0) + (usage.output_tokens or 0), _LONGEST) if usage else 0,
    }
    names = [choice.model_requested, choice.model_sent, *(one.choice.model_sent for one in route.tries)]
    holds = [
        Hold(limit, amounts[limit.unit], limit.starts(facts.at_s))
        for limit in limits.rows
        if amounts[limit.unit] and limit.is_for(facts.feature, *names)
    ]
    return Ask(facts.call_id, tuple(holds), is_cheaper=bool(facts.at_most and plan and plan.candidates))


def less_one(facts: Facts, route: Route, limit: Limit) -> Facts | None:
    """The call to be decided again with fewer candidates, where a limit has no room for it; None where that is no way.

    It goes on without the model that is limited, or with the first candidate alone if the dearest is too dear. Whoever
    names the model that is limited is held to its limit, whoever answers.
    """
    plan, model = route.choice.plan, limit.model
    if plan is None or (model is not None and model in {route.choice.model_requested, *facts.used_up}):
        return None
    if model is not None:
        return replace(facts, used_up=facts.used_up | {model})
    if limit.unit != "usd" or not route.tries:
        return None
    others = {one.row.model for one in plan.candidates} - {route.choice.model_sent, *facts.used_up}
    return replace(facts, used_up=facts.used_up | others) if others else None


def _expected(route: Route, facts: Facts, snapshot: Snapshot, limits: OrgLimits) -> Usage | None:
    """The tokens of a call, rather too many than too few; None where it uses none that have a price."""
    choice = route.choice
    if not facts.has_body or choice.dialect not in snapshot.observation.answers:
        return None
    known = snapshot.lineup.get((choice.provider, choice.model_sent or ""))
    asked = facts.options.get("max_output")
    size = facts.content_length if facts.body is None else len(facts.body)
    conversation = Conversation()
    if facts.body is not None:
        conversation = read_conversation(read_json(facts.body), choice.dialect)
        asked = conversation.max_output
    if conversation.messages:
        prompt = conversation.tokens - (conversation.max_output or 0)
    elif size is not None:
        prompt = min(-(-size // BYTES_PER_TOKEN), (known and known.window) or size)
    else:
        prompt = limits.assumed_output
    if choice.dialect not in GENERATES:
        return Usage(input_tokens=prompt, output_tokens=0)
    longest = (known and known.max_output) or _LONGEST
    output = asked if isinstance(asked, int) and asked > 0 else limits.assumed_output
    return Usage(input_tokens=prompt, output_tokens=min(output, longest))


def settlement_of(record: CallRecord, snapshot: Snapshot) -> Settlement | None:
    """How a finished call is settled; None for an org without limits.

    What reached no provider, or was answered with an error, took nothing but its request. Where an answer came, or
    the client would not wait for it, and nobody can say what it used, what was held stays.
    """
    limits = snapshot.limits_of.get(record.org or "")
    if limits is None:
        return None
    is_routed = record.host is not None
    is_open = is_routed and (200 <= (record.status or 0) < 300 or record.error_category == "client_disconnect")
    unknown = None if is_open else 0
    cost, usage = record.cost, record.usage
    tokens = unknown
    if usage is not None:
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    used: dict[Unit, int | None] = {
        "requests": int(is_routed),
        "streams": 0,
        "usd": unknown if cost is None or cost.total is None else max(0, cost.total),
        "tokens": tokens,
    }
    at_s = record.started_ns // 10**9
    holds = [
        Hold(limit, used["usd"] or 0, limit.starts(at_s))
        for limit in limits.rows
        if limit.unit == "usd"
        and limit.key is None
        and limit.is_for(record.feature, record.model_sent, record.model_requested)
    ]
    answered = {record.model_requested, record.model_sent}
    asked = answered | {each.model for each in record.tries or ()}
    others = frozenset(
        limit.name
        for limit in limits.rows
        if limit.model is not None and limit.model not in (asked if limit.unit == "requests" else answered)
    )
    return Settlement(record.call_id, used, tuple(holds), others)
