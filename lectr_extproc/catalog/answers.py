"""ANSWERS: per dialect, where its answers say what; and what providers mean by it where they mean something else.

Usage reading is data. A correction is one function from a provider's usage object to the same object in the dialect's
own sense, with an arithmetic guard: the same inequality has other causes elsewhere, so each is tied to its provider.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from types import MappingProxyType

from lectr_extproc.core.answer import AnswerRow, Word
from lectr_extproc.core.usage import CostReading, JsonObject, Path, UsageShape, count, number, reading

_CHECKED = date(2026, 11, 21)


# What providers mean


def _openai(usage: JsonObject) -> JsonObject:
    """Reasoning beside the completion (xAI's chat, wherever Grok is hosted), and a completion only the total tells of.

    Of some 2,000 usage objects of other vendors this guard took none for xAI's.
    """
    prompt, completion = number(usage, "prompt_tokens"), count(usage.get("completion_tokens"))
    total, reasoning = number(usage, "total_tokens"), number(usage, "completion_tokens_details.reasoning_tokens")
    if completion is None and "prompt_tokens" in usage and total >= prompt:
        return {**usage, "completion_tokens": total - prompt}
    if reasoning and completion is not None and total == prompt + completion + reasoning:
        return {**usage, "completion_tokens": completion + reasoning}
    return usage


def _gemini_compat(usage: JsonObject) -> JsonObject:
    """Thinking is in the total only."""
    prompt, completion, total = (number(usage, f"{part}_tokens") for part in ("prompt", "completion", "total"))
    if total <= prompt + completion:
        return _openai(usage)
    details = {**_members(usage, "completion_tokens_details"), "reasoning_tokens": total - prompt - completion}
    return {**usage, "completion_tokens": total - prompt, "completion_tokens_details": details}


def _mistral(usage: JsonObject) -> JsonObject:
    """Audio is outside the prompt. Transcriptions name its seconds, and its tokens are what the total has beyond."""
    prompt, completion, total = (number(usage, f"{part}_tokens") for part in ("prompt", "completion", "total"))
    audio = number(usage, "prompt_tokens_details.audio_tokens")
    if total <= prompt + completion or not (audio or number(usage, "prompt_audio_seconds")):
        return usage
    audio = audio or total - prompt - completion
    details = {**_members(usage, "prompt_tokens_details"), "audio_tokens": audio}
    return {**usage, "prompt_tokens": prompt + audio, "prompt_tokens_details": details}


def _embeddings(usage: JsonObject) -> JsonObject:
    """Some vendors give the total alone, and all of it was read."""
    return _openai(usage if "prompt_tokens" in usage else {**usage, "prompt_tokens": usage.get("total_tokens")})


def _anthropic(usage: JsonObject) -> JsonObject:
    """With a compaction among the iterations, the top level is only the last pass."""
    passes = [i for i in _iterations(usage) if i.get("type") in ("compaction", "message")]
    if not any(i.get("type") == "compaction" for i in passes):
        return usage
    parts = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    longer = sum(number(i, "cache_creation.ephemeral_1h_input_tokens") for i in passes)
    cache = {**_members(usage, "cache_creation"), "ephemeral_1h_input_tokens": longer}
    return {**usage, **{part: sum(number(i, part) for i in passes) for part in parts}, "cache_creation": cache}


def _advisors(usage: JsonObject) -> Iterable[tuple[str, JsonObject]]:
    """Other models that were asked on the way; the totals leave them out."""
    for iteration in _iterations(usage):
        model = iteration.get("model")
        if iteration.get("type") == "advisor_message" and isinstance(model, str):
            yield model, iteration


def _members(usage: JsonObject, name: str) -> JsonObject:
    value = usage.get(name)
    return value if isinstance(value, dict) else {}


def _iterations(usage: JsonObject) -> list[JsonObject]:
    passes = usage.get("iterations")
    return [i for i in passes if isinstance(i, dict)] if isinstance(passes, list) else []


def _gemini(usage: JsonObject) -> JsonObject:
    """An answer without candidates or thoughts says so by its total alone."""
    if usage.keys().isdisjoint({"candidatesTokenCount", "thoughtsTokenCount"}) and "promptTokenCount" in usage:
        read = number(usage, "promptTokenCount") + number(usage, "toolUsePromptTokenCount")
        return {**usage, "candidatesTokenCount": max(0, number(usage, "totalTokenCount") - read)}
    return usage


def _cohere(usage: JsonObject) -> JsonObject:
    """The billed units name everything that is billed; tokens that are not among them cost nothing."""
    billed = usage.get("billed_units")
    if not isinstance(billed, dict) or not billed:
        return usage
    return {**usage, "billed_units": {"input_tokens": 0, "output_tokens": 0, **billed}}


def _bedrock_headers(headers: JsonObject) -> JsonObject:
    """Embeddings have no output, and no header for it; every other answer has both."""
    return {"x-amzn-bedrock-output-token-count": 0, **headers}


def _bedrock_vendors(document: JsonObject) -> JsonObject:
    """Titan's embeddings count their input only."""
    return {"totalOutputTextTokenCount": 0, **document} if "embedding" in document else document


def _ollama(document: JsonObject) -> JsonObject:
    """It leaves out a count of zero. (A prompt's count is also left out by older servers that had it cached.)"""
    is_over = document.get("done") is True or "embeddings" in document
    return {"eval_count": 0, **document} if is_over else document


def _searches(document: JsonObject) -> Mapping[str, int]:
    """Web searches of a Responses answer: newer ones count them, in others each is a call among the output items."""
    response = document.get("response")
    answer = response if isinstance(response, dict) else document
    calls = [call.get("action") for call in _EACH_SEARCH(answer)]
    searches = sum(not isinstance(action, dict) or action.get("type") == "search" for action in calls)
    counted = count(next(iter(_SEARCHES_COUNTED(answer)), None))
    if counted is None and not calls:
        return {}
    return {"web_search_requests": searches if counted is None else counted}


def _groundings(document: JsonObject) -> Mapping[str, int]:
    """Grounding with Google Search is billed by query from Gemini 3 on, and by grounded answer before.

    https://ai.google.dev/gemini-api/docs/google-search#pricing
    """
    queries = [query for asked in _QUERIES(document) if isinstance(asked, list) for query in asked]
    if not queries:
        return {}
    by_answer = str(document.get("modelVersion", "")).startswith(("gemini-1", "gemini-2"))
    return {"web_search_requests": 1 if by_answer else len(queries)}


_EACH_SEARCH = Path("output[type=web_search_call]")
_SEARCHES_COUNTED = Path("tool_usage.web_search.num_requests")
_QUERIES = Path("candidates[].groundingMetadata.webSearchQueries")

# Where it stands

_OPENAI_TOKENS = (
    reading("prompt_tokens", "input_tokens"),
    reading("completion_tokens", "output_tokens"),
    # DeepSeek says hits, Mistral's older form a number of its own, Together and Anthropic's layer a plain count.
    reading(
        "prompt_tokens_details.cached_tokens",
        "cache_read_tokens",
        "prompt_cache_hit_tokens",
        "cached_tokens",
        "num_cached_tokens",
    ),
    reading("prompt_tokens_details.cache_write_tokens", "cache_write_tokens"),
    reading("completion_tokens_details.reasoning_tokens", "reasoning_tokens"),
    reading("prompt_tokens_details.audio_tokens", "audio_input_tokens"),
    reading("completion_tokens_details.audio_tokens", "audio_output_tokens"),
    reading("prompt_tokens_details.image_tokens", "image_input_tokens"),
    reading("completion_tokens_details.image_tokens", "image_output_tokens"),
    reading("server_tool_use.web_search_requests", "web_search_requests", "num_search_queries"),
    reading("num_server_side_tools_used", "tool_requests"),
    reading("prompt_audio_seconds", "audio_seconds"),
)

_OPENAI = UsageShape(
    places=("usage", "x_groq.usage"),
    readings=_OPENAI_TOKENS,
    means=_openai,
    means_at={"gemini": _gemini_compat, "mistral": _mistral},
    source="https://platform.openai.com/docs/api-reference/chat/object",
    checked=_CHECKED,
)

_EMBEDDINGS = UsageShape(
    places=("usage",),
    readings=(reading("prompt_tokens", "input_tokens", "total_tokens"), *_OPENAI_TOKENS[1:]),
    means=_embeddings,
    source="https://platform.openai.com/docs/api-reference/embeddings/create",
    checked=_CHECKED,
)

_RESPONSES = UsageShape(
    places=("response.usage", "usage"),
    readings=(
        reading("input_tokens", "input_tokens"),
        reading("output_tokens", "output_tokens"),
        reading("input_tokens_details.cached_tokens", "cache_read_tokens"),
        reading("input_tokens_details.cache_write_tokens", "cache_write_tokens"),
        reading("output_tokens_details.reasoning_tokens", "reasoning_tokens"),
        reading("input_tokens_details.audio_tokens", "audio_input_tokens", "input_token_details.audio_tokens"),
        reading("output_tokens_details.audio_tokens", "audio_output_tokens"),
        reading("input_tokens_details.image_tokens", "image_input_tokens"),
        reading("output_tokens_details.image_tokens", "image_output_tokens"),
        reading("server_tool_use.web_search_requests", "web_search_requests"),
        reading("num_server_side_tools_used", "tool_requests"),
        reading("seconds", "audio_seconds"),
    ),
    beside=_searches,
    source="https://platform.openai.com/docs/api-reference/responses/object",
    checked=_CHECKED,
)

_SPOKEN = UsageShape(
    places=("",),
    readings=(reading("duration", "audio_seconds"),),
    source="https://platform.openai.com/docs/api-reference/audio/verbose-json-object",
    checked=_CHECKED,
)

_ANTHROPIC = UsageShape(
    places=("usage", "message.usage"),
    readings=(
        reading("input_tokens", "input_tokens"),
        reading("cache_read_input_tokens", "input_tokens"),
        reading("cache_creation_input_tokens", "input_tokens"),
        reading("cache_read_input_tokens", "cache_read_tokens"),
        reading("cache_creation_input_tokens", "cache_write_tokens"),
        reading("cache_creation.ephemeral_1h_input_tokens", "cache_write_1h_tokens"),
        reading("output_tokens", "output_tokens"),
        reading("output_tokens_details.thinking_tokens", "reasoning_tokens"),
        reading("server_tool_use.web_search_requests", "web_search_requests"),
        reading("server_tool_use.web_fetch_requests", "web_fetch_requests"),
    ),
    accumulates=True,
    # message_start counts the few tokens there are at that moment; cut there, the output is unknown.
    unfinished={"message.usage": frozenset({"output_tokens"})},
    means=_anthropic,
    helpers=_advisors,
    source="https://docs.anthropic.com/en/api/messages",
    checked=_CHECKED,
)

_GEMINI = UsageShape(
    places=("usageMetadata",),
    readings=(
        reading("promptTokenCount", "input_tokens"),
        reading("toolUsePromptTokenCount", "input_tokens"),
        reading("candidatesTokenCount", "output_tokens"),
        reading("thoughtsTokenCount", "output_tokens"),
        reading("cachedContentTokenCount", "cache_read_tokens"),
        reading("thoughtsTokenCount", "reasoning_tokens"),
        reading("promptTokensDetails[modality=AUDIO].tokenCount", "audio_input_tokens"),
        reading("candidatesTokensDetails[modality=AUDIO].tokenCount", "audio_output_tokens"),
        reading("cacheTokensDetails[modality=AUDIO].tokenCount", "cache_read_audio_tokens"),
        reading("promptTokensDetails[modality=IMAGE].tokenCount", "image_input_tokens"),
        reading("candidatesTokensDetails[modality=IMAGE].tokenCount", "image_output_tokens"),
    ),
    means=_gemini,
    beside=_groundings,
    source="https://ai.google.dev/api/generate-content#UsageMetadata",
    checked=_CHECKED,
)

_COHERE = UsageShape(
    places=("usage", "delta.usage", "meta", "response.meta"),
    readings=(
        reading("billed_units.input_tokens", "input_tokens"),
        reading("billed_units.output_tokens", "output_tokens"),
        reading("billed_units.search_units", "search_units"),
        reading("cached_tokens", "cache_read_tokens"),
        reading("tokens.reasoning_tokens", "reasoning_tokens"),
    ),
    means=_cohere,
    source="https://docs.cohere.com/reference/chat",
    checked=_CHECKED,
)

_CONVERSE = UsageShape(
    places=("usage", "metadata.usage"),
    readings=(
        reading("inputTokens", "input_tokens"),
        reading("cacheReadInputTokens", "input_tokens", "cacheReadInputTokenCount"),
        reading("cacheWriteInputTokens", "input_tokens", "cacheWriteInputTokenCount"),
        reading("outputTokens", "output_tokens"),
        reading("cacheReadInputTokens", "cache_read_tokens", "cacheReadInputTokenCount"),
        reading("cacheWriteInputTokens", "cache_write_tokens", "cacheWriteInputTokenCount"),
        reading("cacheDetails[ttl=1h].inputTokens", "cache_write_1h_tokens"),
    ),
    source="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html",
    checked=_CHECKED,
)

_BEDROCK_METRICS = UsageShape(
    places=("amazon-bedrock-invocationMetrics",),
    readings=(
        reading("inputTokenCount", "input_tokens"),
        reading("cacheReadInputTokenCount", "input_tokens"),
        reading("cacheWriteInputTokenCount", "input_tokens"),
        reading("outputTokenCount", "output_tokens"),
        reading("cacheReadInputTokenCount", "cache_read_tokens"),
        reading("cacheWriteInputTokenCount", "cache_write_tokens"),
    ),
    source="https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html",
    checked=_CHECKED,
)

_BEDROCK_HEADERS = UsageShape(
    places=("headers",),
    readings=(
        reading("x-amzn-bedrock-input-token-count", "input_tokens"),
        reading("x-amzn-bedrock-cache-read-input-token-count", "input_tokens"),
        reading("x-amzn-bedrock-cache-write-input-token-count", "input_tokens"),
        reading("x-amzn-bedrock-output-token-count", "output_tokens"),
        reading("x-amzn-bedrock-cache-read-input-token-count", "cache_read_tokens"),
        reading("x-amzn-bedrock-cache-write-input-token-count", "cache_write_tokens"),
    ),
    means=_bedrock_headers,
    source="https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html",
    checked=_CHECKED,
)

_BEDROCK_VENDORS = UsageShape(
    places=("",),
    readings=(
        reading("inputTextTokenCount", "input_tokens", "prompt_token_count"),
        reading("results[].tokenCount", "output_tokens", "totalOutputTextTokenCount", "generation_token_count"),
    ),
    accumulates=True,
    means=_bedrock_vendors,
    source="https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html",
    checked=_CHECKED,
)

_OLLAMA = UsageShape(
    places=("",),
    readings=(reading("prompt_eval_count", "input_tokens"), reading("eval_count", "output_tokens")),
    means=_ollama,
    source="https://github.com/ollama/ollama/blob/main/docs/api.md",
    checked=_CHECKED,
)

_OCR = UsageShape(
    places=("usage_info",),
    readings=(reading("pages_processed", "pages"),),
    source="https://docs.mistral.ai/api/endpoint/ocr",
    checked=_CHECKED,
)

_OPENAI_WORDS: Mapping[Word, tuple[str, ...]] = {
    "model": ("model",),
    "response_id": ("id",),
    "tier": ("service_tier", "usage.service_tier"),
}
_RESPONSES_WORDS: Mapping[Word, tuple[str, ...]] = {
    "model": ("model", "response.model"),
    "response_id": ("id", "response.id"),
    "tier": ("service_tier", "response.service_tier"),
}
_ANTHROPIC_WORDS: Mapping[Word, tuple[str, ...]] = {
    "model": ("model", "message.model"),
    "response_id": ("id", "message.id"),
    "tier": ("usage.service_tier", "message.usage.service_tier"),
    "speed": ("usage.speed", "message.usage.speed"),
    "region": ("usage.inference_geo", "message.usage.inference_geo"),
}
_COHERE_WORDS: Mapping[Word, tuple[str, ...]] = {
    "response_id": ("id", "generation_id", "response_id", "response.generation_id", "response.response_id"),
}

_ROWS = (
    AnswerRow(
        dialect="openai.chat",
        shapes=(_OPENAI,),
        words=_OPENAI_WORDS,
        finish_each=(("choices[]", "finish_reason"),),
        # Not everyone sends [DONE]; an answer with its finish reason is whole, even if its usage was lost.
        ends=(("object", "chat.completion.done"), ("choices[].finish_reason", None)),
        text=("content", "reasoning_content", "reasoning", "arguments", "refusal"),
    ),
    AnswerRow(
        dialect="openai.completions",
        shapes=(_OPENAI,),
        words=_OPENAI_WORDS,
        finish_each=(("choices[]", "finish_reason"),),
        ends=(("choices[].finish_reason", None),),
        text=("text",),
    ),
    AnswerRow(
        dialect="openai.responses",
        shapes=(_RESPONSES,),
        words=_RESPONSES_WORDS,
        finish=(
            "status",
            "response.status",
            "incomplete_details.reason",
            "response.incomplete_details.reason",
        ),
        ends=(("type", "response.completed"), ("type", "response.incomplete"), ("type", "response.failed")),
        text=("delta",),
    ),
    AnswerRow(dialect="openai.embeddings", shapes=(_EMBEDDINGS,), words={"model": ("model",), "response_id": ("id",)}),
    AnswerRow(
        dialect="openai.images",
        shapes=(_RESPONSES,),
        words=_OPENAI_WORDS,
        ends=(("type", "image_generation.completed"), ("type", "image_edit.completed")),
    ),
    AnswerRow(
        dialect="openai.audio",
        shapes=(_RESPONSES, _OPENAI, _SPOKEN),
        words={"model": ("model",), "response_id": ("id", "x_groq.id")},
        ends=(("type", "transcript.text.done"), ("type", "transcription.done"), ("type", "speech.audio.done")),
        text=("delta",),
    ),
    AnswerRow(
        dialect="anthropic.messages",
        shapes=(_ANTHROPIC,),
        words=_ANTHROPIC_WORDS,
        finish=("stop_reason", "delta.stop_reason"),
        ends=(("type", "message_stop"),),
        text=("text", "thinking", "partial_json"),
    ),
    AnswerRow(
        dialect="gemini.generate",
        shapes=(_GEMINI,),
        words={
            "model": ("modelVersion",),
            "response_id": ("responseId",),
            "tier": ("usageMetadata.serviceTier", "usageMetadata.trafficType"),
        },
        finish=("promptFeedback.blockReason",),
        finish_each=(("candidates[]", "finishReason"),),
        ends=(("candidates[].finishReason", None), ("promptFeedback.blockReason", None)),
        text=("text",),
    ),
    AnswerRow(
        dialect="bedrock.converse",
        shapes=(_CONVERSE,),
        words={"tier": ("serviceTier.type",), "model": ("trace.promptRouter.invokedModelId",)},
        finish=("stopReason",),
        ends=(("type", "metadata"),),
        text=("text", "input"),
    ),
    AnswerRow(
        dialect="bedrock.invoke",
        shapes=(_ANTHROPIC, _CONVERSE, _OPENAI, _BEDROCK_METRICS, _BEDROCK_HEADERS, _BEDROCK_VENDORS),
        words={**_ANTHROPIC_WORDS},
        finish=("stop_reason", "delta.stop_reason", "stopReason", "messageStop.stopReason", "completionReason"),
        finish_each=(
            ("results[]", "completionReason"),
            ("outputs[]", "stop_reason"),
            ("choices[]", "finish_reason"),
            ("choices[]", "stop_reason"),
            ("generations[]", "finish_reason"),
        ),
        ends=(("amazon-bedrock-invocationMetrics", None), ("type", "message_stop")),
        text=("text", "thinking", "partial_json", "outputText", "generation", "content"),
    ),
    AnswerRow(
        dialect="cohere.chat",
        shapes=(_COHERE,),
        words=_COHERE_WORDS,
        finish=("finish_reason", "delta.finish_reason"),
        ends=(("type", "message-end"), ("event_type", "stream-end")),
        text=("text", "thinking", "tool_plan", "arguments"),
    ),
    AnswerRow(dialect="cohere.embed", shapes=(_COHERE,), words=_COHERE_WORDS),
    AnswerRow(dialect="cohere.rerank", shapes=(_COHERE, _EMBEDDINGS), words={"model": ("model",), **_COHERE_WORDS}),
    AnswerRow(
        dialect="ollama",
        shapes=(_OLLAMA,),
        words={"model": ("model",)},
        finish=("done_reason",),
        ends=(("done", True),),
        text=("content", "response", "thinking"),
    ),
    AnswerRow(dialect="mistral.ocr", shapes=(_OCR,), words={"model": ("model",)}),
    # What it would cost to send is not what was spent: these answers have counts and no usage.
    AnswerRow(dialect="anthropic.count_tokens"),
    AnswerRow(dialect="openai.input_tokens"),
    AnswerRow(dialect="bedrock.count_tokens"),
)

ANSWERS: Mapping[str, AnswerRow] = MappingProxyType({row.dialect: row for row in _ROWS})
UNKNOWN = AnswerRow(dialect="other")
"Nothing but errors is read."


# What providers say it cost


def _xai_ticks(usage: JsonObject) -> Decimal | None:
    """https://docs.x.ai/docs/models: a tick is 1e-10 USD. Zero is what hosts of Grok send who know no price."""
    ticks = count(usage.get("cost_in_usd_ticks"))
    return Decimal(ticks).scaleb(-10) if ticks else None


def _openrouter_usd(usage: JsonObject) -> Decimal | None:
    """https://openrouter.ai/docs/use-cases/usage-accounting: with a key of one's own the host's charge is apart."""
    parts = [usage.get("cost")]
    details = usage.get("cost_details")
    if usage.get("is_byok") is True and isinstance(details, dict):
        parts.append(details.get("upstream_inference_cost"))
    known = [Decimal(str(part)) for part in parts if count(part) is not None]  # the shortest form of a float
    return sum(known, Decimal()) if known and parts[0] is not None else None


REPORTED_COSTS: Mapping[str, CostReading] = MappingProxyType({"xai": _xai_ticks, "openrouter": _openrouter_usd})
