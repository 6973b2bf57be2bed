"""What is decided about a call, as values; and as metadata, written here and read back by core/record.py.

Envoy carries the decision until the call is over and hands it back in the access-log entry; lectr remembers nothing.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeGuard, assert_never

import orjson

from lectr_extproc.core import words
from lectr_extproc.core.candidates import Plan
from lectr_extproc.core.facts import Facts, label
from lectr_extproc.core.quick import quick_dataclass
from lectr_extproc.core.refusal import Refusal
from lectr_extproc.core.tables import Org
from lectr_extproc.core.words import CredentialSource, ProviderSource, Shape


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who answers a call, and why: the part of a decision that the record keeps."""

    provider: str
    source: ProviderSource
    unknown: bool = False
    "The model was not recognised, or its provider has no address here."
    detected: str | None = None
    "The provider the model belongs to, where the call could not go there."
    dialect: str
    shape: Shape = "openai"
    model_requested: str | None = None
    model_sent: str | None = None
    streaming: bool = False
    notes: tuple[str, ...] = ()
    "Codes for what the operator should know about this call."
    rule: str | None = None
    "The org's rule that the call is one for."
    rule_arm: str | None = None
    "What that rule says is to become of it."
    plan: Plan | None = None
    "What it was chosen from; None where the client pinned a model."

    @property
    def is_guarded(self) -> bool:
        """Whether the answer is a stream that never ends as if it were whole when it is not (core/guard.py)."""
        return self.streaming and self.plan is not None and bool(self.plan.candidates)


Observe = Literal["native", "stream", "none"]
"Who reads the answer: Envoy, lectr, or nobody because it holds nothing to read."


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Send it: where to, under which headers, with which body."""

    choice: Choice
    org: Org
    cluster: str
    authority: str
    path: str
    sets: Mapping[str, str] = dataclasses.field(repr=False)
    removes: tuple[str, ...]
    credential: CredentialSource
    model_is_renamed: bool
    observe: Observe
    drops: tuple[str, ...]
    "The members of the body that are for the gateway."
    asks_for_usage: bool
    "The provider is asked for a usage chunk that the client did not ask for."
    body: bytes | None = dataclasses.field(default=None, repr=False)
    "Only when the provider must get another body than the client sent."
    tries: tuple["Route", ...] = ()
    "Of a call with several candidates the route to each, in order, of which this is the first."


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Answer it ourselves; the provider never hears of it."""

    refusal: Refusal
    shape: Shape
    org: Org | None = None
    choice: Choice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Answer it ourselves with what was asked for: no provider is needed for it."""

    body: bytes
    shape: Shape
    org: Org
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskForBody:
    """Come back with the body: nothing else is said or changed until then."""


Decision = Route | Refuse | Serve | AskForBody

ASK_FOR_BODY: Final = AskForBody()


def is_chosen(decision: Decision) -> TypeGuard[Route]:
    """Whether there was a model to choose."""
    plan = decision.choice.plan if isinstance(decision, Route) else None
    return plan is not None and bool(plan.candidates)


# The decision as metadata, namespace `lectr`. Envoy turns numbers into doubles, so there are none. Nothing secret, no
# prompt, few short keys:
#   routed   "1"     the call may reach a provider; only a Route writes it, and the provider route matches on it
#   call_id          48 bits of time, 80 random ones, hex
#   org provider source unknown detected dialect shape requested sent feature task notes
#   rule rule_arm    the org's rule for this call, and which of its outcomes
#   tier candidates  of what the model was to be chosen, and how many there were
#   auto_tier auto_score auto_signals  what `auto` made of the conversation, and of what
#   dropped          why how many other models were no candidates
#   chosen   "1"     a model was chosen: the answer says which
#   attempts         how many candidates are asked at most, where there are several: Envoy goes from one to the next.
#                    Each attempt writes provider, sent, host, credential and asked anew, and `tries` (core/tries.py)
#   path             the client's path without its query
#   stream   "1"     the answer is a stream
#   host             the provider's address
#   observe          who reads the answer
#   credential       whose key went out: client, gateway or none
#   asked    "1"     the provider was asked for a usage chunk that the client did not ask for
#   parent           the traceparent of the span this call belongs under
#   refused          the code of our own answer
# Readers tolerate missing and unknown keys: one version of lectr may read what another wrote.


def to_metadata(
    decision: Route | Refuse | Serve, facts: Facts, call_id: str, parent: str | None = None
) -> dict[str, str]:
    """What Envoy is asked to remember about this call."""
    choice = None if isinstance(decision, Serve) else decision.choice
    fields = {
        "shape": decision.choice.shape if isinstance(decision, Route) else decision.shape,
        "path": label(facts.path, words.PATH_LIMIT),  # raw bytes would make the reply unwritable
        "feature": facts.feature,
        "task": facts.task,
        "org": decision.org.name if decision.org else None,
    }
    if choice is not None:
        fields |= {
            "provider": choice.provider,
            "source": choice.source,
            "unknown": "1" if choice.unknown else None,
            "detected": choice.detected,
            "dialect": choice.dialect,
            "requested": label(choice.model_requested, words.MODEL_LIMIT),
            "sent": label(choice.model_sent, words.MODEL_LIMIT),
            "stream": "1" if choice.streaming else None,
            "notes": ",".join(choice.notes) or None,
            "rule": choice.rule,
            "rule_arm": choice.rule_arm,
        }
        if (plan := choice.plan) is not None:
            fields |= {
                "tier": plan.tier,
                "candidates": str(len(plan.candidates)),
                "auto_tier": plan.auto.tier if plan.auto else None,
                "auto_score": str(plan.auto.score) if plan.auto else None,
                "auto_signals": _counts(plan.auto.signals) if plan.auto else None,
                "dropped": _counts(Counter(dropped.reason for dropped in plan.dropped)),
                "chosen": "1" if plan.candidates else None,
            }
            if isinstance(decision, Route) and decision.tries:
                fields["attempts"] = str(len(decision.tries))
    match decision:
        case Route():
            fields |= {
                "routed": "1",
                "host": decision.authority,
                "observe": decision.observe,
                "credential": decision.credential,
                "asked": "1" if decision.asks_for_usage else None,
            }
        case Refuse():
            fields["refused"] = decision.refusal.code
        case Serve():
            fields |= {"dialect": "models", "notes": ",".join(decision.notes)}
        case _:
            assert_never(decision)
    fields |= {"call_id": call_id, "parent": parent}  # last: with what is this call's own its reply ends (core/memo.py)
    return {key: value for key, value in fields.items() if value}


def _counts(numbers: Mapping[str, int]) -> str | None:
    """As one text, for the same reason as the attempts are; none of nothing."""
    return orjson.dumps(dict(numbers)).decode() if numbers else None
