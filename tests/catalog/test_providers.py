from datetime import date
from typing import Any

import pytest

from lectr_extproc.catalog.dialects import ENDPOINTS
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.credential import Form
from lectr_extproc.core.inject import Asking
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.tables import Provider
from lectr_extproc.core.upstream import Upstream
from tools.provider_pages import NOTES, PAGES, pages

REACHED = {
    "openai": ("api.openai.com", "/v1", Form.BEARER),
    "anthropic": ("api.anthropic.com", "/v1", Form.X_API_KEY),
    "groq": ("api.groq.com", "/openai/v1", Form.BEARER),
    "gemini": ("generativelanguage.googleapis.com", "/v1beta/openai", Form.BEARER),
    "mistral": ("api.mistral.ai", "/v1", Form.BEARER),
    "cohere": ("api.cohere.com", "/compatibility/v1", Form.BEARER),
    "xai": ("api.x.ai", "/v1", Form.BEARER),
    "cerebras": ("api.cerebras.ai", "/v1", Form.BEARER),
    "deepseek": ("api.deepseek.com", "", Form.BEARER),
    "openrouter": ("openrouter.ai", "/api/v1", Form.BEARER),
    "together": ("api.together.xyz", "/v1", Form.BEARER),
    "fireworks": ("api.fireworks.ai", "/inference/v1", Form.BEARER),
    "bedrock": ("bedrock-runtime.us-east-1.amazonaws.com", "/openai/v1", Form.BEARER),
}


@pytest.mark.parametrize(("id_", "expected"), REACHED.items(), ids=REACHED)
def test_these_providers_are_reached_without_settings(id_: str, expected: tuple[str, str, Form]) -> None:
    row = PROVIDERS[id_]
    upstream = Upstream.parse(id_, row.base_url or "")
    assert (upstream.authority, upstream.prefix, row.key_form) == expected
    assert (upstream.scheme, upstream.port) == ("https", 443)


def test_every_other_provider_waits_for_an_address() -> None:
    waiting = {row.id for row in PROVIDERS.values() if row.base_url is None}
    assert waiting == PROVIDERS.keys() - REACHED.keys()
    assert [row.id for row in PROVIDERS.values() if row.sited_per_org] == ["azure"]


def test_calls_are_moved_in_apis_that_are_no_providers_own() -> None:
    everyones = {row.dialect for row in ENDPOINTS if row.native_to is None} - {"models", "other"}
    spoken = {api for row in PROVIDERS.values() for api in row.apis}
    assert spoken == everyones - {"mistral.ocr"}, "which one has"
    assert all("openai.chat" in row.apis for row in PROVIDERS.values())
    assert {row.id for row in PROVIDERS.values() if "anthropic.count_tokens" in row.apis} == {
        "anthropic",
        "azure",
        "custom",
    }
    assert {row.id for row in PROVIDERS.values() if "anthropic.messages" in row.apis}.isdisjoint(
        {"openai", "groq", "gemini", "mistral", "cohere", "cerebras"}
    )


SYNONYMS = {"google": "gemini", "x-ai": "xai", "grok": "xai"}


def test_a_synonym_names_one_provider_and_is_no_ones_id() -> None:
    assert {synonym: row.id for row in PROVIDERS.values() for synonym in row.synonyms} == SYNONYMS
    assert not SYNONYMS.keys() & PROVIDERS.keys()


KEYS = {
    "sk-proj-abc": "openai",
    "sk-abc": "openai",
    "sk-ant-api03-abc": "anthropic",
    "sk-ant-oat01-abc": "anthropic",
    "sk-or-v1-abc": "openrouter",
    "gsk_abc": "groq",
    "AIzaSyabc": "gemini",
    "xai-abc": "xai",
    "csk-abc": "cerebras",
    "fw_abc": "fireworks",
    "ABSKabc": "bedrock",
    "bedrock-api-key-abc": "bedrock",
    "0123456789abcdef": None,
}


@pytest.mark.parametrize(("key", "owner"), KEYS.items(), ids=KEYS)
def test_the_longest_key_shape_names_one_provider(key: str, owner: str | None) -> None:
    shapes = {shape: row.id for row in PROVIDERS.values() for shape in row.key_shapes}
    assert shapes.get(max((shape for shape in shapes if key.startswith(shape)), key=len, default="")) == owner


def test_no_two_providers_claim_the_same_key_shape() -> None:
    shapes = [shape for row in PROVIDERS.values() for shape in row.key_shapes]
    assert len(shapes) == len(set(shapes))


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=PROVIDERS)
def test_every_row_says_where_it_comes_from_and_fits_the_others(row: Provider) -> None:
    assert row.source.startswith("https://")
    assert row.checked >= date(2026, 1, 1)
    assert row.sited_per_org is None or row.sited_per_org in REFUSALS
    assert row.region is None or row.region in (row.base_url or "")
    assert all(name == name.lower() for name in (*row.synonyms, *dict(row.adds), *row.refuses))


def test_nobody_can_add_a_provider_at_run_time() -> None:
    rows: Any = PROVIDERS
    with pytest.raises(TypeError):
        rows["new"] = PROVIDERS["openai"]


def test_only_those_that_know_the_option_are_asked_for_usage() -> None:
    asked = {row.id: row.asking for row in PROVIDERS.values() if row.asking is not Asking.NEVER}
    assert asked.pop("azure") is Asking.AZURE
    assert asked == dict.fromkeys(("openai", "anthropic", "gemini", "xai", "ollama", "custom", "cerebras"), Asking.YES)


def test_every_provider_has_a_page_that_says_what_the_tables_say() -> None:
    assert {page.name: page.read_text() for page in PAGES.iterdir()} == pages(), "write them anew: make pages"


@pytest.mark.parametrize("id_", PROVIDERS)
def test_every_page_has_something_that_no_table_knows(id_: str) -> None:
    _, _, notes = (PAGES / f"{id_}.md").read_text().partition(NOTES)
    assert notes.strip()
