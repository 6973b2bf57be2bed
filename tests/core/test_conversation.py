import math
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.conversation import Conversation, Message, length, read_conversation

TOOL = {"name": "weather", "input_schema": {"type": "object"}}

# One conversation, as four APIs write it: two system texts, a question, a call, its answer, and what is said of it.
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "OpenAI chat": (
        "openai.chat",
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Rain"}, {"type": "text", "text": "in Oslo?"}]},
                {
                    "role": "assistant",
                    "content": "I will look.",
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "w", "arguments": '{"at":1}'}}],
                },
                {"role": "tool", "tool_call_id": "1", "content": "12 mm"},
                {"role": "assistant", "content": "Yes."},
            ],
        },
    ),
    "OpenAI responses": (
        "openai.responses",
        {
            "instructions": "Be brief.",
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "Rain"}, {"type": "input_text", "text": "in Oslo?"}],
                },
                {"type": "reasoning", "summary": [], "encrypted_content": "sealed"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I will look."}]},
                {"type": "function_call", "call_id": "1", "name": "w", "arguments": '{"at":1}'},
                {"type": "function_call_output", "call_id": "1", "output": "12 mm"},
                {"role": "assistant", "content": "Yes."},
            ],
        },
    ),
    "Anthropic messages": (
        "anthropic.messages",
        {
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Rain"}, {"type": "text", "text": "in Oslo?"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "I will look."},
                        {"type": "tool_use", "id": "1", "name": "w", "input": {"at": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "12 mm"}]}
                    ],
                },
                {"role": "assistant", "content": "Yes."},
            ],
        },
    ),
    "Gemini": (
        "gemini.generate",
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Rain"}, {"text": "in Oslo?"}]},
                {
                    "role": "model",
                    "parts": [{"text": "I will look."}, {"functionCall": {"name": "w", "args": {"at": 1}}}],
                },
                {"role": "user", "parts": [{"functionResponse": {"name": "w", "response": "12 mm"}}]},
                {"role": "model", "parts": [{"text": "Yes."}]},
            ],
        },
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_one_conversation_is_the_same_value_in_every_api(name: str) -> None:
    dialect, body = BODIES[name]
    assert read_conversation(body, dialect) == Conversation(
        messages=(
            Message("system", "Be brief."),
            Message("user", "Rain in Oslo?"),
            Message("assistant", "I will look."),
            Message("tool", '{"at":1}'),
            Message("tool", "12 mm"),
            Message("assistant", "Yes."),
        ),
        tool_calls=1,
        tool_results=1,
        needs_tools=True,
    )


# What a model must be able to do, and what counts beside texts: dialect, body, what is not as in an empty conversation.
NEEDS: dict[str, tuple[str, dict[str, Any], dict[str, object]]] = {
    "a picture in chat": (
        "openai.chat",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        {"images": 1, "needs_vision": True, "messages": (Message("user", ""),)},
    ),
    "a recording in chat": (
        "openai.chat",
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"audio": 1, "needs_audio": True, "messages": (Message("user", ""),)},
    ),
    "a spoken answer": ("openai.chat", {"modalities": ["text", "audio"]}, {"needs_audio": True}),
    "a function of the first chat API": (
        "openai.chat",
        {
            "functions": [{"n": 1}],
            "messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}],
        },
        {
            "needs_tools": True,
            "tool_calls": 1,
            "tool_schema_characters": 7,
            "messages": (Message("tool", "{}"),),
        },
    ),
    "JSON in chat": ("openai.chat", {"response_format": {"type": "json_object"}}, {"needs_json": True}),
    "plain text asked for": ("openai.chat", {"response_format": {"type": "text"}}, {}),
    "thinking in chat": ("openai.chat", {"reasoning_effort": "high"}, {"needs_thinking": True}),
    "no thinking in chat": ("openai.chat", {"reasoning_effort": "none"}, {}),
    "the newer name of the largest output": (
        "openai.chat",
        {"max_tokens": 5, "max_completion_tokens": 7},
        {"max_output": 7},
    ),
    "an output that is no number": ("openai.chat", {"max_tokens": True}, {}),
    "a schema in responses": (
        "openai.responses",
        {"text": {"format": {"type": "json_schema"}}, "reasoning": {"effort": "low"}, "max_output_tokens": 9},
        {"needs_json": True, "needs_thinking": True, "max_output": 9},
    ),
    "a bare text in responses": ("openai.responses", {"input": "Hello"}, {"messages": (Message("user", "Hello"),)}),
    "pictures and files that stand alone in responses": (
        "openai.responses",
        {"input": [{"type": "input_image"}, {"type": "input_file"}]},
        {"images": 1, "documents": 1, "needs_vision": True, "messages": (Message("user", ""), Message("user", ""))},
    ),
    "a document of plain text": (
        "anthropic.messages",
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "Dear"}}]}]},
        {"messages": (Message("user", "Dear"),)},
    ),
    "a picture from a tool": (
        "anthropic.messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image"}, {"odd": 1}]}]}
            ]
        },
        {
            "images": 1,
            "needs_vision": True,
            "needs_tools": True,
            "tool_results": 1,
            "messages": (Message("tool", '{"odd":1}'),),
        },
    ),
    "thinking and a schema at Anthropic": (
        "anthropic.messages",
        {"thinking": {"type": "adaptive"}, "output_config": {"format": {"type": "json_schema"}}, "max_tokens": 3},
        {"needs_thinking": True, "needs_json": True, "max_output": 3},
    ),
    "a tool at Anthropic": (
        "anthropic.messages",
        {"tools": [TOOL]},
        {"needs_tools": True, "tool_schema_characters": 51},
    ),
    "what Gemini is shown": (
        "gemini.generate",
        {
            "contents": [
                {
                    "parts": [
                        {"inlineData": {"mimeType": kind}} for kind in ("image/png", "audio/wav", "application/pdf")
                    ]
                }
            ],
            "generationConfig": {
                "maxOutputTokens": 4,
                "responseMimeType": "application/json",
                "thinkingConfig": {"thinkingBudget": 0},
                "responseModalities": ["AUDIO"],
            },
        },
        {
            "images": 1,
            "audio": 1,
            "documents": 1,
            "needs_vision": True,
            "needs_audio": True,
            "needs_json": True,
            "max_output": 4,
            "messages": (Message("user", ""),),
        },
    ),
    "results as tools give them at Gemini": (
        "gemini.generate",
        {"contents": [{"parts": [{"functionResponse": "odd"}, {"functionResponse": {"response": {"mm": 12}}}]}]},
        {
            "needs_tools": True,
            "tool_results": 2,
            "messages": (Message("tool", "odd"), Message("tool", '{"mm":12}')),
        },
    ),
    "a prompt": ("openai.completions", {"prompt": "Once"}, {"messages": (Message("user", "Once"),)}),
    "several prompts": (
        "openai.completions",
        {"prompt": ["Once", "Then", 7], "max_tokens": 2},
        {"max_output": 2, "messages": (Message("user", "Once"), Message("user", "Then"), Message("user", ""))},
    ),
    "a role nobody knows": (
        "openai.chat",
        {"messages": [{"role": ["?"], "content": "Hm"}, {"role": "critic", "content": None}]},
        {"messages": (Message("user", "Hm"), Message("user", ""))},
    ),
    "another API": ("openai.embeddings", {"input": "Hello"}, {}),
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_conversation_tells_what_it_takes_to_answer(name: str) -> None:
    dialect, body, expected = NEEDS[name]
    assert read_conversation(body, dialect) == Conversation(**expected)  # type: ignore[arg-type]


