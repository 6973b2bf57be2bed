import gc
from collections.abc import Iterator
from dataclasses import replace
from types import FunctionType, ModuleType

import pytest

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.limits import OrgLimits
from lectr_extproc.core.memo import ENTRY, Memo, Seen, is_repeatable
from lectr_extproc.core.outcome import Decision, Route
from lectr_extproc.core.rules import Arm, Rule, Rules
from lectr_extproc.core.snapshot import Snapshot
from tests.core.given import CLIENT_KEY, KEY, request, routed, snapshot

FACTS = request("gpt-4o")
ROUTE = replace(routed(FACTS), observe="native")
SEEN = Seen(b"all that decides", [b"POST", b"Bearer " + CLIENT_KEY.encode(), b"/v1/chat/completions"])
TAIL = b"call-1"


def memo(room: int = 64 * 1024) -> Memo:
    return Memo(b"secret", room)


def texts_in(thing: object) -> Iterator[bytes]:
    """Every text that is reached from something, but through code."""
    known, left = set[int](), [thing]
    while left:
        one = left.pop()
        if id(one) in known or isinstance(one, type | ModuleType | FunctionType):
            continue
        known.add(id(one))
        if isinstance(one, str):
            yield one.encode("utf-8", "surrogateescape")
        elif isinstance(one, bytes):
            yield one
        else:
            left += gc.get_referents(one)


def test_a_reply_comes_back_with_the_tail_of_the_next_call() -> None:
    kept = memo()
    kept.keep(SEEN, TAIL, b"a reply and " + TAIL, ROUTE, FACTS)
    found = kept.find(SEEN, b"call-2")
    assert found == (b"a reply and call-2", None, None)


def test_a_route_comes_back_where_lectr_reads_the_answer_and_without_its_headers() -> None:
    kept = memo()
    kept.keep(SEEN, TAIL, b"a reply" + TAIL, replace(ROUTE, observe="stream"), FACTS)
    assert kept.find(SEEN, TAIL) == (b"a reply" + TAIL, replace(ROUTE, observe="stream", sets={}), None)


def test_of_an_org_with_limits_what_these_are_asked_with_comes_back_too_and_no_key() -> None:
    kept, tables = memo(), limited()
    facts = replace(request("gpt-4o"), call_id="one", traceparent="00-1", sticky={"x-user": "hush"})
    route = replace(routed(facts, tables), observe="native")
    kept.keep(SEEN, TAIL, b"a reply" + TAIL, route, facts)
    found = kept.find(SEEN, TAIL)
    assert found is not None
    _, known, told = found
    assert known == replace(route, sets={})
    assert told is not None
    assert (told.model, told.feature) == (facts.model, facts.feature)
    said = b"".join(texts_in(found))
    assert not any(text in said for text in (KEY.encode(), CLIENT_KEY.encode(), b"00-1", b"hush"))


@pytest.mark.parametrize(
    ("seen", "tail"),
    [(SEEN._replace(everything=b"something else"), TAIL), (SEEN, TAIL + b"0"), (SEEN._replace(everything=b""), TAIL)],
    ids=["another call", "another length of the tail", "one of which nothing is said"],
)
def test_a_reply_is_for_no_other_call(seen: Seen, tail: bytes) -> None:
    kept = memo()
    kept.keep(SEEN if seen.everything else seen, TAIL, b"a reply" + TAIL, ROUTE, FACTS)
    assert kept.find(seen, tail) is None


@pytest.mark.parametrize("form", [b"%b", b"%b, twice: %b", b"neither"])
def test_the_clients_key_is_put_into_the_reply_and_kept_nowhere(form: bytes) -> None:
    secret = b"sk-a-key-like-no-other"
    facts = request("gpt-4o", bearer=secret.decode())
    seen = SEEN._replace(values=[b"POST", b"Bearer " + secret])
    head = form.replace(b"%b", secret)
    kept = memo()
    kept.keep(seen, TAIL, head + TAIL, replace(routed(facts), observe="stream"), facts)
    found = kept.find(seen, TAIL)
    assert found is not None
    assert found[0] == head + TAIL
    texts = list(texts_in(kept))
    assert b"gpt-4o" in texts, "or nothing was looked through"
    assert not [text for text in texts if secret in text or secret in seen.everything]


