"""Attempts as Envoy makes them: each sees the headers that the one before left, and the body as it was enclosed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.declared import DECLARED
from lectr_extproc.core.attempt import Outgoing, Verdict, enclose, judge, make, wants_document, winner
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, read_facts, with_body
from lectr_extproc.core.outcome import Route, to_metadata
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Failover, Known, Org
from lectr_extproc.core.tries import from_text
from tests.core.given import AZURE, KEY, azure_site, digest, held, snapshot

NOW_S = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
CLIENTS = "sk-ant-api03-client"
TABLES = replace(
    snapshot(azure_site()),
    failover=Failover(stream_timeout_s=2.5, answer_timeout_s=7),
    declared=DECLARED,
    credentials=held(openai="held-openai", groq="gsk_held"),
)
NO_HEADERS: Mapping[str, str] = {}
FALLBACK = ["claude-haiku-4-5", "llama-3.3-70b-versatile"]
HEADERS = (
    (":method", "POST"),
    (":path", "/v1/chat/completions?a=b"),
    (":authority", "gateway"),
    ("content-type", "application/json"),
    ("x-lectr-key", KEY),
    ("authorization", f"Bearer {CLIENTS}"),
    ("accept-encoding", "gzip"),
    ("origin", "https://app.example"),
    ("user-agent", "test"),
    ("x-forwarded-proto", "https"),
)


def body(**more: object) -> bytes:
    return json.dumps({"model": "gpt-4o", "fallback": FALLBACK, "messages": [], **more}).encode()


@dataclass
class Call:
    """What Envoy holds of a call."""

    facts: Facts
    route: Route
    headers: dict[str, str]
    said: dict[str, str]
    tables: Snapshot
    order: Sequence[int]
    number: int = 0

    @property
    def clusters(self) -> list[str]:
        return [each.cluster + ".attempt" for each in self.route.tries]

    def next(self, tables: Snapshot | None = None, cluster: str | None = None) -> Outgoing | None:
        self.number += 1
        assert self.route.body is not None
        place = self.order[min(self.number, len(self.order)) - 1]
        made = make(
            list(self.headers.items()),
            self.route.body,
            self.said,
            order=self.order,
            cluster=cluster or self.clusters[place],
            number=self.number,
            snapshot=tables or self.tables,
            now_ms=1000 * self.number,
        )
        if made is not None:
            self.headers = {k: v for k, v in self.headers.items() if k not in made.removes} | dict(made.sets)
            self.headers.pop("x-lectr-rewritten")
            self.said |= made.news
            self.mark = made.mark
        return made

    def fails(self, status: int, document: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS) -> Verdict:
        """The attempt under way is answered so."""
        last = self.order[min(self.number, len(self.order)) - 1]
        tried = from_text(self.said["tries"])
        attempt = Outgoing(
            sets={},
            removes=(),
            body=b"",
            news={},
            mark={},
            tries=tried,
            plan=self.plan,
            order=tuple(self.order),
            number=self.number,
            kind=self.tables.providers[self.plan[last].provider].kind,
        )
        verdict = judge(attempt, status, headers, document, self.tables, now_s=NOW_S)
        self.said |= verdict.news
        self.order = verdict.order or self.order
        return verdict

    plan: Any = ()
    mark: Any = None


def came(sent: bytes | None = None, headers: Sequence[tuple[str, str]] = HEADERS, tables: Snapshot = TABLES) -> Call:
    """A call as it is after lectr's decision."""
    facts = read_facts(headers, {"model": "gpt-4o"}, end_of_stream=False, call_id="c")
    facts = with_body(facts, body() if sent is None else sent)
    decided = decide(facts, tables)
    assert isinstance(decided, Route)
    route = enclose(decided, facts, headers, tables)
    left = {name: value for name, value in headers if name not in route.removes}
    call = Call(facts, route, left, to_metadata(route, facts, "c"), tables, range(len(route.tries)))
    call.plan = attempted(call).plan if route.tries else ()
    return call


def attempted(call: Call) -> Outgoing:
    made = replace(call, headers=dict(call.headers), said=dict(call.said)).next()
    assert made is not None
    return made


def as_pinned(model: str, credential: str) -> tuple[Mapping[str, str], bytes]:
    """What leaves when a client with this key asks for the model and nothing else."""
    headers = [*((n, v) for n, v in HEADERS if n != "authorization"), ("authorization", f"Bearer {credential}")]
    sent = json.dumps({"model": model, "messages": []}).encode()
    facts = with_body(read_facts(headers, {"model": model}, end_of_stream=False), sent)
    route = decide(facts, TABLES)
    assert isinstance(route, Route)
    left = {n: v for n, v in headers if n not in route.removes} | {":authority": route.authority, ":path": route.path}
    return left | dict(route.sets), sent


