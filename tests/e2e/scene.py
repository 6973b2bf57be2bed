"""The scene of every test: one org, its key, five providers, and what each of them must never receive."""

import hashlib
from typing import Any

from tests.e2e.answers import Flavour
from tests.e2e.provider import Provider, Received

ORG = "fjord-works"
ORG_KEY = "lc_key_fjordworks0000000000000000000000000001"
AZURE_API_VERSION = "2024-10-21"

PREFIXES: dict[Flavour, str] = {"openai": "/v1", "anthropic": "/v1", "groq": "/openai/v1", "gemini": "/v1beta/openai"}
CREDENTIAL_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
OURS = ("x-lectr-", "x-forwarded-", "x-envoy-")

Providers = dict[Flavour, Provider]


def settings_for(providers: Providers) -> dict[str, Any]:
    """The smallest lectr.yaml with these providers in place of the real ones."""
    key = {"sha256": hashlib.sha256(ORG_KEY.encode()).hexdigest(), "label": "tests"}
    azure = {"endpoint": providers["azure"].origin, "api_version": AZURE_API_VERSION}
    return {
        "orgs": [{"name": ORG, "keys": [key], "azure": azure}],
        "providers": [{"id": name, "base_url": providers[name].origin + prefix} for name, prefix in PREFIXES.items()],
    }


def assert_meant_for(provider: Provider, received: Received, *, target: str, credential: tuple[str, str]) -> None:
    """The request went where it should, with exactly one credential in this provider's form, and nothing of ours."""
    assert received.target == target
    assert received.values("host") == [f"127.0.0.1:{provider.port}"]
    sent = [(name.lower(), value) for name, value in received.headers if name.lower() in CREDENTIAL_HEADERS]
    assert sent == [credential]
    assert [name for name in received.names if name.startswith(OURS)] == []
    assert ORG_KEY not in repr(received)
