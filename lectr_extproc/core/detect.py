"""Model name to provider: settings, exact table, explicit prefix, families, then Ollama's tags. Pure, and never raises.

The order is what makes the collisions come out right: exact before prefix, because Groq's ids look like prefixes
(`openai/gpt-oss-120b`); families begin with Bedrock's grammar, because its ids start with family names (`mistral.…`)
and end like Ollama tags (`…-v1:0`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lectr_extproc.core.tables import Models, Provider
from lectr_extproc.core.words import ProviderSource

TAGGED = re.compile(r"(?:[\w.-]+/)?[\w.-]+:[\w.-]+", re.ASCII)
"Ollama's `[namespace/]name:tag`."


_DATE = re.compile(r"(?:-\d{8}|-\d{4}-\d\d-\d\d|-\d{4}|@\d{8})\Z", re.ASCII)
"How providers date a model: `-20261120`, `-2026-11-20`, `-1120`, and Vertex' `@20261120`."


@dataclass(frozen=True, slots=True)
class Detected:
    """The provider a model name belongs to, and the name that provider knows it by."""

    provider: str
    source: ProviderSource
    model_sent: str | None


def detect(model: str, models: Models, providers: Mapping[str, Provider], *, ollama: bool) -> Detected | None:
    """Find the provider of a model; None where no rule knows it."""
    if model in models.registered:
        return Detected(models.registered[model], "registry", model)
    if exact := _exact(model, models):
        return Detected(exact, "exact", model)
    prefix, slash, rest = model.partition("/")
    if slash and rest:
        for provider in providers.values():
            if prefix in prefixes(provider):
                return Detected(provider.id, "prefix", rest)
    name = model.lower()
    if (found := models.any_family.match(name)) and found.lastindex:
        return Detected(models.families[found.lastindex - 1].provider, "prefix", model)
    if ollama and TAGGED.fullmatch(name):
        return Detected("ollama", "prefix", model)
    return None


def prefixes(provider: Provider) -> tuple[str, ...]:
    """The words before a slash that name this provider."""
    return (provider.id, *provider.synonyms, *provider.model_prefixes)


def own_name(model: str, provider: Provider, models: Models) -> str:
    """The name a provider chosen by header knows the model by: its own prefix goes, anyone else's stays."""
    prefix, slash, rest = model.partition("/")
    is_whole = model in models.registered or _exact(model, models)
    return rest if slash and rest and not is_whole and prefix in prefixes(provider) else model


def _exact(model: str, models: Models) -> str | None:
    """Whose exact name it is, or was before a date was put behind it."""
    if (known := models.exact.get(model)) or not model[-1:].isdecimal():
        return known
    return models.exact.get(_DATE.sub("", model))
