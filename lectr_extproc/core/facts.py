"""What is known about a request: the vocabulary that decide() reads, and how it is learnt from headers and metadata.

Facts hold what was learnt, never the request: no prompt is in them, and a body only while a call needs it.
"""

import dataclasses
from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field
from typing import Any, TypeVar
from urllib.parse import unquote_plus

import orjson

from lectr_extproc.core import words
from lectr_extproc.core.credential import HEADERS, Credential, take
from lectr_extproc.core.json_members import read
from lectr_extproc.core.multipart import boundary_of, read_field
from lectr_extproc.core.quick import quick_dataclass

OURS = ("tier", "prefer", "fallback")
"The members of a body that are for the gateway."
_OPTIONS = ("stream", "stream_options", "data_sources")

_LISTS = frozenset({words.KEY_HEADER, words.PROVIDER_HEADER, *(form.value for form in HEADERS)})
"The headers of which every copy counts."

DECIDING = _LISTS | {
    *(":method", ":path", "content-type"),
    *(words.FEATURE_HEADER, words.TASK_HEADER, words.FALLBACK_HEADER, words.CLIENT_CERTIFICATE),
}
"The headers whose values decide. Of every other one it is whether it is there, and whether a key of ours is in it."

TOLD = frozenset({"content-length", "traceparent"})
"The headers whose values are one call's own, and are read nevertheless."

_READ = DECIDING | TOLD


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What of a request decides: those that have all of it in common are decided alike, but for the exceptions that
    ask for Facts, and core/memo.py knows which those are."""

    method: str
    path: str
    "Without the query."
    query: str
    "As the client wrote it, less the keys in it."
    lectr_keys: tuple[str, ...] = field(repr=False)
    "Every differing one, from X-Lectr-Key and from where a provider's key would be."
    providers_named: tuple[str, ...]
    feature: str | None
    task: str | None
    credential: Credential | None
    header_names: frozenset[str]
    headers_with_our_keys: frozenset[str]
    "Those with a key of ours in their value, wherever in it."
    content_type: str
    "Lower case, without parameters."
    has_body: bool
    is_upgrade: bool
    model: str | None
    "As the client requested it."
    streaming: bool
    options: Mapping[str, object]
    "What of the body bears on asking for usage, and on how long the answer may be."
    tier: words.Wanted | None = None
    "Of which a model is to be chosen, whatever `model` says."
    prefer: words.Prefer | None = None
    "What is to count in the choice."
    at_most: words.Wanted | None = None
    "The tier that a limit of the org leaves for this call, whatever else is asked for."
    fallback: tuple[str, ...] | None = None
    "Models to ask where the first one fails, in order. What the body says comes before the header."
    names_fallback: bool = False
    "Envoy found that name in the body's bytes; whether it is such a list there, only the body tells."
    boundary: bytes | None = None
    "Where the body is a form in parts."
    is_read_by_envoy: bool = False
    "Envoy holds the whole body already: it is JSON, and within the limit."
    workload: str | None = None
    "Whose certificate the call came with, where settings say who tells it. Nothing that a client can write."


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Facts(Traits):
    """One request, as far as routing is concerned: what decides, and what is this call's own."""

    content_length: int | None
    at_s: int = 0
    "When it came, in seconds since 1970."
    call_id: str = ""
    "Random, for what is to be by chance."
    traceparent: str | None = None
    "The client's, as it came."
    sticky: Mapping[str, str] = field(default_factory=dict, repr=False)
    "The values of the headers that rules ask for, by name."
    body: bytes | None = field(default=None, repr=False)
    "Only once it was asked for."
    used_up: frozenset[str] = frozenset()
    "Models whose limits have no room for this call: where another may be chosen these are not."

    @property
    def body_may_be_read(self) -> bool:
        """Asking for a body that never comes would hang an upgrade or a header-only request."""
        return self.has_body and not self.is_upgrade and self.body is None


