"""DECLARED: what providers answer when another model or key would do, though the status alone says the call is wrong.

Each row is one provider's words, or a phrase that several servers of one API share. They are looked for in the error
document; what no row knows is the call's own fault and final. `context`: a model with a larger window may take it.
`quota`: whoever pays has to pay first. `key`: the key is no good, which is for another provider to mend only where the
gateway holds it.
"""

import re
from datetime import date

from lectr_extproc.core.declared import Declared

CHECKED = date(2026, 11, 21)

DECLARED: tuple[Declared, ...] = (
    Declared(
        why="context",
        says=re.compile(rb"context_length_exceeded|maximum context length|context window"),
        source="https://platform.openai.com/docs/guides/error-codes",  # its code, and the words of vLLM and its heirs
    ),
    Declared(
        why="context",
        says=re.compile(rb"prompt is too long|input length and `max_tokens` exceed context limit"),
        source="https://docs.anthropic.com/en/docs/build-with-claude/context-windows",
    ),
    Declared(
        why="context",
        provider="gemini",
        says=re.compile(rb"input token count .{0,80}exceeds the maximum"),
        source="https://ai.google.dev/gemini-api/docs/troubleshooting",
    ),
    Declared(
        why="context",
        provider="cohere",
        says=re.compile(rb"TOO_MANY_TOKENS|too many tokens"),
        source="https://docs.cohere.com/reference/errors",
    ),
    Declared(
        why="context",
        provider="bedrock",
        says=re.compile(rb"Input is too long"),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html",
    ),
    Declared(
        why="quota",
        says=re.compile(rb"insufficient_quota|billing_hard_limit_reached"),
        source="https://platform.openai.com/docs/guides/error-codes",
    ),
    Declared(
        why="quota",
        provider="anthropic",
        says=re.compile(rb"credit balance is too low|reached your specified API usage limits"),
        source="https://docs.anthropic.com/en/api/errors",
    ),
    Declared(
        why="quota",
        statuses=frozenset({402}),
        source="https://api-docs.deepseek.com/quick_start/error_codes",  # OpenRouter's, too
    ),
    Declared(
        why="quota",
        provider="groq",
        statuses=frozenset({413}),  # more tokens than the minute's allowance, not than the window
        says=re.compile(rb"rate_limit_exceeded"),
        source="https://console.groq.com/docs/rate-limits",
    ),
    Declared(
        why="key",
        statuses=frozenset({401}),
        source="https://platform.openai.com/docs/guides/error-codes",  # everybody's
    ),
    Declared(
        why="key",
        provider="gemini",
        says=re.compile(rb"API_KEY_INVALID"),
        source="https://ai.google.dev/gemini-api/docs/api-key",
    ),
    Declared(
        why="key",
        provider="xai",
        says=re.compile(rb"Incorrect API key"),
        source="https://docs.x.ai/docs/key-information/debugging",
    ),
    Declared(
        why="key",
        provider="bedrock",
        statuses=frozenset({403}),
        says=re.compile(rb"UnrecognizedClient|ExpiredToken|security token|API Key"),
        source="https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html",
    ),
)
