"""The official SDKs work through the gateway with nothing but a base URL and a header."""

from typing import Any, NamedTuple

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam

from tests.e2e.answers import INPUT_TOKENS, OUTPUT_TOKENS, TEXT, WORDS, Flavour, error
from tests.e2e.gateway import Gateway
from tests.e2e.scene import ANTHROPIC_KEY, AZURE_API_VERSION, OPENAI_KEY, PROMPT, Providers, assert_meant_for, secret
from tests.e2e.sdks import openai_client

GROQ_KEY, GEMINI_KEY = secret("gsk_"), secret("AIza")
BEARER = ("authorization", f"Bearer {OPENAI_KEY}")
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: ChatCompletionFunctionToolParam = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
CHAT = "/v1/chat/completions"


def test_a_chat_completion_is_answered(client: openai.OpenAI, providers: Providers) -> None:
    completion = client.chat.completions.create(model="gpt-4o", messages=ASKED)

    assert completion.choices[0].message.content == TEXT
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    received = providers["openai"].next_request()
    assert_meant_for(providers["openai"], received, target=CHAT, credential=BEARER)
    assert received.json() == {"model": "gpt-4o", "messages": ASKED}


def test_a_chat_completion_streams_word_by_word(client: openai.OpenAI, providers: Providers) -> None:
    with client.chat.completions.create(model="gpt-4o", messages=ASKED, stream=True) as stream:
        chunks = list(stream)

    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", *WORDS, None]
    received = providers["openai"].next_request()
    assert_meant_for(providers["openai"], received, target=CHAT, credential=BEARER)


def test_a_stream_that_asks_for_its_usage_gets_it(client: openai.OpenAI, providers: Providers) -> None:
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(model="gpt-4o", messages=ASKED, **options) as stream:
        *_, last = list(stream)

    assert last.choices == []
    assert last.usage.total_tokens == INPUT_TOKENS + OUTPUT_TOKENS


def test_a_tool_call_is_answered(client: openai.OpenAI, providers: Providers) -> None:
    completion = client.chat.completions.create(model="gpt-4o", messages=ASKED, tools=[WEATHER])

    assert completion.choices[0].message.tool_calls is not None
    (call,) = completion.choices[0].message.tool_calls
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Bergen"}')
    assert providers["openai"].next_request().json()["tools"] == [WEATHER]


def test_a_tool_call_streams_its_arguments(client: openai.OpenAI, providers: Providers) -> None:
    with client.chat.completions.create(model="gpt-4o", messages=ASKED, tools=[WEATHER], stream=True) as stream:
        calls = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]

    assert "".join(call.function.arguments or "" for call in calls if call.function) == '{"city": "Bergen"}'


def test_embeddings_are_answered(client: openai.OpenAI, providers: Providers) -> None:
    answer = client.embeddings.create(model="text-embedding-3-small", input=PROMPT, encoding_format="float")

    assert answer.data[0].embedding == [0.25, -0.5, 0.125]
    received = providers["openai"].next_request()
    assert_meant_for(providers["openai"], received, target="/v1/embeddings", credential=BEARER)


def test_the_responses_api_is_answered(client: openai.OpenAI, providers: Providers) -> None:
    assert client.responses.create(model="gpt-4o", input=PROMPT).output_text == TEXT
    received = providers["openai"].next_request()
    assert_meant_for(providers["openai"], received, target="/v1/responses", credential=BEARER)


def test_the_responses_api_streams(client: openai.OpenAI, providers: Providers) -> None:
    with client.responses.stream(model="gpt-4o", input=PROMPT) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == TEXT

    assert deltas == WORDS


class Way(NamedTuple):
    """A way to a provider through the OpenAI SDK."""

    model: str
    key: str
    target: str
    credential: str
    "The header that carries the key; `{}` is the key."
    headers: dict[str, str]