def test_a_window_must_hold_texts_messages_pictures_schemas_and_the_answer() -> None:
    conversation = Conversation(
        messages=(Message("system", "x" * 100), Message("user", "x" * 1000)),
        images=2,
        documents=1,
        tool_schema_characters=50,
        max_output=400,
    )
    assert conversation.tokens == math.ceil((1100 + 2 * 20 + 3 * 3000 + 50) / 3) + 400
    assert Conversation().tokens == 0


def test_a_character_of_a_script_without_spaces_says_what_three_letters_do() -> None:
    assert [length(text) for text in ("", "abc", "é", "привет", "你好", "こんにちは", "안녕", "a你")] == [
        0,
        3,
        1,
        6,
        6,
        15,
        6,
        4,
    ]


def test_the_first_system_text_has_a_length() -> None:
    some = tuple(Message("system", text) for text in ("four", "and more"))
    assert Conversation(messages=some).system_length == 4
    assert Conversation().system_length == 0


def test_no_repr_shows_a_text() -> None:
    for dialect, body in BODIES.values():
        shown = repr(read_conversation(body, dialect))
        assert not [text for text in ("Oslo", "brief", "12 mm", "look") if text in shown]


def test_what_is_nested_too_deep_to_write_is_left_out() -> None:
    deep: object = {"type": "odd"}
    for _ in range(400):
        deep = {"in": deep}
    body = {"messages": [{"role": "tool", "content": [deep]}], "tools": [deep]}
    conversation = read_conversation(body, "openai.chat")
    assert conversation.messages == (Message("tool", ""),)
    assert conversation.tool_schema_characters == 0


WORDS = [
    *sorted({key for _, body, _ in NEEDS.values() for key in body}),
    *("role", "content", "parts", "text", "type", "source", "tool_calls", "function", "arguments", "output"),
    *("functionCall", "function_call", "functionResponse", "inlineData", "mimeType", "system", "systemInstruction"),
]
VALUES = st.sampled_from(
    ["user", "assistant", "tool", "model", "text", "image", "tool_use", "tool_result", "x_call", "x_call_output"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8) | VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=20,
)


@given(
    st.dictionaries(st.sampled_from(WORDS), JSON), st.sampled_from(sorted({dialect for dialect, _ in BODIES.values()}))
)
def test_whatever_the_body_it_is_a_conversation(body: Mapping[str, object], dialect: str) -> None:
    conversation = read_conversation(body, dialect)
    assert conversation.tokens >= 0
    assert {type(message.text) for message in conversation.messages} <= {str}


def test_bodies_of_the_wire_are_read_as_they_come() -> None:
    body = orjson.loads(b'{"messages":[{"role":"user","content":"\\u00e9"}],"max_tokens":-1}')
    assert read_conversation(body, "openai.chat") == Conversation(messages=(Message("user", "é"),))
