"""Calls of orgs with limits, as Envoy asks about them: held, refused, sent to a cheaper tier, or let through."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lectr_extproc.core.limits import Warned
from lectr_extproc.edge import limits as module
from lectr_extproc.edge.counters import Counters
from lectr_extproc.edge.ledger import Ledger
from lectr_extproc.edge.limits import Limits, settlements
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import Store, Unavailable
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.core.finished import call as finished
from tests.edge.given import ORG, body, headers, live, process, said, serving
from tests.edge.ledgers import Moody

LENGTH = ("content-length", "300")
COST = 100 * 2_500_000 + 4096 * 10_000_000
"What is held for a call of 300 bytes that does not bound its answer, in pico-USD."


class Held:
    """lectr with limits for its one org, and a ledger in memory."""

    def __init__(self, directory: Path, ledger: Ledger | None = None, attempts: int = 3, **limits: Any) -> None:
        org = {**ORG, "limits": limits, "aliases": {"writer": list(WRITERS)}}
        self.live = live(directory, orgs=[org], failover={"attempts_max": attempts})
        self.warned: list[Warned] = []
        self.now_ns = 1_795_177_845 * 10**9
        settle = partial(settlements, self.live)
        self.ledger = ledger or Ledger.start("memory", 30, {}, settle=settle)
        self.limits = Limits(self.ledger, self.warned.extend, clock=lambda: self.now_ns)

    @property
    def counts(self) -> dict[str, int]:
        return {name.removeprefix("limits_"): n for name, n in self.limits.health().items() if type(n) is int and n}


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(ledger: Ledger | None = None, **more: Any) -> Held:
            made = Held(tmp_path, ledger, **more)
            stack.callback(made.ledger.stop)
            stack.callback(made.limits.stop)
            return made

        yield start


async def answer(channel: grpc.aio.Channel, *messages: ext.ProcessingRequest) -> ext.ProcessingResponse:
    """The last reply to these messages."""
    call = process(channel)
    reply = None
    for message in messages:
        await call.write(message)
        reply = await call.read()
    assert isinstance(reply, ext.ProcessingResponse), await call.code()
    return reply


async def until(holds: Callable[[], object]) -> None:
    """Something that a thread does, which tells nobody when it is done."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


def code(reply: ext.ProcessingResponse) -> str | None:
    return said(reply).get("refused")


async def test_a_call_that_does_not_fit_is_refused_with_its_reset_in_body_and_headers(held: Any) -> None:
    lectr = held(daily_usd="0.05")
    async with serving(lectr.live, limits=lectr.limits) as channel:
        assert said(await answer(channel, headers("gpt-4o", LENGTH)))["routed"] == "1"
        reply = await answer(channel, headers("gpt-4o", LENGTH))
    refused = reply.immediate_response
    assert (refused.status.code, code(reply)) == (429, "daily_spend_limit_exceeded")
    sent = {one.header.key: one.header.raw_value.decode() for one in refused.headers.set_headers}
    assert (sent["content-type"], sent["retry-after"], sent["x-ratelimit-limit"]) == ("application/json", "1", "0.05")
    assert "0.05 USD" in json.loads(refused.body)["error"]["message"]
    assert "routed" not in said(reply)
    assert lectr.counts == {"held": 1, "refused": 1}


async def test_a_hundred_at_once_get_no_more_than_there_is(held: Any) -> None:
    lectr = held(daily_usd=COST * 7 / 10**12)
    async with serving(lectr.live, limits=lectr.limits) as channel:
        replies = await asyncio.gather(*(answer(channel, headers("gpt-4o", LENGTH)) for _ in range(100)))
    assert [code(reply) for reply in replies].count(None) == 7
    assert lectr.counts == {"held": 7, "refused": 93}