def test_a_call_without_a_key_for_its_provider_is_kept_too() -> None:
    kept = memo()
    kept.keep(SEEN, TAIL, b"a reply" + TAIL, ROUTE, request("gpt-4o", bearer=None))
    assert kept.find(SEEN, TAIL)


def test_a_reply_with_a_key_of_ours_in_it_is_not_kept() -> None:
    kept = memo()
    kept.keep(SEEN, TAIL, b"/v1/" + KEY.encode() + TAIL, ROUTE, FACTS)
    assert kept.find(SEEN, TAIL) is None


def test_a_key_that_is_not_as_the_client_wrote_it_is_not_kept() -> None:
    kept = memo()
    kept.keep(SEEN._replace(values=[b"/v1?key=a%2Dkey"]), TAIL, b"a-key" + TAIL, ROUTE, request(bearer="a-key"))
    assert kept.find(SEEN, TAIL) is None


def test_a_memo_that_is_full_begins_again() -> None:
    def like(n: int) -> Seen:
        return SEEN._replace(everything=b"%d" % n)

    def known() -> list[int]:
        return [n for n in range(8) if kept.find(like(n), TAIL)]

    kept = memo(room=3 * (ENTRY + 10))
    for n in range(3):
        kept.keep(like(n), TAIL, bytes(10) + TAIL, ROUTE, FACTS)
    assert known() == [0, 1, 2]
    kept.keep(like(3), TAIL, bytes(10) + TAIL, ROUTE, FACTS)
    assert known() == [3]
    kept.keep(like(4), TAIL, bytes(ENTRY + 20) + TAIL, ROUTE, FACTS)
    kept.keep(like(5), TAIL, TAIL, ROUTE, FACTS)
    assert known() == [5]


def ruled(*arms: Arm, name: str = "ours") -> Snapshot:
    known = snapshot()
    rules = Rules((Rule(name=name, arms=arms, sticky="x-user"), Rule(name="another", arms=(Arm("a"), Arm("b")))))
    return replace(known, orgs_by_key={key: replace(org, rules=rules) for key, org in known.orgs_by_key.items()})


def limited() -> Snapshot:
    known, limits = snapshot(), OrgLimits(rows=(), assumed_output=1)
    return replace(known, orgs_by_key={key: replace(org, limits=limits) for key, org in known.orgs_by_key.items()})


REPEATABLE: dict[str, tuple[Facts, Snapshot, bool]] = {
    "a pinned model": (FACTS, snapshot(), True),
    "no model": (request(path="/v1/files", method="GET", has_body=False), snapshot(), True),
    "a rule for all": (FACTS, ruled(Arm(provider="openai")), True),
    "a rule that draws": (FACTS, ruled(Arm("gpt-4o"), Arm("gpt-4.1")), False),
    "an org with limits": (FACTS, limited(), True),
    "a choice": (request("economy", has_body=False), snapshot(), False),
    "a refusal": (request("gpt-4o", key=None), snapshot(), False),
    "an answer of our own": (request(path="/v1/models", method="GET", has_body=False), snapshot(), False),
    "a body to ask for": (request("openai/gpt-4o"), snapshot(), False),
    "a body that was asked for": (
        with_body(request("openai/gpt-4o"), b'{"model": "openai/gpt-4o"}'),
        snapshot(),
        False,
    ),
}


@pytest.mark.parametrize(("facts", "tables", "is_kept"), REPEATABLE.values(), ids=REPEATABLE)
def test_what_only_this_call_decides_is_not_repeated(facts: Facts, tables: Snapshot, is_kept: bool) -> None:
    decision: Decision = decide(facts, tables)
    assert is_repeatable(decision, facts) is is_kept
    own = replace(facts, at_s=2_000_000_000, call_id="another", traceparent="00-1", sticky={"x-user": "another"})
    assert not is_kept or decide(own, tables) == decision
    assert not is_kept or isinstance(decision, Route)
