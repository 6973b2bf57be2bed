"""What all lectrs know of models that fail, the same promises on SQLite files and on a real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

from lectr_extproc.core.breaker import Event, State
from lectr_extproc.core.health import Breaking, Target
from lectr_extproc.edge.breakers import FORGET_S, Shared
from lectr_extproc.edge.store import Store
from tests.edge.ledgers import Open

MINI = Target("openai", "gpt-4.1-mini", "api.openai.com")
NOW = 1_795_000_000
RULE = Breaking()


def sync(store: Store, *events: Event, at_s: float = NOW) -> Shared:
    return store.breakers.sync(events, RULE, at_s)


def failed(at_s: float, target: Target = MINI) -> Event:
    return Event(target, "failed", at_s)


def test_failures_that_several_lectrs_saw_add_up(another: Open) -> None:
    one, other = another(), another()
    assert sync(one) == ({}, ())
    assert sync(one, failed(NOW - 2)).states == {MINI: State(1, NOW - 2)}
    sync(other, failed(NOW - 1.5), failed(NOW, MINI._replace(host="eu")))
    opened = State(3, NOW - 0.25, NOW + 30)
    assert sync(one, failed(NOW - 0.25)).states[MINI] == opened
    assert sync(other) == ({MINI: opened, MINI._replace(host="eu"): State(1, NOW)}, ())


def test_of_several_lectrs_one_tries_what_is_half_open_and_its_success_closes_it_for_all(another: Open) -> None:
    stores = [another() for _ in range(3)]
    sync(stores[0], *[failed(NOW)] * 3)
    assert [sync(store, at_s=NOW + 29).claimed for store in stores] == [(), (), ()]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda store: sync(store, at_s=NOW + 30), stores))
    assert sorted(len(each.claimed) for each in found) == [0, 0, 1]
    assert {each.states[MINI] for each in found if each.claimed} == {State(3, NOW, NOW + 60, is_asked=True)}
    assert sync(stores[0], at_s=NOW + 59).claimed == ()
    assert sync(stores[1], at_s=NOW + 60).claimed == [MINI], "nobody heard of the call that tried"
    assert sync(stores[2], Event(MINI, "well", NOW + 61), at_s=NOW + 62).states == {}
    assert [sync(store).states for store in stores] == [{}, {}, {}]


def test_many_that_tell_at_once_lose_nothing(another: Open) -> None:
    stores = [another() for _ in range(4)]
    targets = [MINI._replace(model=str(number)) for number in range(5)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda store: [sync(store, failed(NOW, target)) for target in targets], stores))
    assert {state.failures for state in sync(stores[0]).states.values()} == {4}


def test_a_model_that_nobody_asks_any_more_is_forgotten(another: Open) -> None:
    store = another()
    sync(store, *[failed(NOW)] * 3, failed(NOW, MINI._replace(host="eu")))
    assert len(sync(store, at_s=NOW + FORGET_S).states) == 2
    assert sync(store, at_s=NOW + FORGET_S + 31) == ({}, [])
