import re
from urllib.parse import unquote, urlsplit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.rewrite import azure_path, rename_in_query, rename_model, replace_prefix, segment, verbatim
from lectr_extproc.core.tables import Site
from lectr_extproc.core.upstream import Upstream
from tests.core.given import AZURE, azure_site, request

OPENAI, GROQ, GEMINI = (PROVIDERS[name].base_url or "" for name in ("openai", "groq", "gemini"))

PREFIXES = {
    "the same prefix": ("openai", OPENAI, "/v1/chat/completions", "/v1/chat/completions"),
    "a longer one": ("groq", GROQ, "/v1/chat/completions", "/openai/v1/chat/completions"),
    "one without v1": ("gemini", GEMINI, "/v1/embeddings", "/v1beta/openai/embeddings"),
    "the query stays": ("groq", GROQ, "/v1/models?limit=2&after=a%20b", "/openai/v1/models?limit=2&after=a%20b"),
    "the provider's own prefix": ("groq", GROQ, "/openai/v1/models", "/openai/v1/models"),
    "the provider's own prefix at another address": ("groq", "http://h:1/p", "/openai/v1/models", "/p/models"),
    "the prefix alone": ("groq", GROQ, "/v1", "/openai/v1"),
    "a custom path": ("openai", "http://h:8000/llm/v1", "/v1/models", "/llm/v1/models"),
    "an address without a path": ("openai", "http://h:8000", "/v1/models", "/models"),
    "an address without a path, the prefix alone": ("openai", "http://h:8000", "/v1", "/"),
    "a word that only begins so": ("groq", GROQ, "/v1x/models", "/v1x/models"),
    "another version": ("groq", GROQ, "/v2/chat", "/v2/chat"),
    "no prefix": ("groq", GROQ, "/chat/completions", "/chat/completions"),
    "a path below": ("openai", "http://h/p", "/v1/../admin", "/p/../admin"),
    "escapes stay": ("groq", GROQ, "/v1/models/a%2Fb", "/openai/v1/models/a%2Fb"),
    "the star": ("openai", OPENAI, "*", "*"),
    "no prefix at the provider": ("deepseek", "https://api.deepseek.com", "/v1/chat/completions", "/chat/completions"),
    "a path that is elsewhere": ("deepseek", "http://h/v1", "/v1/completions", "/beta/completions"),
    "a path below one that is elsewhere": (
        "cohere",
        "http://h/compatibility/v1",
        "/v1/models/m?a=1",
        "/v1/models/m?a=1",
    ),
    "a path that is elsewhere below a proxy's folder": (
        "cohere",
        "http://h/ours/compatibility/v1",
        "/v1/rerank",
        "/ours/v1/rerank",
    ),
    "a path that is elsewhere below a proxy's folder with a prefix of its own": (
        "cohere",
        "https://proxy/llm/v1",
        "/v1/rerank",
        "/llm/v1/rerank",
    ),
    "Claude at Bedrock below a proxy's folder": (
        "bedrock",
        "https://proxy/llm/v1",
        "/v1/messages",
        "/llm/anthropic/v1/messages",
    ),
    "a word that begins as one that is elsewhere": ("cohere", "http://h/c/v1", "/v1/rerankers", "/c/v1/rerankers"),
}


@pytest.mark.parametrize(("provider", "base", "client", "sent"), PREFIXES.values(), ids=PREFIXES)
def test_the_clients_prefix_becomes_the_addresses(provider: str, base: str, client: str, sent: str) -> None:
    site = Site(upstream=Upstream.parse(provider, base))
    assert replace_prefix(request(path=client), PROVIDERS[provider], site, "m") == sent


NATIVE = {
    "at its own address": ("gemini", GEMINI, "/v1beta/models", "/v1beta/models"),
    "below a proxy's folder": ("ollama", "http://h/ours/v1", "/api/chat", "/ours/api/chat"),
    "below a proxy's folder, with a longer prefix": ("gemini", "http://h/g/v1beta/openai", "/v1beta/x", "/g/v1beta/x"),
    "below a folder whose prefix is not its own": ("cohere", "https://proxy/llm/v1", "/v2/chat", "/llm/v2/chat"),
    "Gemini's own below such a folder": (
        "gemini",
        "https://proxy/llm/v1",
        "/v1beta/models/m:generateContent",
        "/llm/v1beta/models/m:generateContent",
    ),
    "Bedrock's own below such a folder": (
        "bedrock",
        "https://proxy/llm/v1",
        "/model/m/converse",
        "/llm/model/m/converse",
    ),
    "below a folder that the client writes too": (
        "openrouter",
        "http://h/api/v1",
        "/api/v1/credits",
        "/api/v1/credits",
    ),
    "at an address that has another prefix": ("openai", "http://h/p", "/what?ever=1&key=k&", "/what?ever=1&"),
    "no path": ("openai", OPENAI, "*", "*"),
}


