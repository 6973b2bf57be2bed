"""Writes docs/providers: a page per provider from the tables, and from decisions made for calls that never happen.

What stands below NOTES in a page is written by hand and stays. A test of tests/catalog fails when a page is stale.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from lectr_extproc.catalog.answers import ANSWERS, REPORTED_COSTS
from lectr_extproc.catalog.lineup import CHECKED, LINEUP
from lectr_extproc.catalog.models import MODELS
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.credential import HEADERS, Form
from lectr_extproc.core.decision import choose_route
from lectr_extproc.core.facts import read_facts
from lectr_extproc.core.inject import Asking
from lectr_extproc.core.outcome import Route
from lectr_extproc.core.reach import find_endpoint
from lectr_extproc.core.tables import Provider
from lectr_extproc.settings import compile_settings

PAGES = Path(__file__).parents[1] / "docs/providers"
NOTES = "<!-- Above: written by `make pages`. Below: by hand. -->"

EXAMPLE = {
    "orgs": [
        {
            "name": "acme",
            "keys": [{"sha256": hashlib.sha256(b"").hexdigest()}],
            "azure": {"endpoint": "https://RESOURCE.openai.azure.com"},
        }
    ],
    "providers": [
        {"id": "ollama", "base_url": "http://127.0.0.1:11434"},
        {"id": "custom", "base_url": "http://127.0.0.1:8000/v1"},
    ],
}
"Addresses for those that have none of their own."
SNAPSHOT = compile_settings(EXAMPLE).snapshot

PATHS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/openai/deployments/MODEL/chat/completions",
    "/v1beta/models/MODEL:generateContent",
    "/v1beta/models/MODEL:streamGenerateContent?alt=sse",
    "/model/MODEL/converse",
    "/model/MODEL/converse-stream",
    "/model/MODEL/invoke",
    "/v2/chat",
    "/v2/embed",
    "/v2/rerank",
    "/api/chat",
    "/api/generate",
    "/api/embed",
)
"What clients call; the native ones are shown on their own provider's page only."

CARRIED = {
    Form.BEARER: "`Authorization: Bearer`",
    Form.X_API_KEY: "`x-api-key`",
    Form.API_KEY: "`api-key`",
    Form.X_GOOG_API_KEY: "`x-goog-api-key`",
    Form.NONE: "no key",
}
ASKED = {
    Asking.YES: "asked for with `stream_options.include_usage`; the client does not see it",
    Asking.NEVER: "never asked for",
    Asking.AZURE: "asked for from api-version 2024-09-01-preview on and at `/openai/v1`, but not together with "
    "`data_sources`; the client does not see it",
}
READERS = {"native": "Envoy", "stream": "lectr", "none": "nobody"}


def pages() -> dict[str, str]:
    """Every page as it should be, with the notes it has."""
    written = {f"{row.id}.md": _page(row) + _notes(PAGES / f"{row.id}.md") for row in PROVIDERS.values()}
    return {"README.md": _index(), **written}


def _notes(page: Path) -> str:
    _, found, notes = (page.read_text() if page.exists() else "").partition(NOTES)
    return f"{NOTES}{notes}" if found else f"{NOTES}\n"


def _index() -> str:
    rows = "\n".join(
        f"| [{row.name}]({row.id}.md) | `{row.id}` | {_address(row)} | {CARRIED[row.key_form]} "
        f"| {'yes' if row.asking is not Asking.NEVER else 'no'} | {_dialects(row.native) or 'none'} |"
        for row in PROVIDERS.values()
    )
    return f"""# Providers

Every provider is a row of one table; these pages are written from it (`make pages`). A provider of your own, or
one more of a known kind, needs no code: see `providers:` in [lectr.example.yaml](../../lectr.example.yaml).

| provider | `X-Lectr-Provider` | address | its key travels as | asked for usage on streams | read by Envoy by default |
| --- | --- | --- | --- | --- | --- |
{rows}

