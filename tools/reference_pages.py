"""Writes docs/reference: settings, errors, headers and commands, as the code has them.

A test of tests/test_docs.py fails when a page is stale, or when the code has an error or a header without its line.
"""

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lectr_extproc.cli import build_parser
from lectr_extproc.core import guard, words
from lectr_extproc.core.exceeded import CODES
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.settings_file import json_schema

PAGES = Path(__file__).parents[1] / "docs/reference"
WRITTEN = "<!-- Written by `make pages`. -->"

Schema = Mapping[str, Any]

# --- settings ---------------------------------------------------------------------------------------------------------


def settings() -> Iterator[str]:
    """A table for each section of lectr.yaml, where it is met first."""
    root = json_schema()
    yield "# Settings"
    yield (
        "Everything that `lectr.yaml` may hold; all of it has a default but what is marked *needed*. "
        "[lectr.example.yaml](../../lectr.example.yaml) has it as a file, and `lectr schema` prints the JSON Schema "
        "by which "
        "editors complete it. `lectr check` says every mistake in a file at once."
    )
    yield from _section("", root, root["$defs"], {})


def _section(path: str, section: Schema, defs: Mapping[str, Schema], seen: dict[str, str]) -> Iterator[str]:
    rows, below = [], []
    for name, field in section["properties"].items():
        at = f"{path}{name}"
        default = _default(field) if name not in section.get("required", ()) else "*needed*"
        sections = [kind for kind in _kinds(field) if "$ref" in kind]
        said = field.get("description", "")
        if sections:
            ref, many = sections[0]["$ref"].removeprefix("#/$defs/"), sections[0].get("many", "")
            default = default if default in {"*needed*", "none"} or many else ""
            if ref in seen:
                said = f"{said} As [`{seen[ref]}`](#{_anchor(seen[ref])})."
            else:
                seen[ref] = at + many
                below.append((at + many, defs[ref]))
                said = f"{said or defs[ref].get('description', '')} [Its settings](#{_anchor(at + many)})."
        rows.append((f"`{name}`", _type(field), default, said.strip()))
    yield _table(("setting", "type", "default", "meaning"), rows)
    for at, inner in below:
        yield f"## `{at}`"
        if inner.get("description"):
            yield inner["description"]
        yield from _section(f"{at}.", inner, defs, seen)


def _kinds(field: Schema, many: str = "") -> Iterator[Schema]:
    """What a field may be, with what is in its lists and maps."""
    if "$ref" in field:
        yield {"$ref": field["$ref"], "many": many}
    for kind in field.get("anyOf", ()):
        yield from _kinds(kind, many)
    if "items" in field:
        yield from _kinds(field["items"], many + "[]")
    if isinstance(field.get("additionalProperties"), dict):
        yield from _kinds(field["additionalProperties"], many + ".*")
    if not field.keys() & {"$ref", "anyOf", "items"}:
        yield field


def _type(field: Schema) -> str:
    if "enum" in field:
        return " or ".join(_code(value) for value in field["enum"])
    if "const" in field:
        return _code(field["const"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(kind) for kind in field["anyOf"] if kind.get("type") != "null"))
    if "$ref" in field:
        return "section"
    if field.get("type") == "array":
        of = _type(field["items"]) if "items" in field else "any"
        return "list of sections" if of == "section" else f"list of {of}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"map to {_type(inner)}" if isinstance(inner, dict) else "map"
    bounds = [
        f"{word} {field[name]}"
        for name, word in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤"))
        if name in field
    ]
    kind = str(field.get("type", "any"))
    return ", ".join(["text" if kind == "string" else kind, *bounds])


def _default(field: Schema) -> str:
    if field.get("default") is None:
        return "none"
    return _code(field["default"])


def _anchor(path: str) -> str:
    """As code hosts make it of a heading."""
    return "".join(letter for letter in path.lower() if letter.isalnum() or letter in "_-")


# --- errors -----------------------------------------------------------------------------------------------------------

ADVICE: Mapping[str, str] = {
    "missing_lectr_key": "Send a key of this gateway as `X-Lectr-Key`, or as the SDK's `api_key` where the gateway "
    "holds the provider's.",
    "invalid_lectr_key": "Ask who runs the gateway whether the key was revoked (`orgs[].keys`); send one key, not two.",
    "unknown_workload": "Add the certificate's URI to `orgs[].workloads` ([mesh](../mesh.md)), or send a key.",
    "identity_mismatch": "Send a key of the org that the client's certificate belongs to, or none.",
    "org_disabled": "`orgs[].enabled` is false.",
    "azure_config_missing": "Set `orgs[].azure.endpoint`, or ask for a model of another provider.",
    "model_not_allowed": "`orgs[].blocked` or `orgs[].allowed` leave it out; `GET /v1/models` has what is left.",
    "model_not_found": "Of `GET /v1/models/NAME` only: calls for a model that lectr does not know go to a provider "
    "all the same.",
    "limits_unavailable": "`orgs[].limits.when_store_is_away: closed`, and the ledger's database is away: see "
    "`/healthz`.",
    "request_too_large": "`limits.request_body_bytes`.",
    "gateway_unavailable": "Envoy reaches no lectr: is `lectr serve` up, and is its address in Envoy's cluster "
    "`lectr`? See [doctor](../doctor.md).",
    "provider_unreachable": "Envoy could not connect to the provider: name, network, TLS. The record's `error_type` "
    "says which.",
    "provider_timeout": "The provider did not begin to answer, or paused for longer than "
    "`envoy.stream_idle_timeout_s`.",
    "daily_spend_limit_exceeded": "The day's USD of a [limit](../limits.md) are spent; it begins anew at midnight UTC.",
    "monthly_spend_limit_exceeded": "The month's USD are spent; it begins anew on the first, UTC.",
    "spend_limit_exceeded": "The USD of a rolling window are spent.",
    "rate_limit_exceeded": "Requests per minute. A 429 of a provider's has another code, and no `x-ratelimit-limit` "
    "of ours.",
    "token_limit_exceeded": "Tokens per minute, what the call may take counted in.",
    "concurrent_streams_exceeded": "Streams that are open at a time.",
    "stream_interrupted": "Inside a stream, as its last event: the provider broke off. What came before it is all "
    "there is.",
}
"What to do about each code that is ours, by who reads it."