class Stuck(Counters):
    """Counters of a database that does not answer until it is told to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store._database)
        store.counters = self
        self.goes_on = threading.Event()
        self.batches: list[int] = []

    def reserve(self, asks: Any, now_ns: int) -> Any:
        self.batches.append(len(asks))
        assert self.goes_on.wait(10)
        return super().reserve(asks, now_ns)


async def test_those_that_wait_at_the_same_time_are_one_transaction(held: Any) -> None:
    lectr = held(daily_usd=100)
    stuck = Stuck(lectr.ledger.store)
    async with serving(lectr.live, limits=lectr.limits) as channel:
        first = asyncio.create_task(answer(channel, headers("gpt-4o", LENGTH)))
        await until(lambda: stuck.batches)
        others = [asyncio.create_task(answer(channel, headers("gpt-4o", LENGTH))) for _ in range(20)]
        await until(lambda: len(lectr.limits._waiting) == 20)
        stuck.goes_on.set()
        replies = await asyncio.gather(first, *others)
    assert {code(reply) for reply in replies} == {None}
    assert stuck.batches == [1, 20]


async def test_a_record_gives_back_what_was_not_used(held: Any) -> None:
    lectr = held(daily_usd=COST * 1.5 / 10**12)
    async with serving(lectr.live, limits=lectr.limits) as channel:
        first = said(await answer(channel, headers("gpt-4o", LENGTH)))
        assert code(await answer(channel, headers("gpt-4o", LENGTH))) == "daily_spend_limit_exceeded"
        failed = {"cost": None, "usage": None, "status": 500, "host": "api.openai.com"}
        lectr.ledger.put([finished(call_id=first["call_id"], **failed)], [])
        lectr.ledger.finish()
        assert said(await answer(channel, headers("gpt-4o", LENGTH)))["routed"] == "1"


async def test_an_org_without_limits_waits_for_nothing(tmp_path: Path) -> None:
    class Never(Limits):
        def __init__(self) -> None:
            pass

        async def admit(self, *_: Any) -> Any:
            raise AssertionError

    async with serving(live(tmp_path), limits=Never()) as channel:
        assert said(await answer(channel, headers("gpt-4o", LENGTH)))["routed"] == "1"
    assert settlements(live(tmp_path), [finished()]) == []


async def test_a_call_that_nothing_limits_is_not_asked_about(held: Any) -> None:
    lectr = held(narrower=[{"for": {"feature": "search"}, "daily_usd": 1}])
    async with serving(lectr.live, limits=lectr.limits) as channel:
        assert said(await answer(channel, headers("gpt-4o", LENGTH)))["routed"] == "1"
        assert lectr.counts == {}
        assert said(await answer(channel, headers("gpt-4o", LENGTH, ("x-lectr-feature", "search"))))["routed"] == "1"
    assert lectr.counts == {"held": 1}


def over(held: Any, **more: Any) -> Held:
    made: Held = held(daily_usd="0.000001", over="economy", **more)
    return made


CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


async def test_a_candidate_whose_model_is_beyond_its_limit_is_not_asked_and_who_pins_it_is_refused(held: Any) -> None:
    lectr = held(narrower=[{"for": {"model": "gpt-4.1"}, "requests_per_minute": 1}])
    bearer = ("authorization", "Bearer sk-proj-0123456789abcdefghij")

    async def asked(model: str, other: str) -> ext.ProcessingResponse:
        message = headers(model, bearer, ("x-lectr-fallback", other))
        return await answer(channel, message, body(json.dumps({**CHAT, "model": model}).encode()))

    async with serving(lectr.live, limits=lectr.limits) as channel:
        found = [said(await asked("gpt-4o", "gpt-4.1")) for _ in range(2)]
        assert [(told["sent"], told.get("attempts")) for told in found] == [("gpt-4o", "2"), ("gpt-4o", None)]
        assert code(await asked("gpt-4.1", "gpt-4o")) == "rate_limit_exceeded"
    assert lectr.counts == {"held": 1, "refused": 1}


WRITERS = ("gpt-4o", "gpt-4.1", "o3")
FULL = "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("attempts", "expected"), [(1, [*WRITERS, FULL]), (2, ["gpt-4o", "o3", FULL, FULL])], ids=["one", "two candidates"]
)
async def test_of_a_choice_the_next_model_with_room_is_asked_and_the_call_refused_where_none_has(
    held: Any, attempts: int, expected: list[str]
) -> None:
    narrower = [{"for": {"model": model}, "requests_per_minute": 1} for model in WRITERS]
    lectr = held(attempts=attempts, narrower=narrower)
    message, content = headers("writer"), body(json.dumps({**CHAT, "model": "writer"}).encode())
    async with serving(lectr.live, limits=lectr.limits) as channel:
        replies = [await answer(channel, message, content) for _ in expected]
    assert [code(reply) or said(reply)["sent"] for reply in replies] == expected


async def test_where_only_the_first_candidate_fits_into_the_money_it_is_asked_alone(held: Any) -> None:
    lectr = held(daily_usd="0.009")  # a thousand tokens of gpt-4.1 are 0.008, of gpt-4o 0.01
    content = body(json.dumps({**CHAT, "model": "gpt-4.1", "max_tokens": 1000}).encode())
    async with serving(lectr.live, limits=lectr.limits) as channel:
        replies = [await answer(channel, headers("gpt-4.1", ("x-lectr-fallback", "gpt-4o")), content) for _ in "12"]
    told = said(replies[0])
    assert (told["sent"], told["candidates"], told.get("attempts")) == ("gpt-4.1", "1", None)
    assert code(replies[1]) == "daily_spend_limit_exceeded"


async def test_a_cheaper_tier_is_held_to_its_models_limits_too(held: Any) -> None:
    narrower = [{"for": {"model": "gpt-4.1-mini"}, "requests_per_minute": 1}]
    lectr = over(held, narrower=narrower)
    bearer = ("authorization", "Bearer sk-proj-0123456789abcdefghij")
    async with serving(lectr.live, limits=lectr.limits) as channel:
        replies = [await answer(channel, headers("gpt-4o", bearer), body(json.dumps(CHAT).encode())) for _ in "12"]
    assert [code(reply) for reply in replies] == [None, FULL], "no other model of the tier has a key here"


async def test_beyond_a_limit_a_cheaper_tier_is_chosen_in_the_place_of_a_refusal(held: Any) -> None:
    lectr = over(held)
    async with serving(lectr.live, limits=lectr.limits) as channel:
        call = process(channel)
        await call.write(headers("gpt-4o", LENGTH, ("authorization", "Bearer sk-proj-0123456789abcdefghij")))
        asked = await call.read()
        assert [field.name for field, _ in asked.ListFields()] == ["request_headers", "mode_override"]
        await call.write(body(json.dumps(CHAT).encode()))
        reply = await call.read()
    told = said(reply)
    assert (told["tier"], told["requested"], told["chosen"]) == ("economy", "gpt-4o", "1")
    assert module.NOTE in told["notes"]
    assert told["sent"] != "gpt-4o"
    assert json.loads(reply.request_body.response.body_mutation.body)["model"] == told["sent"]
    assert lectr.counts == {"held": 1}


async def test_a_call_whose_body_is_here_is_chosen_for_at_once(held: Any) -> None:
    lectr = over(held)
    async with serving(lectr.live, limits=lectr.limits) as channel:
        bearer = ("authorization", "Bearer sk-proj-0123456789abcdefghij")
        message = headers(None, ("content-type", "application/x-www-form-urlencoded"), LENGTH, bearer)
        reply = await answer(channel, message, body(json.dumps(CHAT).encode()))
    assert said(reply)["tier"] == "economy"


async def test_where_no_model_of_the_tier_fits_the_call_is_refused(held: Any) -> None:
    lectr = over(held)
    async with serving(lectr.live, limits=lectr.limits) as channel:
        message = headers("text-embedding-3-small", LENGTH, path="/v1/embeddings")
        content = b'{"model": "text-embedding-3-small", "input": "' + b"x" * 300 + b'"}'
        reply = await answer(channel, message, body(content))
        assert code(reply) == "daily_spend_limit_exceeded"
        form = headers(None, ("content-type", "application/x-www-form-urlencoded"), LENGTH, path="/v1/embeddings")
        assert code(await answer(channel, form, body(content))) == "daily_spend_limit_exceeded"
    assert lectr.counts == {"refused": 2}


async def test_a_second_bound_refuses_what_the_first_one_left(held: Any) -> None:
    lectr = over(held, narrower=[{"daily_usd": "0.000002"}])
    async with serving(lectr.live, limits=lectr.limits) as channel:
        bearer = ("authorization", "Bearer sk-proj-0123456789abcdefghij")
        reply = await answer(channel, headers("gpt-4o", LENGTH, bearer), body(json.dumps(CHAT).encode()))
    assert code(reply) == "daily_spend_limit_exceeded"
    assert lectr.counts == {"refused": 1}


async def test_thresholds_are_handed_on(held: Any) -> None:
    lectr = held(daily_usd=COST * 2 / 10**12, warn_at=["0.5"])
    async with serving(lectr.live, limits=lectr.limits) as channel:
        await answer(channel, headers("gpt-4o", LENGTH))
    assert [(warning.per_cent, warning.used) for warning in lectr.warned] == [(50, COST)]
    assert lectr.limits.health()["limits_used"] == [
        {"org": "acme", "for": "the organisation", "limit": "daily USD", "part": 0.5}
    ]
    lectr.now_ns += 86_400 * 10**9
    assert lectr.limits.health()["limits_used"] == [], "a day later nothing is"


# --- without the counters ---------------------------------------------------------------------------------------------


def moody_ledger() -> tuple[Moody, Ledger]:
    moody = Moody()
    return moody, Ledger(Store(moody), shown="moody", retention_days=30)


@pytest.mark.parametrize(("policy", "expected"), [("open", None), ("closed", "limits_unavailable")])
async def test_while_the_store_is_away_a_setting_decides_and_it_is_said_loudly(
    held: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, policy: str, expected: str | None
) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0.0)
    moody, ledger = moody_ledger()
    lectr = held(ledger, daily_usd="0.000001", when_store_is_away=policy)
    lectr.live.limits = lectr.limits.health
    async with serving(lectr.live, limits=lectr.limits) as channel:
        assert code(await answer(channel, headers("gpt-4o", LENGTH))) == "daily_spend_limit_exceeded"
        moody.mood = Unavailable("the server has gone")
        for _ in range(3):
            assert code(await answer(channel, headers("gpt-4o", LENGTH))) == expected
        assert lectr.live.problems()["limits"] == "the server has gone"
        assert lectr.limits.health()["limits_store_errors"] == 3
        assert lectr.limits.health()["limits_let_through"] == (3 if policy == "open" else 0)
        moody.mood = None
        assert code(await answer(channel, headers("gpt-4o", LENGTH))) == "daily_spend_limit_exceeded"
    assert lectr.live.problems()["limits"] is None
    ours = [record.message for record in caplog.records if record.name == "lectr.limits"]
    assert ours == [
        "the counters of limits cannot be had, calls are held to none or refused: the server has gone",
        "the counters of limits are there again",
    ]


async def test_a_mistake_of_ours_is_an_outage_and_not_the_end(
    held: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0.0)
    moody, ledger = moody_ledger()
    lectr = held(ledger, daily_usd=1)
    async with serving(lectr.live, limits=lectr.limits) as channel:
        moody.mood = ValueError("sk-hush")
        assert code(await answer(channel, headers("gpt-4o", LENGTH))) is None
        assert lectr.limits.health()["problem"] == "ValueError"
        moody.mood = None
        assert code(await answer(channel, headers("gpt-4o", LENGTH))) is None
    assert lectr.counts == {"held": 1, "store_errors": 1, "let_through": 1}


async def test_after_a_failure_calls_do_not_wait_for_another_one(held: Any) -> None:
    moody, ledger = moody_ledger()
    lectr = held(ledger, daily_usd=1)
    moody.mood = Unavailable("gone")
    async with serving(lectr.live, limits=lectr.limits) as channel:
        for _ in range(5):
            assert code(await answer(channel, headers("gpt-4o", LENGTH))) is None
    assert lectr.counts == {"store_errors": 1, "let_through": 5}


async def test_memory_that_stands_in_for_the_ledger_knows_nothing_of_what_was_spent(held: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database")
    ledger = Ledger.start(f"sqlite://{tmp_path}/file", 30, {})
    lectr = held(ledger, daily_usd=1, when_store_is_away="closed")
    async with serving(lectr.live, limits=lectr.limits) as channel:
        await until(lambda: bool(ledger.stands_in))
        assert code(await answer(channel, headers("gpt-4o", LENGTH))) == "limits_unavailable"


async def test_a_database_that_hangs_holds_nobody_up_for_long(held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(module, "AWAY_S", 0.0)
    lectr = held(daily_usd=1, when_store_is_away="closed")
    stuck = Stuck(lectr.ledger.store)
    async with serving(lectr.live, limits=lectr.limits) as channel:
        assert code(await answer(channel, headers("gpt-4o", LENGTH))) == "limits_unavailable"
        assert lectr.limits.health()["problem"] == "they take too long"
        await until(lambda: time.monotonic() > (lectr.limits._busy_since or 0) + module.PATIENCE_S)
        for _ in range(3):
            assert code(await answer(channel, headers("gpt-4o", LENGTH))) == "limits_unavailable"
        assert lectr.counts == {"store_errors": 1}, "nobody waits behind one that hangs"
        stuck.goes_on.set()
        await until(lambda: not (lectr.limits.health()["problem"]))
        assert code(await answer(channel, headers("gpt-4o", LENGTH))) is None


async def test_a_client_that_has_gone_while_it_waited_holds_nothing(held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_EVERY_S", 0.01)
    lectr = held(parallel_streams=1)
    stuck = Stuck(lectr.ledger.store)
    message = headers("gpt-4o", LENGTH)
    message.metadata_context.filter_metadata["lectr.request"].update({"stream": True, "include_usage": True})
    async with serving(lectr.live, limits=lectr.limits) as channel:
        call = process(channel)
        await call.write(message)
        await until(lambda: lectr.limits._busy_since is not None)
        call.cancel()
        await until(lambda: bool(lectr.limits._left))
        stuck.goes_on.set()
        await until(lambda: not (lectr.limits._left or lectr.limits._busy_since))
        assert code(await answer(channel, message)) is None


def test_who_settles_is_who_has_limits_now(tmp_path: Path) -> None:
    shared: Live = live(tmp_path, orgs=[{**ORG, "limits": {"daily_usd": 1}}])
    record = finished(host="api.openai.com")
    assert [one.call_id for one in settlements(shared, [record, finished(org="other")])] == [record.call_id]
