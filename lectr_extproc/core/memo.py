"""A decision that was made is not made again: its reply is kept, and the next call like it gets the same one.

Of a call that pins its model decide() asks nothing but the request and the snapshot, and a client sends what decides
about its calls thousands of times over. A reply is kept under a keyed digest of all of that, so that none of it can be
read here, and without the client's key for its provider: where one stood the reply is cut, and each call puts in its
own, which is the same one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple, TypeGuard

from lectr_extproc.core.facts import Facts
from lectr_extproc.core.outcome import Decision, Route
from lectr_extproc.core.words import KEY_PREFIX

ROOM = 8 * 1024 * 1024
"""Bytes that one memo takes. Full, it begins again, which costs whoever comes back one decision: to know which entries
were used least would cost every call."""
ENTRY = 2 * 1024
"What an entry takes besides its reply."


class Seen(NamedTuple):
    """A request as far as it decides."""

    everything: bytes
    "Equal for two only where all of Facts is that decides; empty where that cannot be said."
    values: Sequence[bytes]
    "Of the headers in it."
    traceparent: str | None = None
    content_length: int | None = None


Known = tuple[bytes, Route | None, Facts | None]
"""The reply to a call like one before; its route, less the headers it sets, where lectr reads the answer or the org has
limits; and what such limits are asked with: less every key, and what is each call's own."""


def is_repeatable(decision: Decision, facts: Facts) -> TypeGuard[Route]:
    """Whether all calls with these traits are decided so: none of what is this call's own had a say."""
    if not isinstance(decision, Route) or facts.body is not None or decision.choice.plan is not None:
        return False
    rules = decision.org.rules.ordered if decision.org.rules else ()
    return not any(rule.name == decision.choice.rule and len(rule.arms) > 1 for rule in rules)  # drawn by call or user


@dataclass(frozen=True, slots=True)
class _Kept:
    route: Route | None
    facts: Facts | None
    parts: Sequence[bytes]
    "Of the reply's head: what stands between the client's key, or all of it."
    at: int
    key: slice
    "Where that key is, in which of the values seen."


class Memo:
    """The replies to calls of one snapshot. `tail` is how a reply ends: with what is this call's own, and no more."""

    def __init__(self, secret: bytes, room: int = ROOM) -> None:
        self._blank = blake2b(key=secret, digest_size=32)
        self._kept: dict[bytes, _Kept] = {}
        self._room = self._left = room

    def find(self, seen: Seen, tail: bytes) -> Known | None:
        """What is known of a call like one before."""
        kept = self._kept.get(self._place(seen, tail)) if seen.everything else None
        if kept is None:
            return None
        return seen.values[kept.at][kept.key].join(kept.parts) + tail, kept.route, kept.facts

    def keep(self, seen: Seen, tail: bytes, reply: bytes, route: Route, facts: Facts) -> None:
        """Keep the reply for calls like this one, if nobody's key stays in it."""
        head = reply[: -len(tail)]
        secret = facts.credential.secret.encode("utf-8", "surrogateescape") if facts.credential else b""
        at = next((i for i, value in enumerate(seen.values) if secret in value), None)
        if not seen.everything or at is None or KEY_PREFIX.encode() in head:
            return
        size = len(head) + ENTRY
        if size > self._left:
            self._kept.clear()
            self._left = self._room
        self._left -= size
        is_limited = route.org.limits is not None
        start = seen.values[at].index(secret)
        self._kept[self._place(seen, tail)] = _Kept(
            route=replace(route, sets={}) if route.observe == "stream" or is_limited else None,
            facts=replace(facts, lectr_keys=(), credential=None, traceparent=None, sticky={}) if is_limited else None,
            parts=head.split(secret) if secret else [head],
            at=at,
            key=slice(start, start + len(secret)),
        )

    def _place(self, seen: Seen, tail: bytes) -> bytes:
        digest = self._blank.copy()
        digest.update(seen.everything)
        digest.update(len(tail).to_bytes(4))  # lengths of what is around it stand before it
        return digest.digest()