def test_each_candidate_gets_what_a_client_of_its_own_would_have_sent() -> None:
    call = came()
    for model, key in (("gpt-4o", "held-openai"), ("claude-haiku-4-5", CLIENTS), (FALLBACK[1], "gsk_held")):
        made = call.next()
        assert made is not None
        headers, sent = as_pinned(model, key)
        headers = {name: value for name, value in headers.items() if name != "accept-encoding"}
        names = {"content-length", "x-envoy-max-retries", "x-envoy-upstream-rq-per-try-timeout-ms"}
        assert {name: value for name, value in call.headers.items() if name not in names} == headers
        assert json.loads(made.body) == json.loads(sent)
        assert made.sets["content-length"] == str(len(made.body))
        assert [other for other in ("held-openai", CLIENTS, "gsk_held") if other in str(call.headers)] == [key]


def test_where_envoy_takes_no_order_of_clusters_each_attempt_names_its_own_and_tells_of_the_one_before() -> None:
    call = came()
    for answered, status in (("503", 503), ("none", None)):
        made = call.next(cluster="lectr_attempts")
        assert made is not None
        assert made.sets["x-lectr-cluster"] == call.route.tries[call.number - 1].cluster
        assert made.sets["x-lectr-shape"] == "openai"
        assert made.news["answered"] == "", "of the attempt before"
        call.said["answered"] = answered
        again = replace(call, headers=dict(call.headers), said=dict(call.said)).next(cluster="lectr_attempts")
        assert again is not None
        assert again.tries[-2].status == status
    assert not {"x-lectr-cluster", "x-lectr-shape"} & came().next().sets.keys()  # type: ignore[union-attr]


def test_on_its_way_to_its_attempts_a_call_has_no_credential_in_its_headers_nor_in_its_metadata() -> None:
    call = came()
    assert {"authorization", "x-lectr-key", "accept-encoding"} <= set(call.route.removes)
    assert call.route.cluster == call.route.tries[0].cluster + ".attempt", "the provider's own would take it as it is"
    assert "origin" not in call.route.removes
    for _ in range(3):
        assert CLIENTS not in str(call.said)
        assert KEY not in str(call.route.body)
        call.next()
    assert CLIENTS not in repr(call.route)
    assert CLIENTS not in repr(attempted(came()))


def test_envoy_is_told_how_often_and_after_how_long_to_go_on() -> None:
    sets = came().route.sets
    assert sets == {"x-envoy-max-retries": "2", "x-envoy-upstream-rq-per-try-timeout-ms": "7000"}
    assert came(body(stream=True)).route.sets["x-envoy-upstream-rq-per-try-timeout-ms"] == "2500"


def test_the_metadata_is_about_the_last_who_was_asked() -> None:
    call = came()
    assert (call.said["provider"], call.said["attempts"], call.said["chosen"]) == ("openai", "3", "1")
    call.next()
    call.fails(503)
    call.next()
    wanted = {"provider": "anthropic", "sent": "claude-haiku-4-5", "host": "api.anthropic.com", "credential": "client"}
    assert wanted.items() <= call.said.items()
    assert [(t.provider, t.status, t.began_ms) for t in from_text(call.said["tries"])] == [
        ("openai", 503, 1000),
        ("anthropic", None, 2000),
    ]
    assert winner(call.route, call.mark).choice.provider == "anthropic"
    assert winner(call.route, {}) is call.route


def test_a_usage_chunk_is_asked_for_where_the_candidate_may_be_asked() -> None:
    call = came(body(stream=True))
    asked = [call.next() for _ in range(3)]
    assert [b"include_usage" in made.body for made in asked if made] == [True, True, False]
    assert call.route.observe == "stream"
    call = came(body(stream=True))
    call.next()
    assert winner(call.route, call.mark).asks_for_usage is True
    call.next()
    call.next()
    assert winner(call.route, call.mark).asks_for_usage is False
    nobody_reads = came(body(stream=True))
    nobody_reads.said["observe"] = "native"
    made = nobody_reads.next()
    assert made is not None
    assert b"include_usage" not in made.body