WAYS: dict[Flavour, Way] = {
    "openai": Way("gpt-4o", OPENAI_KEY, CHAT, "authorization: Bearer {}", {}),
    "anthropic": Way("claude-sonnet-4-6", ANTHROPIC_KEY, CHAT, "x-api-key: {}", {}),
    "groq": Way("llama-3.3-70b-versatile", GROQ_KEY, "/openai/v1/chat/completions", "authorization: Bearer {}", {}),
    "gemini": Way("gemini-2.5-flash", GEMINI_KEY, "/v1beta/openai/chat/completions", "authorization: Bearer {}", {}),
    "azure": Way(
        "gpt-4o",
        secret(""),
        f"/openai/deployments/gpt-4o/chat/completions?api-version={AZURE_API_VERSION}",
        "api-key: {}",
        {"X-Lectr-Provider": "azure"},
    ),
}


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
@pytest.mark.parametrize("flavour", WAYS)
def test_one_base_url_reaches_every_provider(
    gateway: Gateway, providers: Providers, flavour: Flavour, streaming: bool
) -> None:
    way = WAYS[flavour]
    with openai_client(gateway, way.key, **way.headers) as client:
        if streaming:
            with client.chat.completions.create(model=way.model, messages=ASKED, stream=True) as stream:
                deltas = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
            assert "".join(deltas) == TEXT
        else:
            completion = client.chat.completions.create(model=way.model, messages=ASKED)
            assert completion.choices[0].message.content == TEXT

    received = providers[flavour].next_request()
    name, _, value = way.credential.format(way.key).partition(": ")
    assert_meant_for(providers[flavour], received, target=way.target, credential=(name, value))
    assert [len(provider.requests) for name, provider in providers.items() if name != flavour] == [0, 0, 0, 0]


OPENAI_ERRORS: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
}
ANTHROPIC_ERRORS: dict[int, type[anthropic.APIStatusError]] = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    404: anthropic.NotFoundError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    529: anthropic.OverloadedError,
}


@pytest.mark.parametrize("status", OPENAI_ERRORS)
def test_an_error_of_openai_is_the_one_its_sdk_expects(
    client: openai.OpenAI, providers: Providers, status: int
) -> None:
    refusal = error("openai", status)
    providers["openai"].answer_with(refusal)

    with pytest.raises(OPENAI_ERRORS[status]) as caught:
        client.chat.completions.create(model="gpt-4o", messages=ASKED)

    assert caught.value.status_code == status
    assert caught.value.response.content == refusal.body
    assert caught.value.request_id == "req_0a1b2c3d4e5f"
    assert len(providers["openai"].requests) == 1, "the gateway does not retry a pinned call"


@pytest.mark.parametrize("status", ANTHROPIC_ERRORS)
def test_an_error_of_anthropic_is_the_one_its_sdk_expects(
    claude: anthropic.Anthropic, providers: Providers, status: int
) -> None:
    refusal = error("anthropic", status)
    providers["anthropic"].answer_with(refusal)

    with pytest.raises(ANTHROPIC_ERRORS[status]) as caught:
        claude.messages.create(model="claude-sonnet-4-6", max_tokens=64, messages=[{"role": "user", "content": PROMPT}])

    assert caught.value.status_code == status
    assert caught.value.response.content == refusal.body
    assert caught.value.request_id == "req_011Fjord"
    assert len(providers["anthropic"].requests) == 1, "the gateway does not retry a pinned call"


CLAUDE: dict[str, Any] = {"model": "claude-sonnet-4-6", "messages": [{"role": "user", "content": PROMPT}]}
CLAUDE_TOOL: Any = {"name": "weather", "input_schema": CITY}
X_API_KEY = ("x-api-key", ANTHROPIC_KEY)


def test_a_message_is_answered(claude: anthropic.Anthropic, providers: Providers) -> None:
    message = claude.messages.create(max_tokens=64, **CLAUDE)

    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    received = providers["anthropic"].next_request()
    assert_meant_for(providers["anthropic"], received, target="/v1/messages", credential=X_API_KEY)
    assert len(received.values("anthropic-version")) == 1
    assert received.json() == {"max_tokens": 64, **CLAUDE}


def test_a_message_streams_word_by_word(claude: anthropic.Anthropic, providers: Providers) -> None:
    with claude.messages.stream(max_tokens=64, **CLAUDE) as stream:
        words = list(stream.text_stream)
        message = stream.get_final_message()

    assert words == WORDS
    assert (message.usage.input_tokens, message.usage.output_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    received = providers["anthropic"].next_request()
    assert_meant_for(providers["anthropic"], received, target="/v1/messages", credential=X_API_KEY)


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
def test_a_message_can_use_a_tool(claude: anthropic.Anthropic, providers: Providers, streaming: bool) -> None:
    if streaming:
        with claude.messages.stream(max_tokens=64, tools=[CLAUDE_TOOL], **CLAUDE) as stream:
            content: Any = stream.get_final_message().content
    else:
        content = claude.messages.create(max_tokens=64, tools=[CLAUDE_TOOL], **CLAUDE).content

    assert [(block.type, block.input) for block in content] == [("tool_use", {"city": "Bergen"})]


def test_the_tokens_of_a_message_are_counted(claude: anthropic.Anthropic, providers: Providers) -> None:
    assert claude.messages.count_tokens(**CLAUDE).input_tokens == INPUT_TOKENS
    received = providers["anthropic"].next_request()
    assert_meant_for(providers["anthropic"], received, target="/v1/messages/count_tokens", credential=X_API_KEY)
