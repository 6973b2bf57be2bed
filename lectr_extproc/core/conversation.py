"""One request body as a conversation: who said what, and what a model must be able to do to answer it.

Five APIs' bodies become the same value, so that whoever chooses a model knows no API. Reading is total: what is not as
the API says is left out. Texts are for reading in memory only; no repr shows them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: Mapping[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}

_MESSAGE_CHARACTERS = 20
_PICTURE_CHARACTERS = 3000
_CHARACTERS_PER_TOKEN = 3

_IDEOGRAPHS = bytes(range(0xE3, 0xEE))
"The first UTF-8 bytes of U+3000 to U+DFFF: kana, Chinese characters, Hangul."
_OTHERS = bytes(byte for byte in range(256) if byte not in _IDEOGRAPHS)


def length(text: str) -> int:
    """How much a text says, in letters: a Chinese character, a kana or a Hangul syllable says about what three do."""
    if text.isascii():
        return len(text)
    return len(text) + 2 * len(text.encode("utf-8", "surrogatepass").translate(None, _OTHERS))


class Message(NamedTuple):
    """What one side said. What a tool was told and what it answered is the tool's."""

    role: Role
    text: str

    def __repr__(self) -> str:
        return f"Message({self.role})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What was said, in order, and what it takes to answer."""

    messages: tuple[Message, ...] = ()
    tool_calls: int = 0
    tool_results: int = 0
    images: int = 0
    audio: int = 0
    documents: int = 0
    tool_schema_characters: int = 0
    max_output: int | None = None
    needs_tools: bool = False
    needs_json: bool = False
    needs_vision: bool = False
    needs_audio: bool = False
    needs_thinking: bool = False

    @property
    def system_length(self) -> int:
        """Of the first system text."""
        return next((length(message.text) for message in self.messages if message.role == "system"), 0)

    @property
    def tokens(self) -> int:
        """What a model's window must hold, about: on the high side for prose, as too small a window fails the call.

        A document counts as a picture, which is too little for a long one: its pages cannot be counted here.
        """
        characters = (
            sum(length(message.text) for message in self.messages)
            + _MESSAGE_CHARACTERS * len(self.messages)
            + _PICTURE_CHARACTERS * (self.images + self.documents)
            + self.tool_schema_characters
        )
        return -(-characters // _CHARACTERS_PER_TOKEN) + (self.max_output or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Body:
    """Where an API's body says what."""

    turns: str
    system: tuple[str, ...] = ()
    max_output: tuple[str, ...]
    json: tuple[str, ...] = ()
    "Where it is written that the answer is to be JSON: the type, or a schema."
    thinking: tuple[str, ...] = ()
    modalities: str = "modalities"


_BODIES: Mapping[str, _Body] = {
    "openai.chat": _Body(
        turns="messages",
        max_output=("max_completion_tokens", "max_tokens"),
        json=("response_format.type",),
        thinking=("reasoning_effort",),
    ),
    "openai.responses": _Body(
        turns="input",
        system=("instructions",),
        max_output=("max_output_tokens",),
        json=("text.format.type",),
        thinking=("reasoning.effort",),
    ),
    "openai.completions": _Body(turns="prompt", max_output=("max_tokens",)),
    "anthropic.messages": _Body(
        turns="messages",
        system=("system",),
        max_output=("max_tokens",),
        json=("output_config.format.type", "output_format.type"),
        thinking=("thinking.type",),
    ),
    "gemini.generate": _Body(
        turns="contents",
        system=("systemInstruction", "system_instruction"),
        max_output=("generationConfig.maxOutputTokens", "generation_config.max_output_tokens"),
        json=("generationConfig.responseMimeType", "generation_config.response_mime_type"),
        thinking=("generationConfig.thinkingConfig.thinkingBudget", "generationConfig.thinkingConfig.thinkingLevel"),
        modalities="generationConfig.responseModalities",
    ),
}

_PLAIN = (None, "text", "text/plain", "none", "disabled", 0)
"What says that neither JSON nor thinking is asked for."

_SEEN = {
    "image_url": "images",
    "input_image": "images",
    "image": "images",
    "input_audio": "audio",
    "audio": "audio",
    "file": "documents",
    "input_file": "documents",
    "document": "documents",
}
"What a part that is no text is, by its `type`."


def read_conversation(body: Mapping[str, object], dialect: str) -> Conversation:
    """What a body of this API says. A body of another API, or one that is none, is an empty conversation."""
    where = _BODIES.get(dialect)
    if where is None:
        return Conversation()
    reader = _Reader()
    for name in where.system:
        if body.get(name):
            reader.turn("system", body[name])
    turns = body.get(where.turns)
    for turn in [turns] if isinstance(turns, str) else _list(turns):
        reader.item(turn)
    tools = [*_list(body.get("tools")), *_list(body.get("functions"))]
    outputs = (_at(body, path) for path in where.max_output)
    counts = reader.counts
    return Conversation(
        messages=tuple(reader.messages),
        tool_calls=counts["calls"],
        tool_results=counts["results"],
        images=counts["images"],
        audio=counts["audio"],
        documents=counts["documents"],
        tool_schema_characters=sum(len(_json(tool)) for tool in tools),
        max_output=next((asked for asked in outputs if type(asked) is int and asked > 0), None),
        needs_tools=bool(tools or counts["calls"] or counts["results"]),
        needs_json=any(_at(body, path) not in _PLAIN for path in where.json),
        needs_vision=counts["images"] > 0,
        needs_audio=counts["audio"] > 0
        or any(str(kind).lower() == "audio" for kind in _list(_at(body, where.modalities))),
        needs_thinking=any(_at(body, path) not in _PLAIN for path in where.thinking),
    )


class _Reader:
    """Adds up what turns hold. Parts are told apart by their own words, which no two of the APIs use differently."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.counts: Counter[str] = Counter()

    def item(self, item: object) -> None:
        """One element of the list of turns: a text, a message, or a part that stands on its own."""
        if not isinstance(item, dict):
            self.turn("user", item)
        elif "role" not in item and "type" in item and item["type"] != "message":
            if item["type"] != "reasoning":  # sealed, and not said
                self.turn("user", [item])
        else:
            said = item.get("role")
            role = _ROLES.get(said, "user") if isinstance(said, str) else "user"
            calls = item.get("tool_calls") or item.get("function_call")
            self.turn(role, item.get("content", item.get("parts")), calls)

    def turn(self, role: Role, content: object, calls: object = None) -> None:
        """A message, its texts joined by a space. One that only calls tools, or only brings their answers, is none."""
        if role == "tool":
            self._result(content)
            return
        if isinstance(content, str) and not calls:  # most are
            self.messages.append(Message(role, content))
            return
        start, texts = len(self.messages), []
        for part in _parts(content):
            if isinstance(part, str):
                texts.append(part)
                continue
            kind = str(part.get("type"))
            call = part.get("functionCall", part.get("function_call"))
            result = part.get("functionResponse", part.get("function_response"))
            if call is not None or kind.endswith(("_call", "tool_use")):
                self._call(part if call is None else call)
            elif result is not None or kind.endswith(("_call_output", "tool_result")):
                self._result(_answer(part) if result is None else _answer(result))
            else:
                texts += self._seen(part) or []
        for call in _list(calls) or [calls]:
            if isinstance(call, dict):
                self._call(call)
        if texts or len(self.messages) == start:
            # Said before it calls; after what tools have answered.
            self.messages.insert(start if role == "assistant" else len(self.messages), Message(role, " ".join(texts)))

    def _call(self, call: object) -> None:
        self.counts["calls"] += 1
        call = call if isinstance(call, dict) else {}
        inner = call.get("function", call)
        told = (
            [inner[name] for name in ("arguments", "input", "args") if name in inner] if isinstance(inner, dict) else []
        )
        self.messages.append(Message("tool", _text(told[0]) if told else ""))

    def _result(self, content: object) -> None:
        self.counts["results"] += 1
        texts: list[str] = []
        for part in _parts(content):
            seen = [part] if isinstance(part, str) else self._seen(part)
            texts += [_json(part)] if seen is None else seen
        self.messages.append(Message("tool", " ".join(texts)))

    def _seen(self, part: Mapping[str, Any]) -> list[str] | None:
        """The text of a part; none, and one picture, recording or document more; or None where it is neither."""
        source = part.get("source")
        text = source.get("data") if isinstance(source, dict) and source.get("type") == "text" else part.get("text")
        if isinstance(text, str):
            return [text]
        media = next((part[name] for name in _MEDIA if isinstance(part.get(name), dict)), None)
        if media is None:
            seen = _SEEN.get(str(part.get("type")))
        else:
            kind = str(media.get("mimeType", media.get("mime_type"))).partition("/")[0]
            seen = {"image": "images", "audio": "audio"}.get(kind, "documents")
        if seen is None:
            return None
        self.counts[seen] += 1
        return []


_MEDIA = ("inlineData", "inline_data", "fileData", "file_data")
"Gemini's keys for what is not text."


def _parts(content: object) -> list[str | dict[str, Any]]:
    if isinstance(content, dict) and isinstance(content.get("parts"), list):
        content = content["parts"]
    return [part for part in (content if isinstance(content, list) else [content]) if isinstance(part, (str, dict))]


def _answer(result: object) -> object:
    """What a tool answered, by the key that its API has for it."""
    if not isinstance(result, dict):
        return result
    return next((result[name] for name in ("content", "output", "response") if name in result), None)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _at(body: Mapping[str, object], path: str) -> object:
    value: object = body
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested deeper than it writes, though not than it reads
        return ""
