import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.offer import Listing, Offer, every, one
from lectr_extproc.core.tables import Known

NOW = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())
LAST_DAY, RETIREMENT = (int(datetime(2026, 12, day, 23, tzinfo=UTC).timestamp()) for day in (10, 11))
EVERYONE = frozenset({*PROVIDERS, "mine"})
MINE = dataclasses.replace(PROVIDERS["custom"], id="mine")
LINEUP = {
    ("openai", "gpt-4o"): Known("gpt-4o", 128_000, 16_384),
    ("openai", "gpt-5"): Known("gpt-5", 272_000, 128_000, retires=date(2026, 12, 11)),
    ("openai", "o1-mini"): Known("o1-mini", 128_000, gone=True),
    ("groq", "openai/gpt-oss-120b"): Known("openai/gpt-oss-120b", None),
    ("anthropic", "claude-opus-4-6"): Known("claude-opus-4-6", 1_000_000, 128_000),
}


def offer(registered: Mapping[str, str] | None = None) -> Offer:
    named = {(owner, name): Known(name, None) for name, owner in (registered or {}).items()}
    models = dataclasses.replace(MODELS, registered=registered or {})
    return Offer({**LINEUP, **named}, models, {**PROVIDERS, "mine": MINE})


def listing(*reached: str, at_s: int = NOW, registered: Mapping[str, str] | None = None) -> Listing:
    return offer(registered).listing(frozenset(reached) or EVERYONE, at_s)


def listed(found: Listing) -> dict[str, str]:
    """The ids of OpenAI's list, each with its owner."""
    document = json.loads(every(found, "", "openai"))
    assert document["object"] == "list"
    return {entry["id"]: entry["owned_by"] for entry in document["data"]}


def test_every_model_of_the_reached_providers_is_listed_with_its_owner() -> None:
    assert listed(listing("openai", "groq")) == {"gpt-4o": "openai", "gpt-5": "openai", "openai/gpt-oss-120b": "groq"}
    assert listed(listing("anthropic")) == {"claude-opus-4-6": "anthropic"}
    assert listed(listing("mistral")) == {}


def test_a_name_that_stands_for_others_is_the_gateways_and_the_model_is_led_to_by_its_provider() -> None:
    found = listed(offer().listing({"openai"}, NOW, ("economy", "gpt-4o")))
    assert found == {"economy": "lectr", "gpt-4o": "lectr", "openai/gpt-4o": "openai", "gpt-5": "openai"}


def test_what_nobody_may_use_is_left_out_by_the_name_that_is_sent() -> None:
    asked = []

    def may_use(provider: str, model: str) -> bool:
        asked.append((provider, model))
        return model != "gpt-4o"

    found = offer().listing({"openai", "groq"}, NOW, ("economy", "gpt-4o")).only(may_use)
    assert listed(found) == {"economy": "lectr", "gpt-4o": "lectr", "gpt-5": "openai", "openai/gpt-oss-120b": "groq"}
    assert found.openai.keys() == found.anthropic.keys()
    assert asked == [("openai", "gpt-4o"), ("openai", "gpt-5"), ("groq", "openai/gpt-oss-120b")]


def test_a_model_is_listed_until_the_day_it_retires() -> None:
    assert "gpt-5" in listed(listing(at_s=LAST_DAY))
    assert "gpt-5" not in listed(listing(at_s=RETIREMENT))


def test_a_registered_model_is_listed_and_another_of_that_name_is_led_to_by_its_provider() -> None:
    found = listed(listing(registered={"gpt-4o": "mine", "Own/Model": "mine"}))
    assert (found["gpt-4o"], found["openai/gpt-4o"], found["Own/Model"]) == ("mine", "openai", "mine")


def test_a_model_that_no_name_leads_to_is_not_listed() -> None:
    found = listed(listing(registered={"gpt-4o": "mine", "openai/gpt-4o": "mine"}))
    assert (found["gpt-4o"], found["openai/gpt-4o"]) == ("mine", "mine")
    assert list(found.values()).count("openai") == 1, "gpt-5 alone"


def test_openais_entries_say_what_is_known() -> None:
    known, unknown = (one(listing(), model, "openai") for model in ("gpt-4o", "openai/gpt-oss-120b"))
    assert json.loads(known or b"") == {
        "id": "gpt-4o",
        "object": "model",
        "created": 0,
        "owned_by": "openai",
        "context_window": 128_000,
        "max_output_tokens": 16_384,
    }
    assert json.loads(unknown or b"") == {
        "id": "openai/gpt-oss-120b",
        "object": "model",
        "created": 0,
        "owned_by": "groq",
    }


