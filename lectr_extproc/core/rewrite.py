"""What a request needs so that its provider accepts it: another path, and sometimes another model name in the body.

Path rewrites are named by a column of the provider's row. A body is only ever rebuilt from the client's own bytes, so
doing it twice, or for another provider, is safe; what is not the model's name stays byte for byte.
"""

import json
from urllib.parse import parse_qsl, quote, unquote_plus

from lectr_extproc.core.facts import Traits
from lectr_extproc.core.json_members import members, put
from lectr_extproc.core.multipart import replace_field
from lectr_extproc.core.tables import Provider, Site

V1 = "/v1"

DEPLOYMENT_PATHS = frozenset(
    {
        "/completions",
        "/chat/completions",
        "/embeddings",
        "/audio/transcriptions",
        "/audio/translations",
        "/audio/speech",
        "/images/generations",
        "/images/edits",
    }
)
"Azure's dated API names the deployment in these paths and in the body of every other."

_FOUNDRY = ("/anthropic/", "/models/", "/api/projects/")
"Paths of Azure's that are not below `/openai`; their api-versions are other ones than an org's."


def replace_prefix(facts: Traits, provider: Provider, site: Site, _model_sent: str | None) -> str:
    """The client's `/v1`, or the prefix the provider's own SDK writes, becomes the prefix of the address."""
    elsewhere = ((known, _folder(provider, site) + instead) for known, instead in provider.elsewhere)
    under_prefix = ((known, site.upstream.prefix) for known in (provider.prefix, V1) if known)
    for known, instead in (*elsewhere, *under_prefix):
        if facts.path == known or facts.path.startswith(known + "/"):
            return _with_query(instead + facts.path[len(known) :] or "/", facts.query)
    return verbatim(facts, provider, site)


def verbatim(facts: Traits, provider: Provider, site: Site) -> str:
    """The client's own path: a native API, or one we know nothing about."""
    folder = _folder(provider, site)
    return _with_query(facts.path if facts.path.startswith(folder + "/") else folder + facts.path, facts.query)


def _folder(provider: Provider, site: Site) -> str:
    """Where another address keeps all of a provider: `/llm` of `https://proxy/llm/v1`."""
    prefix = site.upstream.prefix
    own = next((own for own in (provider.prefix, V1) if own and prefix.endswith(own)), prefix)
    return prefix.removesuffix(own)


def azure_path(facts: Traits, _provider: Provider, site: Site, model_sent: str | None) -> str:
    """Azure OpenAI: the deployment in the path for a dated api-version, in the body for `v1`. Claude is beside it.

    A client that already writes Azure's own path keeps it, and an api-version it sends is never overridden.
    https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle
    """
    prefix, version = site.upstream.prefix, site.api_version or ""
    if facts.path.startswith(_FOUNDRY):
        return _with_query(prefix + facts.path, facts.query)
    if facts.path.startswith(V1 + "/messages"):
        return _with_query(f"{prefix}/anthropic{facts.path}", facts.query)
    rest = facts.path.removeprefix(V1) if facts.path.startswith(V1 + "/") else facts.path
    if rest.startswith("/openai/"):
        dated = not rest.startswith("/openai/v1/")
        path = rest
    elif version == "v1":
        path, dated = f"/openai/v1{rest}", False
    elif rest in DEPLOYMENT_PATHS and model_sent:
        path, dated = f"/openai/deployments/{segment(model_sent)}{rest}", True
    else:
        path, dated = f"/openai{rest}", True
    query = facts.query
    if dated and version != "v1" and "api-version" not in dict(parse_qsl(query, keep_blank_values=True)):
        query = f"{query}&api-version={version}" if query else f"api-version={version}"
    return _with_query(prefix + path, query)


def segment(name: str) -> str:
    """A model name as one path segment: nothing in it can climb, end the path or start a query."""
    quoted = quote(name, safe="", errors="replace")
    # URL parsers read `%2E%2E` as `..` too, so dots alone are escaped twice: no deployment has such a name anyway.
    return quoted.replace(".", "%252E") if not quoted.strip(".") else quoted


def rename_model(body: bytes, model_sent: str, boundary: bytes | None = None, *, insert: bool = False) -> bytes:
    """The same form or JSON with another `model`, and no other byte changed. What is neither comes back as it is.

    JSON that has none stays without one, because its path may name it, unless it is to be inserted.
    """
    if boundary is not None:
        return replace_field(body, boundary, b"model", model_sent)
    found = members(body)
    has_model = (insert and found) or any(name == "model" for name, _ in found)
    return put(body, found, "model", json.dumps(model_sent).encode()) if has_model else body


def rename_in_query(query: str, model_sent: str) -> str:
    """The same query with another `model`, where an upgrade names it."""
    parts = (part.partition("=") for part in query.split("&"))
    renamed = quote(model_sent, safe="", errors="replace")
    return "&".join(name + sign + (renamed if unquote_plus(name) == "model" else value) for name, sign, value in parts)


def _with_query(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path
