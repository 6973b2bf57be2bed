"""Envoy's own reading of an answer (ai_protocol_manager, 1.40), brought to the same form as ours.

It has counts in a dialect's words and no more: ids, finish reasons, tiers and errors stay absent. What a provider means
by those words is corrected by the same rows that correct our own reading.
"""

from collections.abc import Mapping

from lectr_extproc.core.answer import Answer, AnswerRow
from lectr_extproc.core.quick import quick_dataclass
from lectr_extproc.core.usage import NO_USAGE, Usage

CHAT = "openai.chat"

TELLS = frozenset({"input", "output", "cache_read", "cache_write", "reasoning", "request"})
"Of pricing's units those that Envoy counts. Whatever else has a price needs our own reading."


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class NativeUsage:
    """Envoy's TokenUsage message; absent is not zero."""

    is_chat: bool
    "Counts stand as an OpenAI-compatible provider sent them; in the other dialects Envoy has added them up already."
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_creation_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    "The provider's own total."


def native_answer(read: NativeUsage, provider: str | None, answers: Mapping[str, AnswerRow]) -> Answer:
    """The same answer, as far as Envoy told."""
    usage: Usage | None
    if read.is_chat and CHAT in answers:
        usage = answers[CHAT].shapes[0].read(_as_sent(read), provider or "")
    else:
        usage = Usage(
            input_tokens=read.input_tokens,
            output_tokens=read.output_tokens,
            cache_read_tokens=read.cached_tokens,
            cache_write_tokens=read.cache_creation_tokens,
            reasoning_tokens=read.reasoning_tokens,
        )
    return Answer(
        usage=None if usage == NO_USAGE else usage,
        model_answered=read.model,
        is_complete=usage is not None,
    )


def _as_sent(read: NativeUsage) -> dict[str, object]:
    counts = {
        "prompt_tokens": read.input_tokens,
        "completion_tokens": read.output_tokens,
        "total_tokens": read.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": read.cached_tokens,
            "cache_write_tokens": read.cache_creation_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": read.reasoning_tokens},
    }
    return {name: count for name, count in counts.items() if count is not None}