All answers that Envoy does not read are read by lectr as they pass: [usage.md](../usage.md). Which path goes where:
[endpoints.md](../endpoints.md). Keys that the gateway holds: [credentials.md](../credentials.md).
"""


def _page(row: Provider) -> str:
    return "\n".join(
        [
            f"# {row.name}",
            "",
            "## What to set",
            "",
            *_settings(row),
            "",
            "## What is found to be its call",
            "",
            *_found(row),
            "",
            "## Where a call goes",
            "",
            "| the client calls | the provider gets | API | the key as | usage read by |",
            "| --- | --- | --- | --- | --- |",
            *_routes(row),
            "",
            "Every path is passed on; one that the provider does not have is answered by the provider itself.",
            "",
            *_traits(row),
            "",
            f"Checked {row.checked} against <{row.source}>.",
            "",
            "",
        ]
    )


def _settings(row: Provider) -> Iterator[str]:
    if row.sited_per_org:
        yield f"`{row.id}: {{endpoint: …}}` in an org of lectr.yaml; an org without one gets `{row.sited_per_org}`."
    elif row.base_url:
        yield f"Nothing is needed. For another address: `providers: [{{id: {row.id}, base_url: …}}]`."
    else:
        yield f"`providers: [{{id: {row.id}, base_url: …}}]`. Until then its calls go to the default provider."
    if row.region:
        yield f"For another region than {row.region}: `providers: [{{id: {row.id}, region: …}}]`."
    if row.key_env:
        yield ""
        held = f"credentials: {{{row.id}: env:{row.key_env}}}"
        if row.sited_per_org:
            address = f"{row.id}: {{endpoint: 'https://…'}}"
            held = f"orgs: [{{name: acme, {address}, {held}}}]"
        yield f"If the gateway holds the key: `{held}`. Else clients send it."


def _found(row: Provider) -> Iterator[str]:
    names = [f"`{word}`" for word in (row.id, *row.synonyms)]
    prefixes = [f"`{word}/MODEL`" for word in (row.id, *row.synonyms, *row.model_prefixes)]
    yield f"- `X-Lectr-Provider:` {' or '.join(names)}"
    yield f"- a model written as {' or '.join(prefixes)}; the prefix is taken off"
    if exact := [f"`{model}`" for model, provider in MODELS.exact.items() if provider == row.id]:
        yield f"- these models: {', '.join(exact)}"
    for family in MODELS.families:
        if family.provider == row.id:
            yield f"- models that begin like this regular expression: `{family.pattern.pattern}`"
    known = [
        f"`{model}`"
        for (provider, model), about in LINEUP.items()
        if provider == row.id and not about.is_retired(CHECKED)
    ]
    if known:
        yield f"- for example {', '.join(known[:8])}"
    for shape in row.key_shapes:
        yield f"- an unknown model with a key that begins with `{shape}`"
    if row.id == "ollama":
        yield "- any other `name:tag`, once it has an address"
    yield f"- models registered for it: `providers: [{{id: {row.id}, models: [NAME]}}]`"


def _routes(row: Provider) -> Iterator[str]:
    for path in PATHS:
        endpoint = find_endpoint(path.partition("?")[0], SNAPSHOT)
        if endpoint.native_to not in {None, row.id}:
            continue
        method = "GET" if path == "/v1/models" else "POST"
        headers = [(":method", method), (":path", path), ("x-lectr-provider", row.id)]
        headers += [("content-type", "application/json"), ("authorization", "Bearer KEY")]
        facts = read_facts(headers, {"model": "MODEL"}, end_of_stream=method == "GET")
        route = choose_route(facts, endpoint, next(iter(SNAPSHOT.orgs_by_key.values())), SNAPSHOT)
        if not isinstance(route, Route):
            continue
        form = next((Form(name) for name in route.sets if name in HEADERS), Form.NONE)
        yield f"| `{path}` | `{route.path}` | {_api(endpoint.dialect)} | {CARRIED[form]} | {READERS[route.observe]} |"


def _traits(row: Provider) -> Iterator[str]:
    if row.stays_bearer:
        yield f"- Tokens that begin with {_code(row.stays_bearer)} stay `Authorization: Bearer`."
    for name, value in row.adds:
        yield f"- `{name}: {value}` is added where the client sends none."
    if row.refuses:
        yield f"- Taken out, because it would answer them with an error: {_code(row.refuses)}."
    yield f"- Usage of OpenAI-shaped streams: {ASKED[row.asking]}."
    if row.native:
        yield f"- Envoy (profile `native`) reads {_dialects(row.native)} itself, but for streams asked for their usage."
    if any(row.id in shape.means_at for answer in ANSWERS.values() for shape in answer.shapes):
        yield "- Its counts in OpenAI's shape mean something else than elsewhere; lectr sets them right."
    if row.id in REPORTED_COSTS:
        yield "- What it says a call cost is what the record says (`pricing_status: provider_reported`)."


def _address(row: Provider) -> str:
    return f"`{row.base_url}`" if row.base_url else "each org's own" if row.sited_per_org else "in settings"


def _api(dialect: str) -> str:
    return {"other": "passed on unread", "models": "model list"}.get(dialect, dialect)


def _dialects(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _code(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text)