@pytest.mark.parametrize(("provider", "base", "client", "sent"), NATIVE.values(), ids=NATIVE)
def test_a_path_we_know_nothing_about_stays_as_it_is(provider: str, base: str, client: str, sent: str) -> None:
    site = Site(upstream=Upstream.parse(provider, base))
    assert verbatim(request(path=client), PROVIDERS[provider], site) == sent


V = "api-version=2024-02-01"
DATED = {
    "chat": ("/v1/chat/completions", f"/openai/deployments/gpt4/chat/completions?{V}"),
    "chat without v1": ("/chat/completions", f"/openai/deployments/gpt4/chat/completions?{V}"),
    "completions": ("/v1/completions", f"/openai/deployments/gpt4/completions?{V}"),
    "embeddings": ("/v1/embeddings", f"/openai/deployments/gpt4/embeddings?{V}"),
    "speech": ("/v1/audio/speech", f"/openai/deployments/gpt4/audio/speech?{V}"),
    "transcriptions": ("/v1/audio/transcriptions", f"/openai/deployments/gpt4/audio/transcriptions?{V}"),
    "images": ("/v1/images/generations", f"/openai/deployments/gpt4/images/generations?{V}"),
    "responses, which no deployment has": ("/v1/responses", f"/openai/responses?{V}"),
    "models": ("/v1/models", f"/openai/models?{V}"),
    "another query": ("/v1/models?a=1", f"/openai/models?a=1&{V}"),
    "the client's own version": ("/v1/models?api-version=2025-01-01", "/openai/models?api-version=2025-01-01"),
    "the client's own version, empty": ("/v1/models?api-version=", "/openai/models?api-version="),
    "the client's own version, escaped": ("/v1/models?api%2Dversion=x", "/openai/models?api%2Dversion=x"),
    "Azure's own path": (
        "/openai/deployments/mine/chat/completions",
        f"/openai/deployments/mine/chat/completions?{V}",
    ),
    "Azure's own path and version": (
        "/openai/deployments/mine/chat/completions?api-version=x",
        "/openai/deployments/mine/chat/completions?api-version=x",
    ),
    "Azure's own path with what could climb": (
        "/openai/deployments/%2e%2e/chat/completions",
        f"/openai/deployments/%2e%2e/chat/completions?{V}",
    ),
    "Azure's v1 path": ("/openai/v1/chat/completions", "/openai/v1/chat/completions"),
    "Claude, which is beside it": ("/v1/messages?beta=true", "/anthropic/v1/messages?beta=true"),
    "tokens of Claude's": ("/v1/messages/count_tokens", "/anthropic/v1/messages/count_tokens"),
    "Claude's own path": ("/anthropic/v1/messages", "/anthropic/v1/messages"),
    "a catalogue model": ("/models/chat/completions?api-version=x", "/models/chat/completions?api-version=x"),
    "a project's": ("/api/projects/p/openai/v1/responses", "/api/projects/p/openai/v1/responses"),
}


@pytest.mark.parametrize(("client", "sent"), DATED.values(), ids=DATED)
def test_a_dated_azure_gets_the_deployment_in_its_path_and_a_version(client: str, sent: str) -> None:
    assert azure_path(request(path=client), PROVIDERS["azure"], azure_site(), "gpt4") == sent


AZURE_V1 = {
    "chat": ("/v1/chat/completions", "/openai/v1/chat/completions"),
    "a query": ("/v1/models?a=1", "/openai/v1/models?a=1"),
    "Azure's v1 path": ("/openai/v1/responses", "/openai/v1/responses"),
    "Azure's dated path": (
        "/openai/deployments/mine/embeddings?api-version=x",
        "/openai/deployments/mine/embeddings?api-version=x",
    ),
    "Azure's dated path, its version for the client to add": (
        "/openai/deployments/mine/embeddings",
        "/openai/deployments/mine/embeddings",
    ),
}


@pytest.mark.parametrize(("client", "sent"), AZURE_V1.values(), ids=AZURE_V1)
def test_azures_v1_api_has_the_deployment_in_the_body_and_no_version(client: str, sent: str) -> None:
    assert azure_path(request(path=client), PROVIDERS["azure"], azure_site("v1"), "gpt4") == sent


def test_azure_behind_a_gateway_keeps_the_gateways_path() -> None:
    site = azure_site("v1", f"{AZURE}/team")
    assert azure_path(request(), PROVIDERS["azure"], site, "gpt4") == "/team/openai/v1/chat/completions"


