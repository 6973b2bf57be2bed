"""Providers that fail one after the other, and what each of them may ever receive."""

import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.e2e.answers import Flavour
from tests.e2e.calls import asking, call
from tests.e2e.gateway import Gateway
from tests.e2e.provider import Answer, Cut, Headers, json_answer
from tests.e2e.scene import MESSAGES, OPENAI_KEY, Providers, assert_meant_for, held_in, secret, settings_for

HELD: dict[str, str] = {
    "anthropic": secret("sk-ant-api03-"),
    "gemini": secret("AIza"),
    "groq": secret("gsk_"),
    "xai": secret("xai-"),
}
"The keys that the gateway holds; OpenAI's is the client's."
PATHS: Mapping[Flavour, str] = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/chat/completions",
    "groq": "/openai/v1/chat/completions",
    "gemini": "/v1beta/openai/chat/completions",
}
MODELS: Mapping[Flavour, str] = {
    "openai": "gpt-4o",
    "anthropic": "claude-sonnet-4-6",
    "groq": "llama-3.3-70b-versatile",
    "gemini": "gemini-2.5-flash",
}
STATUSES = (408, 429, 500, 502, 503, 504, 529)
"After each of which the next candidate is asked."


def failing_over(providers: Providers, keys: Path, **failover: float) -> dict[str, Any]:
    """A lectr.yaml where `any` has three candidates. What settings register is not retired, whenever this runs."""
    settings = settings_for(providers)
    for provider in settings["providers"]:
        provider["models"] = [model for name, model in MODELS.items() if name == provider["id"]]
    settings["orgs"][0] |= {
        "credentials": held_in(keys, HELD),
        "aliases": {"any": [MODELS["openai"], MODELS["anthropic"], MODELS["groq"]]},
    }
    # However often a candidate fails, it is asked in its turn.
    return settings | {"failover": {"attempts_max": 3, **failover}, "breaker": {"failures": 1000}}


def refusal(status: int, message: str = "no", headers: Headers | None = None, **more: object) -> Answer:
    return json_answer({"error": {"message": message, **more}}, status=status, headers=headers)


def assert_each_got_its_own(providers: Providers) -> None:
    """Host, path, model and exactly one key, its own, at every provider that was asked."""
    for name, provider in providers.items():
        key = HELD.get(name, OPENAI_KEY)
        header = ("x-api-key", key) if name == "anthropic" else ("authorization", f"Bearer {key}")
        for received in provider.requests:
            assert_meant_for(provider, received, target=PATHS[name], credential=header)
            assert received.json() == {"model": MODELS[name], "messages": MESSAGES}
            assert [other for other in (OPENAI_KEY, *HELD.values()) if other != key and other in repr(received)] == []
            assert ("anthropic-version" in received.names) == (name == "anthropic")


def fail_at_random(gateway: Gateway, providers: Providers, *, calls: int, seed: int) -> list[int]:
    """Calls in a crowd to candidates that fail in every way there is, more often than not; what the clients got."""
    chance = random.Random(seed)
    names = list(MODELS)

    def answer() -> Answer:
        how = chance.random()
        if how < 0.1:
            return Answer(head=b"", pieces=(chance.choice([Cut.RESET, Cut.CLOSE]),))
        if how < 0.15:
            return refusal(401)
        return refusal(chance.choice(STATUSES)) if how < 0.55 else json_answer({"choices": []})

    for name in names:
        providers[name].answer_with(*(answer() for _ in range(calls)))
    bodies = []
    for _ in range(calls):
        first, *others = chance.sample(names, 3)
        bodies.append(asking(MODELS[first], fallback=[MODELS[other] for other in others]))
    with ThreadPoolExecutor(8) as clients:
        return [each.status_code for each in clients.map(lambda body: call(gateway, body=body), bodies)]
