from datetime import date
from typing import Any

import pytest

from lectr_extproc.core.tables import CatalogError
from lectr_extproc.core.usage import (
    COUNT_LIMIT,
    COUNTS,
    HELPERS,
    MEMBERS,
    ModelUsage,
    Path,
    Usage,
    UsageReader,
    UsageShape,
    count,
    number,
    reading,
)

PATHS: dict[str, tuple[str, Any, list[Any]]] = {
    "the document itself": ("", {"a": 1}, [{"a": 1}]),
    "a member": ("a.b", {"a": {"b": 3}}, [3]),
    "null is nothing": ("a.b", {"a": {"b": None}}, []),
    "a member of what has none": ("a.b", {"a": "text"}, []),
    "each element": ("a[].b", {"a": [{"b": 1}, {"c": 2}, 7, {"b": 3}]}, [1, 3]),
    "elements of what is no list": ("a[].b", {"a": {"b": 1}}, []),
    "elements of a kind": ("a[kind=X].b", {"a": [{"kind": "X", "b": 1}, {"kind": "Y", "b": 2}, "X"]}, [1]),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_finds_every_value_it_leads_to(name: str) -> None:
    path, document, found = PATHS[name]
    assert Path(path)(document) == found


NUMBERS: dict[str, tuple[object, int | None]] = {
    "zero": (0, 0),
    "a count": (7, 7),
    "a fraction of a second": (7.2, 8),
    "yes": (True, None),
    "a text": ("7", None),
    "nothing": (None, None),
    "less than nothing": (-1, None),
    "more than metadata can carry": (COUNT_LIMIT, None),
    "more than a float can": (10**400, None),
    "no number": (float("nan"), None),
    "infinity": (float("inf"), None),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_count_is_a_number_of_things_or_nothing(name: str) -> None:
    value, expected = NUMBERS[name]
    assert count(value) == expected


def test_what_is_absent_adds_nothing_to_a_calculation() -> None:
    assert (number({"a": {"b": 4}}, "a.b"), number({}, "a.b"), number({"a": "x"}, "a")) == (4, 0, 0)


def test_a_misspelt_count_fails_when_the_row_is_made_and_names_it() -> None:
    with pytest.raises(CatalogError, match=r"reading 'usage.in': there is no count 'inptu_tokens'"):
        reading("usage.in", "inptu_tokens")


def shape(*readings: Any, **columns: Any) -> UsageShape:
    return UsageShape(
        **{"places": ("usage",), "source": "https://example.com", "checked": date(2026, 11, 21), **columns},
        readings=readings,
    )


def read(*documents: Any, shapes: tuple[UsageShape, ...], provider: str = "custom") -> UsageReader:
    reader = UsageReader(shapes, provider)
    for document in documents:
        reader.take(document)
    return reader


PARTS = shape(
    reading("in", "input_tokens"),
    reading("cached", "input_tokens"),
    reading("cached", "cache_read_tokens", "hits"),
    reading("out", "output_tokens"),
)


def test_several_readings_of_one_count_add_up() -> None:
    usage = read({"usage": {"in": 5, "cached": 3}}, shapes=(PARTS,)).usage()
    assert usage == Usage(input_tokens=8, cache_read_tokens=3)


def test_of_several_places_the_first_that_has_a_number_speaks() -> None:
    both = read({"usage": {"in": 1, "cached": 3, "hits": 4}}, shapes=(PARTS,)).usage()
    other = read({"usage": {"in": 1, "cached": None, "hits": 4}}, shapes=(PARTS,)).usage()
    assert (both and both.cache_read_tokens, other and other.cache_read_tokens) == (3, 4)


def test_nothing_said_is_no_usage_and_not_zero() -> None:
    silent: list[Any] = [{}, {"usage": None}, {"usage": {}}, {"usage": {"else": 1}}, {"usage": [1]}, {"usage": "x"}]
    reader = read(*silent, shapes=(PARTS,))
    assert (reader.usage(), reader.helpers(), reader.raw) == (None, (), {})
    assert read({"usage": {"in": "many"}}, shapes=(PARTS,)).usage() is None


def test_the_last_usage_seen_speaks_for_all_of_them() -> None:
    reader = read({"usage": {"in": 5, "out": 1}}, {"usage": None}, {"usage": {"out": 2}}, shapes=(PARTS,))
    assert reader.usage() == Usage(output_tokens=2)


def test_where_usage_accumulates_a_member_keeps_its_last_value() -> None:
    accumulating = shape(*PARTS.readings, accumulates=True)
    reader = read({"usage": {"in": 5, "out": 1}}, {"usage": {"in": None, "out": 2}}, shapes=(accumulating,))
    assert reader.usage() == Usage(input_tokens=5, output_tokens=2)


def test_members_that_a_stream_adds_without_end_are_not_kept() -> None:
    accumulating = shape(*PARTS.readings, accumulates=True)
    said = ({"usage": {"in": number, f"new{number}": [0] * 1000}} for number in range(1000))
    reader = read(*said, shapes=(accumulating,))
    assert (reader.usage(), len(reader.raw)) == (Usage(input_tokens=999), MEMBERS)


def test_a_member_that_is_only_a_beginning_is_not_counted() -> None:
    starting = shape(*PARTS.readings, places=("usage", "start.usage"), unfinished={"start.usage": frozenset({"out"})})
    assert read({"start": {"usage": {"in": 5, "out": 1}}}, shapes=(starting,)).usage() == Usage(input_tokens=5)


def test_a_shape_that_is_trusted_more_silences_the_others() -> None:
    metrics = shape(reading("n", "output_tokens"), places=("metrics",))
    shapes = (PARTS, metrics)
    first, second = {"usage": {"in": 5}}, {"metrics": {"n": 9}}
    assert read(first, second, shapes=shapes).usage() == Usage(input_tokens=5)
    assert read(second, first, shapes=shapes).usage() == Usage(input_tokens=5)
    assert read(second, shapes=shapes).usage() == Usage(output_tokens=9)


def test_a_provider_may_mean_something_else_by_the_same_words() -> None:
    doubled = shape(*PARTS.readings, means_at={"odd": lambda usage: {**usage, "out": usage["out"] * 2}})
    usages = [read({"usage": {"out": 3}}, shapes=(doubled,), provider=p).usage() for p in ("odd", "custom")]
    assert usages == [Usage(output_tokens=6), Usage(output_tokens=3)]


def test_a_count_beside_the_usage_is_kept_until_the_usage_itself_has_one() -> None:
    beside = shape(
        *PARTS.readings,
        reading("searches", "web_search_requests"),
        beside=lambda document: {"web_search_requests": document["n"]} if "n" in document else {},
    )
    told = {"usage": {"in": 1}, "n": 2}
    assert read(told, {"usage": {"in": 1}}, shapes=(beside,)).usage() == Usage(input_tokens=1, web_search_requests=2)
    both = read(told, {"usage": {"in": 1, "searches": 5}}, shapes=(beside,)).usage()
    assert both == Usage(input_tokens=1, web_search_requests=5)


def test_another_model_that_helped_has_its_own_usage() -> None:
    helped = shape(*PARTS.readings, helpers=lambda usage: [("big", usage["help"]), ("idle", {})])
    reader = read({"usage": {"in": 1, "help": {"in": 7, "out": 8}}}, shapes=(helped,))
    assert reader.helpers() == (ModelUsage("big", Usage(input_tokens=7, output_tokens=8)),)
    assert read({"usage": {"in": 1}}, shapes=(PARTS,)).helpers() == ()


def test_of_helpers_without_end_the_first_are_told_of() -> None:
    helped = shape(*PARTS.readings, helpers=lambda usage: [("big", usage)] * 1000)
    assert len(read({"usage": {"in": 1}}, shapes=(helped,)).helpers()) == HELPERS


def test_every_count_is_absent_until_somebody_gives_it() -> None:
    assert {getattr(Usage(), name) for name in COUNTS} == {None}