def read_facts(
    headers: Sequence[tuple[str, str]],
    request_metadata: Mapping[str, object],
    *,
    end_of_stream: bool,
    at_s: int = 0,
    call_id: str = "",
    sticky: AbstractSet[str] = frozenset(),
    workload: str | None = None,
) -> Facts:
    """Learn what a request's headers and Envoy's reading of its body say. Total: odd input is absent, not an error."""
    one: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    ours = []
    read = _READ | sticky if sticky else _READ
    for name, value in headers:
        # The first of several wins. A value that nobody may decide by is not even kept.
        if name not in one:
            one[name] = value if name in read else ""
        if name in _LISTS:
            lists.setdefault(name, []).extend(value.split(","))  # Envoy may have joined two copies with a comma
        if words.KEY_PREFIX in value and not name.startswith(":"):
            ours.append(name)
    path, _, query = one.get(":path", "").partition("?")
    query, query_key, query_model = _split_query(query)
    is_upgrade = "upgrade" in one or one.get(":method", "") == "CONNECT"
    model = request_metadata.get("model")
    credential, strayed = take(lists, query_key)
    return Facts(
        method=one.get(":method", ""),
        path=path,
        query=query,
        lectr_keys=tuple(dict.fromkeys((*_distinct(lists, words.KEY_HEADER), *strayed))),
        providers_named=_distinct(lists, words.PROVIDER_HEADER),
        feature=label(one.get(words.FEATURE_HEADER)),
        task=label(one.get(words.TASK_HEADER)),
        credential=credential,
        header_names=frozenset(one),
        headers_with_our_keys=frozenset(ours),
        content_type=one.get("content-type", "").partition(";")[0].strip().lower(),
        content_length=length_of(one.get("content-length", "")),
        has_body=not end_of_stream,
        is_upgrade=is_upgrade,
        model=(model if isinstance(model, str) and model else None) or (query_model if is_upgrade else None),
        streaming=request_metadata.get("stream") is True,
        options={
            "stream": request_metadata.get("stream"),
            "stream_options": {"include_usage": request_metadata.get("include_usage")},
            "max_output": request_metadata.get("max_output"),
        },
        traceparent=label(one.get("traceparent")),
        at_s=at_s,
        call_id=call_id,
        sticky={name: one[name] for name in sticky & one.keys()} if sticky else {},
        tier=_one_of(words.WANTED, request_metadata.get("tier")),
        prefer=_one_of(words.PREFERENCES, request_metadata.get("prefer")),
        fallback=_names([*map(str.strip, one[words.FALLBACK_HEADER].split(","))])
        if words.FALLBACK_HEADER in one
        else None,
        names_fallback="fallback" in request_metadata,
        boundary=boundary_of(one.get("content-type", "")),
        is_read_by_envoy=bool(request_metadata),
        workload=workload,
    )


def length_of(text: str) -> int | None:
    """What a content-length says; None where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def with_body(facts: Facts, body: bytes) -> Facts:
    """The same request once its body was seen. A body that is neither a form nor a JSON object teaches nothing."""
    if facts.boundary is not None:
        named, stream = (read_field(body, facts.boundary, field) for field in (b"model", b"stream"))
        return dataclasses.replace(facts, body=body, model=named or facts.model, streaming=stream == "true", options={})
    fields = read_json(body, ("model", *OURS, *_OPTIONS))
    model = fields.get("model")
    return dataclasses.replace(
        facts,
        body=body,
        model=model if isinstance(model, str) and model else facts.model,
        streaming=fields.get("stream") is True or facts.streaming,
        options={name: fields[name] for name in _OPTIONS if name in fields},
        tier=_one_of(words.WANTED, fields.get("tier")),
        prefer=_one_of(words.PREFERENCES, fields.get("prefer")),
        fallback=facts.fallback if (wished := _names(fields.get("fallback"))) is None else wished,
    )


def read_json(body: bytes, names: Container[object] | None = None) -> Mapping[Any, object]:
    """At least the members of these names, or all; what is no object has none."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = read(body, names)  # text cut within an emoji, a number too large, NaN
    return parsed if isinstance(parsed, dict) else {}


_NAMES_AT_MOST = 16


def _names(value: object) -> tuple[str, ...] | None:
    """A list of names; anything else is not for us."""
    if not isinstance(value, list) or len(value) > _NAMES_AT_MOST:
        return None
    return tuple(value) if all(isinstance(name, str) and name for name in value) else None


_Word = TypeVar("_Word", bound=str)


def _one_of(known: Sequence[_Word], value: object) -> _Word | None:
    return next((word for word in known if word == value), None)


def label(text: str | None, limit: int = words.LABEL_LIMIT) -> str | None:
    """A client's free text as the record keeps it: no control characters, cut, and absent when empty."""
    if not text:
        return None
    kept = text if text.isprintable() else "".join(filter(str.isprintable, text))
    return kept.strip()[:limit].rstrip() or None


def known_task(task: str | None) -> str | None:
    """One of the five tasks recommendations understand, in any letter case and either spelling."""
    name = (task or "").lower().replace("summarization", "summarisation")
    return name if name in words.TASKS else None


def _distinct(lists: Mapping[str, Sequence[str]], name: str) -> tuple[str, ...]:
    """Every differing value of a header."""
    return tuple(dict.fromkeys([part.strip() for part in lists.get(name, ())]))


_KEY_PARAMETERS = frozenset({"key", "api-key"})
"Where Google's and Azure's APIs take a key in the query."


def _split_query(query: str) -> tuple[str, str | None, str | None]:
    """Take keys out of the query, leave every other byte of it, and read an upgrade's model."""
    kept, key, model = [], None, None
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if words.KEY_PREFIX in unquote_plus(part):
            continue
        if unquote_plus(name).lower() in _KEY_PARAMETERS:
            key = key or unquote_plus(value) or None
            continue
        if unquote_plus(name) == "model":
            model = model or unquote_plus(value) or None
        kept.append(part)
    return "&".join(kept), key, model