def errors() -> Iterator[str]:
    """Every answer that is ours and not a provider's."""
    yield "# Errors"
    yield (
        "What a provider answers reaches the client as it is. These few come from the gateway, in the shape that the"
        " client's SDK "
        "understands: OpenAI's, or Anthropic's for Anthropic's paths. The record and the span of a call say who "
        "answered "
        "(`error_source`: `client`, `gateway` or `provider`)."
    )
    rows = [(str(r.status), f"`{code}`", f"`{r.type}`", ADVICE[code]) for code, r in REFUSALS.items()]
    rows += [("429", f"`{code}`", "`rate_limit_error`", ADVICE[code]) for code in CODES.values()]
    rows.append(("200", f"`{guard.CODE}`", "`server_error`, Anthropic's `api_error`", ADVICE[guard.CODE]))
    yield _table(("status", "code", "type", "when, and what to do"), sorted(rows))
    example = REFUSALS["missing_lectr_key"]
    for title, shape in (("OpenAI's shape", "openai"), ("Anthropic's shape", "anthropic")):
        yield f"## {title}"
        told = json.loads(example.body("anthropic" if shape == "anthropic" else "openai"))
        yield f"```json\n{json.dumps(told, indent=2, ensure_ascii=False)}\n```"
    yield (
        "A 429 of ours carries `Retry-After`, `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset` "
        "(epoch seconds), and "
        "`x-should-retry: false` where the wait is longer than an SDK would keep."
    )


# --- headers ----------------------------------------------------------------------------------------------------------

READ: Mapping[str, str] = {
    words.KEY_HEADER: "The key of the client's org (`lc_key_…`). It may stand in the place of the provider's key "
    "instead.",
    words.PROVIDER_HEADER: "The provider to ask, whatever the model's name says.",
    words.FEATURE_HEADER: f"What part of a product calls, on the record and the span; cut at {words.LABEL_LIMIT} "
    "characters.",
    words.TASK_HEADER: f"What the call is for; {', '.join(words.TASKS)} are what recommendations know.",
    words.FALLBACK_HEADER: "Models to ask where the first one fails, in order, with commas between.",
    "traceparent": "The span that this call belongs to, where `telemetry.trust_traceparent` is set.",
    "x-request-id": "Kept on the record; Envoy makes one where there is none.",
    "authorization, x-api-key, api-key, x-goog-api-key": "The provider's key, or ours in its place. Each goes only "
    "to the provider whose key it "
    "looks like ([credentials](../credentials.md)).",
}
TOLD: Mapping[str, str] = {
    "x-model-router-model": "The model that answered.",
    "x-model-router-provider": "Its provider.",
    "x-model-router-tier": "The tier that was chosen from.",
    "x-model-router-auto-tier": "The tier that `auto` made of the conversation.",
    "x-model-router-auto-score": "Its score, 0 to 100.",
}
WITHIN: Mapping[str, str] = {
    words.CLUSTER_HEADER: "Names the route's cluster.",
    words.REWRITTEN_HEADER: "Marks an attempt that lectr has made ready.",
    words.RETRY_HEADER: "Has Envoy go on to the next candidate.",
    words.SHAPE_HEADER: "Whose SDK asks, on an attempt in the portable profile.",
    words.UNANSWERED_HEADER: "What such an attempt comes back with where its provider could not be asked.",
}


def headers() -> Iterator[str]:
    """What is read, what is answered, and what stays between Envoy and lectr."""
    yield "# Headers"
    yield "## What clients may send"
    yield _named(READ)
    yield (
        f"Everything under `{words.OWN_PREFIX}` is taken off before the provider, and none of it but the names above "
        "is read: nothing that a "
        "client sends is taken for a word of the gateway's own. Host, path and the provider's key are written anew; "
        "all else "
        "goes to the provider as it came."
    )
    yield "## What answers carry"
    yield "Only where the gateway chose the model; the answer of a call that pins one stays as the provider wrote it."
    yield _named(TOLD)
    yield "Refusals of limits have headers of their own: [errors](errors.md)."
    yield "## Between Envoy and lectr"
    yield (
        "Taken from clients' requests at the door, and off before the provider; named here for who reads Envoy's logs."
    )
    yield _named(WITHIN)


def _named(headers: Mapping[str, str]) -> str:
    return _table(("header", "meaning"), [(f"`{name.replace(', ', '`, `')}`", said) for name, said in headers.items()])


# --- commands ---------------------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """What each command says of itself."""
    yield "# Commands"
    yield "What each says with `--help`."
    os.environ["COLUMNS"] = "100"
    for name, parser in parsers(build_parser()):
        yield f"## {name}"
        yield f"```text\n{parser.format_help().rstrip()}\n```"


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield parser.prog, parser
    for action in parser._actions:  # noqa: SLF001 (argparse tells them nowhere else)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for inner in action.choices.values():
                yield from parsers(inner)


# --- pages ------------------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """Each page by its name."""
    parts = {"settings.md": settings, "errors.md": errors, "headers.md": headers, "commands.md": commands}
    return {name: "\n\n".join((WRITTEN, *write())) + "\n" for name, write in parts.items()}


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(value: object) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text)
