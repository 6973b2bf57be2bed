"""Days of calls of two organisations, made up to be looked at: more by day than by night, with one bad afternoon.

They are records as lectr would have written them, priced by its own prices; the same seed makes the same calls.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from math import cos, pi
from typing import Any, NamedTuple

from lectr_extproc.catalog.prices import price_table
from lectr_extproc.core.facts import known_task
from lectr_extproc.core.pricing import Cost, price
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.tries import Try
from lectr_extproc.core.usage import Usage
from lectr_extproc.edge.store import Store
from tests.edge.finished import call

HOUR_S = 3600
BUSIEST_H = 4
"So many hours ago, whatever the hour is now: whoever looks sees the same."
INCIDENT_H = (5, 3)
"So many hours ago a provider failed in a third of one feature's calls."


class Kind(NamedTuple):
    """What a feature asks, and how often."""

    weight: float
    feature: str | None
    task: str | None
    provider: str
    model: str
    prompt: int
    answer: int
    wait_ms: float
    per_token_ms: float
    org: str = "acme"


KINDS = (
    Kind(30, "search", "classification", "openai", "gpt-4o", 420, 9, 380, 9),
    Kind(18, "support-chat", None, "anthropic", "claude-sonnet-4-6", 1900, 320, 720, 11),
    Kind(12, None, None, "openai", "gpt-4o-mini", 640, 150, 330, 7),
    Kind(9, "drafts", "generation", "openai", "gpt-5.4", 900, 640, 900, 12),
    Kind(6, "onboarding", "extraction", "groq", "openai/gpt-oss-120b", 800, 90, 120, 2),
    Kind(3, "labs", None, "my-vllm", "Qwen/Qwen3-32B", 500, 200, 240, 14),
    Kind(11, "digest", "summarisation", "gemini", "gemini-2.5-flash", 5200, 420, 610, 5, "azurite"),
    Kind(7, "search", "classification", "azure", "gpt-4o", 380, 8, 410, 9, "azurite"),
    Kind(4, None, None, "bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0", 700, 160, 500, 8, "azurite"),
)
PRICES = price_table()


def calls(count: int, until_s: float, days: float = 10, seed: int = 1) -> list[CallRecord]:
    """So many calls of so many days, in the order in which they began."""
    chance = random.Random(seed)
    return [
        _call(number, at, until_s, chance)
        for number, at in enumerate(sorted(islice(_times(until_s, days, chance), count)))
    ]


def fill(store: Store, records: list[CallRecord]) -> None:
    for start in range(0, len(records), 1000):
        store.write(records[start : start + 1000], [])


def _times(until_s: float, days: float, chance: random.Random) -> Iterator[float]:
    while True:
        ago_h = chance.random() * days * 24
        if chance.random() < 0.55 + 0.45 * cos((ago_h - BUSIEST_H) / 24 * 2 * pi):
            yield until_s - ago_h * HOUR_S


def _call(number: int, at: float, until_s: float, chance: random.Random) -> CallRecord:
    (kind,) = chance.choices(KINDS, [each.weight for each in KINDS])
    ago_h = (until_s - at) / HOUR_S
    fails = kind.feature == "search" and kind.org == "acme" and INCIDENT_H[1] < ago_h < INCIDENT_H[0]
    wait_ms = kind.wait_ms * chance.lognormvariate(0, 0.35)
    started_ns = int(at * 1e9)
    known = {
        "call_id": f"{chance.getrandbits(128):032x}",
        "request_id": f"{number:08x}",
        "response_id": None,
        "started_ns": started_ns,
        "org": kind.org,
        "feature": kind.feature,
        "task": kind.task,
        "task_known": known_task(kind.task),
        "provider": kind.provider,
        "provider_detected": None,
        "provider_source": "registry" if kind.provider == "my-vllm" else "exact",
        "model_requested": kind.model,
        "model_sent": kind.model,
        "host": f"{kind.provider}.example",
        "credential": "gateway",
        "notes": (),
        "attempts": 1,
        "traceparent": None,
    }
    if chance.random() < (0.34 if fails else 0.006):
        status, category = (
            (503, "overloaded") if fails else chance.choice(((429, "rate_limit"), (400, "invalid_request")))
        )
        error = {
            "error_category": category,
            "error_source": "provider",
            "error_code": None,
            "usage": None,
            "cost": None,
        }
        failed = call(
            **known,
            **error,
            status=status,
            model_answered=None,
            token_source="none",
            streaming=False,
            duration_ms=wait_ms,
            first_byte_ms=wait_ms,
            gateway_ms=0.9,
            provider_first_byte_ms=wait_ms - 1.4,
        )
        return _chosen(failed, chance) if kind.feature is None else failed
    prompt = max(8, int(kind.prompt * chance.lognormvariate(0, 0.3)))
    answer = max(1, int(kind.answer * chance.lognormvariate(0, 0.4)))
    usage = Usage(input_tokens=prompt, output_tokens=answer)
    row = PRICES.row(kind.provider, kind.model)
    done = call(
        **known,
        model_answered=kind.model,
        status=200,
        streaming=answer > 100,
        first_byte_ms=wait_ms,
        duration_ms=wait_ms + answer * kind.per_token_ms * chance.uniform(0.8, 1.3),
        gateway_ms=round(chance.uniform(0.6, 1.6), 3),
        provider_first_byte_ms=wait_ms - 1.9,
        usage=usage,
        cost=price(usage, row, int(at)) if row else Cost("unavailable"),
    )
    return _chosen(done, chance) if kind.feature is None else done


def _chosen(done: CallRecord, chance: random.Random) -> CallRecord:
    """The same, where the client left the model to the gateway; for some the first candidate failed."""
    score = chance.randint(4, 38)
    chosen: dict[str, Any] = {
        "model_requested": "auto",
        "provider_source": "chosen",
        "tier": "economy",
        "auto_tier": "economy",
    }
    done = replace(done, **chosen, auto_score=score, candidates=3)
    if chance.random() > 0.12:
        return done
    began = done.started_ns // 10**6
    lost = 240.0
    first = Try(
        provider="groq",
        model="openai/gpt-oss-20b",
        host="groq.example",
        began_ms=began + 2,
        status=503,
        duration_ms=lost,
    )
    then = Try(
        provider=done.provider or "",
        model=done.model_sent or "",
        host=done.host or "",
        began_ms=began + 2 + int(lost),
        status=200,
        duration_ms=done.duration_ms,
    )
    later: dict[str, Any] = {
        name: (getattr(done, name) or 0.0) + lost for name in ("duration_ms", "first_byte_ms", "provider_first_byte_ms")
    }
    return replace(done, **later, tries=(first, then), attempts=2)