def test_anthropics_entries_say_what_is_known() -> None:
    entry = {
        "type": "model",
        "id": "gpt-4o",
        "display_name": "gpt-4o",
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "retires_at": None,
        "max_input_tokens": 128_000,
        "max_tokens": 16_384,
    }
    assert json.loads(one(listing(), "gpt-4o", "anthropic") or b"") == entry
    retiring = {"id": "gpt-5", "display_name": "gpt-5", "max_input_tokens": 272_000, "max_tokens": 128_000}
    assert json.loads(one(listing(), "gpt-5", "anthropic") or b"") == entry | retiring | {
        "lifecycle": "deprecated",
        "retires_at": "2026-12-11T00:00:00Z",
    }


@pytest.mark.parametrize("model", ["o1-mini", "mystery", "GPT-4o", ""])
def test_a_model_that_is_not_listed_has_no_document(model: str) -> None:
    assert (one(listing(), model, "openai"), one(listing(), model, "anthropic")) == (None, None)


MANY = Offer({("openai", f"gpt-{i}"): Known(f"gpt-{i}", None) for i in range(25)}, MODELS, PROVIDERS)


def page(query: str) -> tuple[list[int], bool]:
    document: Any = json.loads(every(MANY.listing({"openai"}, NOW), query, "anthropic"))
    names = [entry["id"] for entry in document["data"]]
    assert (document["first_id"], document["last_id"]) == ((names[0], names[-1]) if names else (None, None))
    assert set(document) == {"data", "has_more", "first_id", "last_id"}
    return [int(name.removeprefix("gpt-")) for name in names], document["has_more"]


PAGES: dict[str, tuple[str, list[int], bool]] = {
    "twenty unless asked otherwise": ("", [*range(20)], True),
    "the rest": ("after_id=gpt-19", [*range(20, 25)], False),
    "as many as asked for": ("limit=3", [0, 1, 2], True),
    "all": ("limit=1000", [*range(25)], False),
    "more than may be": ("limit=1001", [*range(25)], False),
    "exactly all": ("limit=25", [*range(25)], False),
    "none, which is one": ("limit=0", [0], True),
    "behind one": ("limit=2&after_id=gpt-4", [5, 6], True),
    "behind the last": ("after_id=gpt-24", [], False),
    "before one": ("limit=2&before_id=gpt-4", [2, 3], True),
    "before one, up to the first": ("limit=4&before_id=gpt-4", [0, 1, 2, 3], False),
    "before the first": ("before_id=gpt-0", [], False),
    "behind and before, the first word counts": ("limit=2&after_id=gpt-4&before_id=gpt-3", [5, 6], True),
    "behind a stranger": ("after_id=mystery", [], False),
    "before a stranger": ("before_id=mystery", [], False),
    "an escaped name": ("limit=1&after_id=gpt%2D4", [5], True),
    "a limit that is a word": ("limit=many", [*range(20)], True),
    "a limit of another script": ("limit=%D9%A3", [*range(20)], True),
    "an absurd limit": (f"limit={'9' * 5000}", [*range(20)], True),
    "what nobody knows": ("beta=true&&=x", [*range(20)], True),
}


@pytest.mark.parametrize(("query", "models", "has_more"), PAGES.values(), ids=PAGES)
def test_anthropics_list_comes_in_pages(query: str, models: list[int], has_more: bool) -> None:
    assert page(query) == (models, has_more)


@given(st.text(st.characters()) | st.text("after_idbeforlmt=&gp-0123456789%"))
def test_whatever_the_query_there_is_a_page(query: str) -> None:
    page(query)


def test_openais_list_is_whole_whatever_is_asked() -> None:
    assert len(json.loads(every(MANY.listing({"openai"}, NOW), "limit=1", "openai"))["data"]) == 25


def test_a_list_is_written_once_for_a_set_of_providers_and_a_day() -> None:
    ours = offer()
    first = ours.listing({"openai", "groq"}, NOW)
    assert ours.listing({"groq", "openai"}, NOW + 3600) is first
    assert ours.listing({"openai"}, NOW) is not first
    assert ours.listing({"groq", "openai"}, NOW + 86400) is not first


def test_the_words_for_which_a_model_is_chosen_come_first_and_are_nobodys_models() -> None:
    listing = offer().listing(EVERYONE, NOW, ("auto", "economy"))
    assert list(listing.openai)[:3] == ["auto", "economy", "gpt-4o"]
    assert json.loads(listing.openai["auto"]) == {"id": "auto", "object": "model", "created": 0, "owned_by": "lectr"}
    assert json.loads(listing.anthropic["economy"])["display_name"] == "economy"
    assert listing.openai.keys() - offer().listing(EVERYONE, NOW).openai.keys() == {"auto", "economy"}
