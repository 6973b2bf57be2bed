"""The scene of every test: three orgs and their keys, five providers, and what each of them must never receive."""

import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lectr_extproc.catalog.providers import PROVIDERS
from tests.e2e.answers import Flavour
from tests.e2e.provider import Provider, Received

HUSH = "hush0secret"
"In every key and every prompt of this suite, so that one search finds a leak of any of them."

_numbers = itertools.count(1)


def secret(prefix: str) -> str:
    """A key of its own, that looks like a provider's, or like ours."""
    return f"{prefix}{HUSH}{next(_numbers):024}"


ORG, SECOND_ORG, CLOSED_ORG = "fjord-works", "dal-verk", "closed-works"
ORG_KEY, SECOND_KEY, CLOSED_KEY = (secret("lc_key_") for _ in range(3))
OPENAI_KEY = secret("sk-proj-")
ANTHROPIC_KEY = secret("sk-ant-api03-")
AZURE_API_VERSION = "2024-10-21"
PROMPT = f"Who carries the state? {HUSH}"
MESSAGES = [{"role": "user", "content": PROMPT}]

PREFIXES: dict[Flavour, str] = {"openai": "/v1", "anthropic": "/v1", "groq": "/openai/v1", "gemini": "/v1beta/openai"}
OTHERS = [row.id for row in PROVIDERS.values() if row.base_url and row.id not in PREFIXES]
"Reached without settings as well; the first provider stands in for them."
CREDENTIAL_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
OURS = ("x-lectr-", "x-forwarded-", "x-envoy-")

Providers = dict[Flavour, Provider]


def org(name: str, key: str, **more: object) -> dict[str, Any]:
    """An org with one key, as lectr.yaml has it."""
    return {"name": name, "keys": [{"sha256": hashlib.sha256(key.encode()).hexdigest(), "label": "tests"}], **more}


def settings_for(providers: Providers) -> dict[str, Any]:
    """A small lectr.yaml with these providers in place of the real ones; only the first org has Azure."""
    azure = {"endpoint": providers["azure"].origin, "api_version": AZURE_API_VERSION}
    return {
        "orgs": [
            org(ORG, ORG_KEY, azure=azure),
            org(SECOND_ORG, SECOND_KEY),
            org(CLOSED_ORG, CLOSED_KEY, enabled=False),
        ],
        "providers": [
            *({"id": name, "base_url": providers[name].origin + prefix} for name, prefix in PREFIXES.items()),
            # Nothing in these tests may leave the machine; these are told apart by their paths and records.
            *({"id": name, "base_url": f"{providers['openai'].origin}/{name}/v1"} for name in OTHERS),
            {"id": "vllm", "base_url": f"{providers['openai'].origin}/vllm/v1", "models": ["Org/Model", "gpt-9-ours"]},
        ],
    }


def held_in(directory: Path, keys: Mapping[Any, str]) -> dict[str, str]:
    """Where the gateway finds the keys that it holds: in files, which are written here."""
    for name, key in keys.items():
        (directory / name).write_text(key + "\n")
    return {name: f"file:{directory}/{name}" for name in keys}


def contacted(providers: Providers) -> list[str]:
    """The provider of each request that arrived anywhere."""
    return [name for name, provider in providers.items() for _ in provider.requests]


def credentials_in(received: Received) -> list[tuple[str, str]]:
    """Every credential header of a request."""
    return [(name.lower(), value) for name, value in received.headers if name.lower() in CREDENTIAL_HEADERS]


def assert_nothing_of_ours(received: Received) -> None:
    assert [name for name in received.names if name.startswith(OURS)] == []
    assert "lc_key_" not in repr(received)


def assert_meant_for(provider: Provider, received: Received, *, target: str, credential: tuple[str, str]) -> None:
    """The request went where it should, with exactly one credential in this provider's form, and nothing of ours."""
    assert received.target == target
    assert received.values("host") == [f"127.0.0.1:{provider.port}"]
    assert credentials_in(received) == [credential]
    assert_nothing_of_ours(received)
