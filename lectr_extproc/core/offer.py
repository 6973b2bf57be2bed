"""Which models there are to call, as the SDKs of OpenAI and Anthropic ask for them: `GET /v1/models`.

Documents are written once for each set of providers an org reaches, and for each day: some models retire.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from urllib.parse import parse_qs

import orjson

from lectr_extproc.core.detect import detect
from lectr_extproc.core.tables import Known, Models, Provider
from lectr_extproc.core.words import Shape

PAGE, LARGEST_PAGE = 20, 1000
"How many models Anthropic's API lists at once, where a client does not say and at most."
RELEASED = 0
"When a model came out, which the catalogue does not tell: the epoch, as Anthropic's API has it for unknown dates."
KEPT = 32
"How many sets of providers are remembered: those with an address of their own, with and without those an org sites."


@dataclass(frozen=True, slots=True)
class Listing:
    """What one org is offered on one day: documents by the name that leads to each model."""

    openai: Mapping[str, bytes]
    anthropic: Mapping[str, bytes]
    owners: Mapping[str, tuple[str, str]]
    "Provider and model of each name that is a model's."

    def only(self, may_use: Callable[[str, str], bool]) -> "Listing":
        """What is left of it for an org that may not use all."""
        names = [name for name in self.openai if name not in self.owners or may_use(*self.owners[name])]
        return Listing({name: self.openai[name] for name in names}, {n: self.anthropic[n] for n in names}, self.owners)


class Offer:
    """Every model there is, and whose each name is."""

    def __init__(
        self, lineup: Mapping[tuple[str, str], Known], models: Models, providers: Mapping[str, Provider]
    ) -> None:
        self._lineup, self._models, self._providers = lineup, models, providers
        self._listing = lru_cache(KEPT)(self._write)

    def listing(self, reached: AbstractSet[str], at_s: int, words: tuple[str, ...] = ()) -> Listing:
        """What is offered by the providers that an org reaches, after the words for which a model is chosen."""
        return self._listing(frozenset(reached), at_s // 86400, words)

    def _write(self, reached: frozenset[str], day: int, words: tuple[str, ...]) -> Listing:
        today = datetime.fromtimestamp(day * 86400, UTC).date()
        openai = {word: orjson.dumps(_openai(word, "lectr", Known(word, None))) for word in words}
        anthropic = {word: orjson.dumps(_anthropic(word, Known(word, None))) for word in words}
        owners = {}
        for (provider, model), known in self._lineup.items():
            if provider in reached and not known.is_retired(today) and (name := self._name(provider, model, words)):
                owners[name] = provider, model
                openai[name] = orjson.dumps(_openai(name, provider, known))
                anthropic[name] = orjson.dumps(_anthropic(name, known))
        return Listing(openai, anthropic, owners)

    def _name(self, provider: str, model: str, words: tuple[str, ...]) -> str | None:
        """The model's own name, else one with its provider before it: whichever leads there."""
        for name in (model, f"{provider}/{model}"):
            found = None if name in words else detect(name, self._models, self._providers, ollama=False)
            if found is not None and found.provider == provider:
                return name
        return None


def one(listing: Listing, model: str, shape: Shape) -> bytes | None:
    """The document of one model; None where it is not offered."""
    return (listing.anthropic if shape == "anthropic" else listing.openai).get(model)


def every(listing: Listing, query: str, shape: Shape) -> bytes:
    """The list: whole for OpenAI's SDK, a page of it for Anthropic's."""
    if shape == "anthropic":
        return _page(listing.anthropic, query)
    return b'{"object":"list","data":[' + b",".join(listing.openai.values()) + b"]}"


def _page(documents: Mapping[str, bytes], query: str) -> bytes:
    """Behind `after_id`, or before `before_id`; nothing is behind a name that is not in the list.

    https://docs.anthropic.com/en/api/models-list
    """
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    limit = asked.get("limit", "")
    size = min(max(int(limit), 1), LARGEST_PAGE) if limit.isascii() and limit.isdigit() and len(limit) < 9 else PAGE
    names = list(documents)
    start, end = 0, len(names)
    if "after_id" in asked:
        start = names.index(asked["after_id"]) + 1 if asked["after_id"] in documents else end
    elif "before_id" in asked:
        end = names.index(asked["before_id"]) if asked["before_id"] in documents else 0
        start = max(0, end - size)
    page = names[start : min(start + size, end)]
    has_more = start > 0 if "before_id" in asked and "after_id" not in asked else start + size < end
    ends = {"has_more": has_more, "first_id": page[0] if page else None, "last_id": page[-1] if page else None}
    return b'{"data":[' + b",".join(documents[name] for name in page) + b"]," + orjson.dumps(ends)[1:]


def _openai(name: str, provider: str, known: Known) -> dict[str, object]:
    sizes = {"context_window": known.window, "max_output_tokens": known.max_output}
    said = {key: size for key, size in sizes.items() if size is not None}
    return {"id": name, "object": "model", "created": RELEASED, "owned_by": provider, **said}


def _anthropic(name: str, known: Known) -> dict[str, object]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": _moment(datetime.fromtimestamp(RELEASED, UTC).date()),
        "lifecycle": "active" if known.retires is None else "deprecated",
        "retires_at": None if known.retires is None else _moment(known.retires),
        "max_input_tokens": known.window,
        "max_tokens": known.max_output,
    }


def _moment(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