def test_a_deployment_of_azures_is_asked_by_its_path() -> None:
    acme = replace(TABLES.orgs["acme"], credentials=held(azure="held-azure"))
    tables = replace(TABLES, orgs_by_key={digest(KEY): acme})
    call = came(body(fallback=["azure/my-gpt", "gpt-4o"]), tables=tables)
    call.next()
    made = call.next()
    assert made is not None
    assert made.sets[":authority"] == AZURE.removeprefix("https://")
    assert made.sets[":path"] == "/openai/deployments/my-gpt/chat/completions?a=b&api-version=2024-02-01"
    assert made.sets["api-key"] == "held-azure"
    assert len(call.route.tries) == 2  # the client's own choice is not asked twice


def test_a_clients_key_that_says_nothing_of_whose_it_is_goes_to_its_own_provider_alone() -> None:
    headers = [(name, "Bearer of-nobody-knows-whom" if name == "authorization" else value) for name, value in HEADERS]
    call = came(body(fallback=["llama-3.3-70b-versatile"]), headers=headers)
    first, second = call.next(), call.next()
    assert first is not None
    assert second is not None
    assert first.sets["authorization"] == "Bearer of-nobody-knows-whom"
    assert second.sets["authorization"] == "Bearer gsk_held"
    assert "of-nobody" not in f"{second.sets} {second.body!r} {second.news} {second.mark}"


GONE: dict[str, Snapshot] = {
    "the org": replace(TABLES, orgs_by_key={}),
    "its leave to call": replace(TABLES, orgs_by_key={digest(KEY): Org(name="acme", enabled=False)}),
    "the provider": replace(TABLES, providers={k: v for k, v in TABLES.providers.items() if k != "openai"}),
    "its address": replace(TABLES, sites={k: v for k, v in TABLES.sites.items() if k != "openai"}),
    "the address it had": replace(
        TABLES, sites={**TABLES.sites, "openai": snapshot(addresses={"openai": "https://o.example"}).sites["openai"]}
    ),
}


@pytest.mark.parametrize("what", GONE)
def test_nothing_leaves_for_what_was_decided_on_and_is_there_no_more(what: str) -> None:
    assert came().next(GONE[what]) is None


def test_the_clusters_of_a_plan_are_those_that_make_attempts_ready() -> None:
    call = came()
    assert attempted(call).clusters == call.clusters


def test_nothing_leaves_to_a_cluster_that_is_not_the_candidates() -> None:
    assert came().next(cluster="groq-00000000.attempt") is None


def test_after_the_last_candidate_envoy_stays_with_it() -> None:
    call = came()
    call.number = 3
    made = call.next()
    assert made is not None
    assert (made.news["provider"], made.is_last) == ("groq", True)


