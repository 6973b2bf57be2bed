"""ENDPOINTS: which API a path belongs to, in order; the first row that matches the whole path wins.

Native paths come first: they name their provider. The last row takes every other path, which is passed on unread.
"""

import re

from lectr_extproc.core.credential import Form
from lectr_extproc.core.tables import Endpoint, Streams


def _path(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


_OPENAI = r"(?:(?:/openai|/v1beta/openai)?(?:/v1)?|/(?:api|compatibility|inference)/v1|/beta)"
"What stands before OpenAI's paths: `/v1`, or the prefix of whose compatible layer it is."
_FORMS = frozenset({"images/.*", "audio/.*", "videos"})
"OpenAI's paths whose bodies may be forms; of files, which are forms too, none names a model."
_ANTHROPIC = r"/(?:anthropic|api|inference)/v1"
"What stands before Anthropic's paths at other vendors."

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        pattern=_path(r"/openai/deployments/(?P<model>[^/]+)/chat/completions"),
        dialect="openai.chat",
        native_to="azure",
    ),
    Endpoint(
        pattern=_path(r"/openai/deployments/(?P<model>[^/]+)/embeddings"),
        dialect="openai.embeddings",
        native_to="azure",
    ),
    Endpoint(
        pattern=_path(r"/openai/deployments/(?P<model>[^/]+)/completions"),
        dialect="openai.completions",
        native_to="azure",
    ),
    Endpoint(
        pattern=_path(r"/openai/deployments/(?P<model>[^/]+)/images/.*"), dialect="openai.images", native_to="azure"
    ),
    Endpoint(
        pattern=_path(r"/openai/deployments/(?P<model>[^/]+)/audio/.*"), dialect="openai.audio", native_to="azure"
    ),
    Endpoint(pattern=_path(r"/openai/deployments/(?P<model>[^/]+)/.*"), dialect="other", native_to="azure"),
    *(
        Endpoint(
            pattern=_path(rf"/openai(?:/v1)?/{path}"),
            dialect=dialect,
            native_to="azure",
            native_where_sited=True,
            takes_form=path in _FORMS,
        )
        for path, dialect in (
            ("chat/completions", "openai.chat"),
            ("completions", "openai.completions"),
            ("responses", "openai.responses"),
            ("embeddings", "openai.embeddings"),
            ("images/.*", "openai.images"),
            ("audio/.*", "openai.audio"),
            ("videos", "other"),
            ("models(?:/.*)?", "models"),
            (".*", "other"),
        )
    ),
    *(
        Endpoint(
            pattern=_path(rf"/v1(?:beta\d*|alpha)?/(?:models|tunedModels)/(?P<model>[^/:]+):{method}"),
            dialect="gemini.generate",
            native_to="gemini",
            key_form=Form.X_GOOG_API_KEY,
            streams=streams,
        )
        for method, streams in (
            ("streamGenerateContent", Streams.ALWAYS),
            (r"(?:[a-z]+[A-Z]\w*|predict)", Streams.ASKED),
        )
    ),
    Endpoint(
        pattern=_path(r"(?:/upload|/download)?/v1beta\d*/(?!openai(?:/|$)).*"),
        dialect="other",
        native_to="gemini",
        key_form=Form.X_GOOG_API_KEY,
    ),
    Endpoint(
        pattern=_path(r"/model/(?P<model>[^/]+)/converse(?:-stream)?"), dialect="bedrock.converse", native_to="bedrock"
    ),
    Endpoint(
        pattern=_path(r"/model/(?P<model>[^/]+)/invoke(?:-with-response-stream)?"),
        dialect="bedrock.invoke",
        native_to="bedrock",
    ),
    Endpoint(
        pattern=_path(r"/model/(?P<model>[^/]+)/count-tokens"), dialect="bedrock.count_tokens", native_to="bedrock"
    ),
    Endpoint(pattern=_path(r"/v[12]/chat|/v1/generate"), dialect="cohere.chat", native_to="cohere"),
    Endpoint(pattern=_path(r"/v[12]/embed"), dialect="cohere.embed", native_to="cohere"),
    Endpoint(pattern=_path(r"/v2/rerank"), dialect="cohere.rerank", native_to="cohere"),
    Endpoint(pattern=_path(r"/v2/.*"), dialect="other", native_to="cohere"),
    Endpoint(
        pattern=_path(r"/api/(?:chat|generate)"),
        dialect="ollama",
        native_to="ollama",
        streams=Streams.UNLESS_REFUSED,
    ),
    Endpoint(pattern=_path(r"/api/(?:embed|embeddings)"), dialect="ollama", native_to="ollama"),
    Endpoint(pattern=_path(r"/api/tags"), dialect="models", native_to="ollama"),
    Endpoint(
        pattern=_path(r"/api/(?:show|ps|version|pull|push|create|copy|delete|blobs/.*)"),
        dialect="other",
        native_to="ollama",
    ),
    Endpoint(pattern=_path(r"/v1/messages"), dialect="anthropic.messages", home="anthropic", shape="anthropic"),
    Endpoint(
        pattern=_path(r"/v1/messages/count_tokens"),
        dialect="anthropic.count_tokens",
        home="anthropic",
        shape="anthropic",
    ),
    # The Anthropic layers of Azure and Bedrock, OpenRouter and Fireworks.
    Endpoint(pattern=_path(_ANTHROPIC + r"/messages"), dialect="anthropic.messages", shape="anthropic"),
    Endpoint(
        pattern=_path(_ANTHROPIC + r"/messages/count_tokens"), dialect="anthropic.count_tokens", shape="anthropic"
    ),
    Endpoint(pattern=_path(r"/v1/messages/.*"), dialect="other", home="anthropic", shape="anthropic"),
    Endpoint(pattern=_path(_OPENAI + r"/chat/completions"), dialect="openai.chat"),
    Endpoint(pattern=_path(r"/models/chat/completions"), dialect="openai.chat"),
    Endpoint(pattern=_path(_OPENAI + r"/completions"), dialect="openai.completions"),
    Endpoint(pattern=_path(_OPENAI + r"/responses(?:/compact)?"), dialect="openai.responses"),
    Endpoint(pattern=_path(_OPENAI + r"/responses/input_tokens"), dialect="openai.input_tokens"),
    Endpoint(pattern=_path(_OPENAI + r"/embeddings"), dialect="openai.embeddings"),
    # Jina, vLLM and others have it too, in Cohere's shape.
    Endpoint(pattern=_path(r"/v1/rerank"), dialect="cohere.rerank", home="cohere"),
    Endpoint(pattern=_path(r"/v1/fim/completions"), dialect="openai.chat", home="mistral"),
    Endpoint(pattern=_path(r"/v1/ocr"), dialect="mistral.ocr", home="mistral"),
    Endpoint(pattern=_path(r"(?:/openai)?(?:/v1)?/images/.*"), dialect="openai.images", takes_form=True),
    Endpoint(pattern=_path(r"(?:/openai)?(?:/v1)?/audio/.*"), dialect="openai.audio", takes_form=True),
    Endpoint(pattern=_path(r"(?:/openai)?(?:/v1)?/videos"), dialect="other", takes_form=True),
    Endpoint(pattern=_path(r"/v1/models(?:/.*)?"), dialect="models", answered_here=True),
    Endpoint(pattern=_path(r"(?:/openai|/v1beta/openai)?(?:/v1)?/models(?:/.*)?"), dialect="models"),
    Endpoint(pattern=re.compile(r".*", re.DOTALL), dialect="other"),
)
