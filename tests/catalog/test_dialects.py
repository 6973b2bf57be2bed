import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.dialects import ENDPOINTS
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.tables import Endpoint


def endpoint(path: str) -> Endpoint:
    return next(row for row in ENDPOINTS if row.pattern.fullmatch(path))


def model_in(path: str) -> str | None:
    match = endpoint(path).pattern.fullmatch(path)
    return match.groupdict().get("model") if match else None


DIALECTS = {
    "/v1/chat/completions": "openai.chat",
    "/chat/completions": "openai.chat",
    "/v1beta/openai/chat/completions": "openai.chat",
    "/api/v1/chat/completions": "openai.chat",
    "/inference/v1/chat/completions": "openai.chat",
    "/compatibility/v1/chat/completions": "openai.chat",
    "/models/chat/completions": "openai.chat",
    "/v1/fim/completions": "openai.chat",
    "/beta/completions": "openai.completions",
    "/v1/responses/input_tokens": "openai.input_tokens",
    "/v1/responses/compact": "openai.responses",
    "/anthropic/v1/messages": "anthropic.messages",
    "/api/v1/messages": "anthropic.messages",
    "/anthropic/v1/messages/count_tokens": "anthropic.count_tokens",
    "/v1/ocr": "mistral.ocr",
    "/v1/rerank": "cohere.rerank",
    "/api/v1/generation": "other",
    "/v1/completions": "openai.completions",
    "/v1/responses": "openai.responses",
    "/v1/embeddings": "openai.embeddings",
    "/v1/images/generations": "openai.images",
    "/v1/audio/transcriptions": "openai.audio",
    "/v1/videos": "other",
    "/v1/models": "models",
    "/v1/models/gpt-4o": "models",
    "/v1beta/openai/models": "models",
    "/v1/messages": "anthropic.messages",
    "/v1/messages/count_tokens": "anthropic.count_tokens",
    "/v1/messages/batches": "other",
    "/v1/responses/resp_1/cancel": "other",
    "/v1/chat/completions/": "other",
    "/v1beta/openai": "other",
    "/v1/files": "other",
    "/": "other",
    "": "other",
    "/v1/\n": "other",
}


@pytest.mark.parametrize(("path", "dialect"), DIALECTS.items(), ids=map(repr, DIALECTS))
def test_a_path_of_an_api_several_providers_have_names_no_provider(path: str, dialect: str) -> None:
    found = endpoint(path)
    assert (found.dialect, found.native_to, model_in(path)) == (dialect, None, None)


NATIVE = {
    "/openai/deployments/gpt4/chat/completions": ("azure", "openai.chat", "gpt4"),
    "/openai/deployments/emb/embeddings": ("azure", "openai.embeddings", "emb"),
    "/openai/deployments/tts/audio/speech": ("azure", "openai.audio", "tts"),
    "/openai/deployments/old/completions": ("azure", "openai.completions", "old"),
    "/openai/deployments/dalle/images/generations": ("azure", "openai.images", "dalle"),
    "/openai/deployments/x/extensions/chat/completions": ("azure", "other", "x"),
    "/v1beta/models/gemini-2.5-pro:generateContent": ("gemini", "gemini.generate", "gemini-2.5-pro"),
    "/v1/models/gemini-2.5-pro:streamGenerateContent": ("gemini", "gemini.generate", "gemini-2.5-pro"),
    "/v1alpha/tunedModels/mine:countTokens": ("gemini", "gemini.generate", "mine"),
    "/v1beta/models": ("gemini", "other", None),
    "/v1beta/cachedContents": ("gemini", "other", None),
    "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse": (
        "bedrock",
        "bedrock.converse",
        "anthropic.claude-3-haiku-20240307-v1%3A0",
    ),
    "/model/x/count-tokens": ("bedrock", "bedrock.count_tokens", "x"),
    "/v1/chat": ("cohere", "cohere.chat", None),
    "/v2/chat": ("cohere", "cohere.chat", None),
    "/v1/generate": ("cohere", "cohere.chat", None),
    "/v2/embed": ("cohere", "cohere.embed", None),
    "/v2/rerank": ("cohere", "cohere.rerank", None),
    "/model/x/converse-stream": ("bedrock", "bedrock.converse", "x"),
    "/model/x/invoke": ("bedrock", "bedrock.invoke", "x"),
    "/model/x/invoke-with-response-stream": ("bedrock", "bedrock.invoke", "x"),
    "/api/chat": ("ollama", "ollama", None),
    "/api/generate": ("ollama", "ollama", None),
    "/api/embed": ("ollama", "ollama", None),
    "/api/tags": ("ollama", "models", None),
    "/api/show": ("ollama", "other", None),
    "/api/blobs/sha256:1": ("ollama", "other", None),
    "/v2/audio/transcriptions": ("cohere", "other", None),
    "/upload/v1beta/files": ("gemini", "other", None),
}


@pytest.mark.parametrize(("path", "expected"), NATIVE.items(), ids=NATIVE)
def test_a_native_path_names_its_provider_and_often_the_model(path: str, expected: tuple[str, str, str | None]) -> None:
    found = endpoint(path)
    assert (found.native_to, found.dialect, model_in(path)) == expected


FORMS = {
    "/v1/audio/transcriptions": True,
    "/audio/translations": True,
    "/v1/images/edits": True,
    "/v1/videos": True,
    "/openai/v1/audio/transcriptions": True,
    "/openai/v1/videos": True,
    "/v1/videos/video_1/content": False,
    "/v1/files": False,
    "/openai/v1/files": False,
    "/v1/uploads/upload_1/parts": False,
    "/v1/chat/completions": False,
}


@pytest.mark.parametrize(("path", "takes_form"), FORMS.items(), ids=FORMS)
def test_forms_are_looked_into_where_they_name_a_model(path: str, takes_form: bool) -> None:
    assert endpoint(path).takes_form is takes_form


def test_gemini_wants_its_own_header_on_its_own_paths() -> None:
    native = [row for row in ENDPOINTS if row.native_to == "gemini"]
    assert {row.key_form for row in native} == {"x-goog-api-key"}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches/1"])
def test_anthropics_paths_are_answered_in_its_shape_and_are_its_own_when_nothing_else_is_known(path: str) -> None:
    assert (endpoint(path).home, endpoint(path).shape) == ("anthropic", "anthropic")


@pytest.mark.parametrize(
    ("path", "home"), {"/v1/rerank": "cohere", "/v1/ocr": "mistral", "/v1/fim/completions": "mistral"}.items()
)
def test_an_api_is_its_vendors_when_nothing_else_is_known(path: str, home: str) -> None:
    assert endpoint(path).home == home


def test_everyone_else_is_answered_in_openais_shape() -> None:
    assert {row.shape for row in ENDPOINTS if "messages" not in row.pattern.pattern} == {"openai"}


@pytest.mark.parametrize("path", ["/anthropic/v1/messages", "/anthropic/v1/messages/count_tokens"])
def test_anthropics_layer_at_another_vendor_is_answered_in_its_shape_and_is_not_its_own(path: str) -> None:
    assert (endpoint(path).home, endpoint(path).shape) == (None, "anthropic")


def test_every_provider_named_by_a_path_is_one_there_is() -> None:
    named = {name for row in ENDPOINTS for name in (row.native_to, row.home) if name}
    assert named <= PROVIDERS.keys()


@given(st.text(st.characters()) | st.text(alphabet="/v1betaopenmdls:%.\n"))
def test_every_path_belongs_somewhere(path: str) -> None:
    assert endpoint(path).dialect