VERDICTS: dict[str, tuple[int, bytes | None, bool, str | None]] = {
    "an answer": (200, None, False, None),
    "one that Envoy takes for a failure itself": (503, None, False, None),
    "a wrong call": (400, b'{"error": {"code": "unknown_parameter"}}', False, None),
    "an exceeded context": (400, b'{"error": {"code": "context_length_exceeded"}}', True, "context"),
    "a spent quota": (402, None, True, "quota"),
    "a bad key of ours": (401, None, True, "key"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_an_answer_says_whether_another_candidate_is_worth_asking(case: str) -> None:
    status, document, goes_on, why = VERDICTS[case]
    call = came()
    call.next()
    verdict = call.fails(status, document)
    assert verdict.goes_on == goes_on
    if status >= 400:
        assert (from_text(verdict.news["tries"])[0].status, from_text(verdict.news["tries"])[0].why) == (status, why)
    else:
        assert verdict.news == {}


def test_a_clients_own_bad_key_is_the_clients_to_hear_of() -> None:
    call = came()
    call.next()
    call.next()
    assert call.fails(401).goes_on is False


def test_the_last_answer_is_final_whatever_it_says() -> None:
    call = came()
    for _ in range(3):
        call.next()
    assert call.fails(402).goes_on is False


def windows(**tokens: int | None) -> Snapshot:
    names = {"openai": "gpt-4o", "anthropic": FALLBACK[0], "groq": FALLBACK[1]}
    known = {(p, names[p]): Known(names[p], size) for p, size in tokens.items()}
    return replace(TABLES, lineup={**TABLES.lineup, **known})


CONTEXTS: dict[str, tuple[Snapshot, bool, tuple[int, ...] | None]] = {
    "larger windows come first": (windows(openai=1000, anthropic=2000, groq=3000), True, (0, 2, 1)),
    "in order as they are": (windows(openai=1000, anthropic=3000, groq=2000), True, None),
    "nobody has a larger one": (windows(openai=3000, anthropic=2000, groq=3000), False, None),
    "one that nobody knows may be larger": (windows(openai=3000, anthropic=2000, groq=None), True, (0, 2, 1)),
    "nobody knows how large it was": (windows(openai=None, anthropic=2000, groq=3000), True, (0, 2, 1)),
}


@pytest.mark.parametrize("case", CONTEXTS)
def test_after_an_exceeded_context_larger_windows_are_asked(case: str) -> None:
    tables, goes_on, order = CONTEXTS[case]
    call = came(tables=tables)
    call.next()
    verdict = call.fails(400, b"context_length_exceeded")
    assert (verdict.goes_on, verdict.order) == (goes_on, order)


def test_after_a_spent_quota_other_providers_come_first() -> None:
    call = came(body(fallback=["gpt-4.1", *FALLBACK]), tables=replace(TABLES, failover=Failover(attempts_max=4)))
    call.next()
    assert call.fails(402).order == (0, 2, 3, 1)
    made = call.next()
    assert made is not None
    assert made.news["provider"] == "anthropic"


WAITS: dict[str, tuple[list[dict[str, str]], int | None]] = {
    "the soonest of all": ([{"retry-after": "30"}, {"retry-after-ms": "4200"}, {"retry-after": "60"}], 5),
    "the last one's own": ([{"retry-after": "30"}, {"retry-after": "9"}, {"retry-after": "2"}], None),
    "nobody said": ([{}, {}, {}], None),
    "a word says nothing": ([{"retry-after": "soon"}, {"retry-after": "nan"}, {"retry-after": "7"}], None),
    "a date": ([{"retry-after": "Sun, 22 Nov 2026 12:00:09 GMT"}, {}, {}], 9),
    "a date by the clock of who says it": (
        [{"retry-after": "Sun, 22 Nov 2026 11:00:04 GMT", "date": "Sun, 22 Nov 2026 11:00:00 GMT"}, {}, {}],
        4,
    ),
    "dates in the forms of the last century": (
        [{"retry-after": "Sunday, 22-Nov-26 12:00:08 GMT"}, {"retry-after": "Sun Nov 22 12:00:07 2026"}, {}],
        7,
    ),
    "a date that is over": ([{"retry-after": "Sat, 21 Nov 2026 12:00:00 GMT"}, {}, {}], 0),
    "a date of another age": ([{"retry-after": "Sun, 22 Nov 2099 12:00:00 GMT"}, {}, {}], None),
    "what is no date": ([{"retry-after": "Sun, 99 Foo 2026 12:00:00 GMT"}, {"retry-after": "1 1 1 1:1"}, {}], None),
}


@pytest.mark.parametrize("case", WAITS)
def test_where_all_have_refused_for_now_the_client_is_told_the_soonest_return(case: str) -> None:
    headers, wait = WAITS[case]
    call = came()
    for each in headers:
        call.next()
        verdict = call.fails(429, headers=each)
    assert (verdict.wait_s, verdict.goes_on) == (wait, False)


@given(st.text(), st.text())
def test_whatever_a_provider_says_of_its_return_is_an_answer(said: str, date: str) -> None:
    call = came()
    call.next()
    call.fails(429, headers={"retry-after": said, "retry-after-ms": date, "date": date})
    (made,) = from_text(call.said["tries"])
    assert made.wait_s is None or 0 <= made.wait_s <= 10**6


def test_one_that_failed_otherwise_leaves_the_last_answer_as_it_is() -> None:
    call = came()
    for status in (503, 429, 429):
        call.next()
        verdict = call.fails(status, headers={"retry-after": str(status)})
    assert verdict.wait_s is None


LENGTHS: dict[str, tuple[int, dict[str, str], bool]] = {
    "an error": (400, {"content-length": "120"}, True),
    "an error of unknown length": (400, {}, False),
    "a long one": (400, {"content-length": "65537"}, False),
    "an empty one": (400, {"content-length": "0"}, False),
    "one that Envoy takes for a failure itself": (500, {"content-length": "120"}, False),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_only_a_short_error_is_looked_into(case: str) -> None:
    status, headers, wanted = LENGTHS[case]
    assert wants_document(attempted(came()), status, headers) is wanted


def test_the_last_candidates_error_is_not_looked_into() -> None:
    call = came()
    call.next()
    call.next()
    made = call.next()
    assert made is not None
    assert wants_document(made, 400, {"content-length": "120"}) is False