def test_azure_without_a_deployment_is_left_to_answer_for_itself() -> None:
    assert azure_path(request(), PROVIDERS["azure"], azure_site(), None) == f"/openai/chat/completions?{V}"


SEGMENTS = {
    "an ordinary name": ("gpt-4o_mini.v1~x", "gpt-4o_mini.v1~x"),
    "the parent": ("..", "%252E%252E"),
    "the same place": (".", "%252E"),
    "an escaped parent": ("%2e%2e", "%252e%252e"),
    "a slash": ("a/b", "a%2Fb"),
    "a query": ("a?b#c", "a%3Fb%23c"),
    "blanks and line ends": ("a b\r\n", "a%20b%0D%0A"),
    "beyond ASCII": ("é", "%C3%A9"),
}


@pytest.mark.parametrize(("name", "quoted"), SEGMENTS.values(), ids=SEGMENTS)
def test_a_model_name_is_one_path_segment(name: str, quoted: str) -> None:
    assert segment(name) == quoted


@given(st.text(st.characters(), min_size=1))
def test_whatever_the_model_is_called_it_cannot_leave_its_place(name: str) -> None:
    path = azure_path(request(), PROVIDERS["azure"], azure_site(), name)
    assert path.isascii()
    parts = urlsplit(path).path.split("/")
    assert (parts[:3], parts[4:]) == (["", "openai", "deployments"], ["chat", "completions"])
    assert unquote(parts[3]) not in (".", "..")


RENAMED = {
    "its place, its blanks and what numbers say": (
        b'\n{"x-new": {"model": [1, 2.50, null, "\\u00e9"]},  "model" :\t"openai/gpt-4o"\n,"n":18446744073709551617}\n',
        b'"gpt-4o"',
    ),
    "escapes in the name": (b'{"a": "\\"model\\": 1", "mo\\u0064el": "openai\\/gpt-4o"}', b'"gpt-4o"'),
    "a name that is given twice": (b'{"model": "openai/gpt-4o", "model": "openai/gpt-4o"}', b'"gpt-4o"'),
    "what is no JSON to everyone": (b'{"model": "openai/gpt-4o", "a": ["\\ud83d", NaN, 1e400]}', b'"gpt-4o"'),
    "no name at all": (b'{"model": null}', b'"gpt-4o"'),
}


@pytest.mark.parametrize(("body", "value"), RENAMED.values(), ids=RENAMED)
def test_another_model_is_the_only_change_to_a_body(body: bytes, value: bytes) -> None:
    renamed = rename_model(body, "gpt-4o")
    assert renamed == re.sub(rb'"openai\\?/gpt-4o"|(?<="model": )null', value, body)
    assert rename_model(rename_model(body, 'x"y'), "gpt-4o") == renamed


UNTOUCHED = {
    "no JSON": b"model=gpt-4o",
    "nothing": b"",
    "JSON that is no object": b'["model"]',
    "no model": b'{ "messages": [] }',
    "half an object": b'{"model": "gpt-4o"',
}


@pytest.mark.parametrize("body", UNTOUCHED.values(), ids=UNTOUCHED)
def test_a_body_that_cannot_be_changed_is_the_clients_own(body: bytes) -> None:
    assert rename_model(body, "other") is body


@given(st.binary() | st.dictionaries(st.text(), st.integers(0, 9)).map(orjson.dumps), st.text())
def test_whatever_the_body_renaming_never_raises(body: bytes, name: str) -> None:
    assert rename_model(body, name) is not None


QUERIES = {
    "alone": ("model=groq%2Fx", "model=y%2Fz"),
    "among others, which stay": ("a=%zz&model=groq/x&&b=+&c", "a=%zz&model=y%2Fz&&b=+&c"),
    "twice": ("model=a&mode%6C=b", "model=y%2Fz&mode%6C=y%2Fz"),
    "nowhere": ("amodel=1", "amodel=1"),
}


@pytest.mark.parametrize(("query", "renamed"), QUERIES.values(), ids=QUERIES)
def test_another_model_is_the_only_change_to_a_query(query: str, renamed: str) -> None:
    assert rename_in_query(query, "y/z") == renamed


def test_a_body_without_a_model_gets_one_only_where_it_is_to() -> None:
    assert rename_model(b'{ "n": 1}', "m") == b'{ "n": 1}'
    assert rename_model(b'{ "n": 1}', "m", insert=True) == b'{"model":"m", "n": 1}'
    assert rename_model(b"no object", "m", insert=True) == b"no object"
