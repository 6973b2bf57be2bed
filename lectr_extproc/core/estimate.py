"""Tokens from the size of a text, for answers that were cut or never said what they used.

Four bytes of text to a token. Held against the counts providers reported, over 13 answers of 90 to 1,900 bytes of plain
text (bytes as escaped in JSON, tokens without reasoning):

    provider, answer                   bytes   reported   estimate   off by
    anthropic, text                      926        201        232     15 %
    anthropic, text around searches    1,866        637        467    -27 %
    azure (gpt-4.1-mini)                 100         19         25     32 %
    bedrock (claude 3.5 haiku)           247         50         62     24 %
    cohere                                89         21         23     10 %
    deepseek                             110         25         28     12 %
    gemini                               207         71         52    -27 %
    groq (llama 3)                       291         73         73      0 %
    ollama (llama 3), two answers    216, 268    50, 66     54, 67   8, 2 %
    openai (gpt-5-nano)                  208         57         52     -9 %
    openrouter (grok 4)                  332         75         83     11 %
    together (mixtral)                   115         35         29    -17 %

Half of them are within 12 %, all within a third; together they are 10 % low. Reasoning that is not shown cannot be
seen, and tool calls, numbers and other scripts than Latin take more tokens than this says. For a prompt the size of its
JSON is all there is, which is too much for a short one by its syntax and far too much for one with pictures in it.
"""

from dataclasses import replace
from typing import Literal

from lectr_extproc.core.usage import COUNTS, NO_USAGE, Usage

BYTES_PER_TOKEN = 4

TokenSource = Literal["provider", "estimated", "none"]


def estimate_tokens(text_bytes: int) -> int:
    """How many tokens a text of this size is, about."""
    return -(-text_bytes // BYTES_PER_TOKEN)


def settle(
    usage: Usage | None, *, prompt_bytes: int | None = None, output_bytes: int | None = None
) -> tuple[Usage | None, TokenSource]:
    """What was used and who says so: what the provider left open is estimated from the sizes that are known.

    Give sizes only where tokens were used: not for a call that was refused, and not for a picture.
    """
    said = usage or NO_USAGE
    if said.input_tokens is not None and said.output_tokens is not None:
        return said, "provider"
    counted = {name for name in COUNTS if getattr(said, name) is not None}
    # Billed by the second, the page or the search: there are no tokens to estimate.
    if counted and "input_tokens" not in counted:
        return said, "provider"
    guesses = {
        name: estimate_tokens(size)
        for name, size in (("input_tokens", prompt_bytes), ("output_tokens", output_bytes))
        if size is not None and name not in counted
    }
    if guesses:
        return replace(said, **guesses), "estimated"
    return (usage, "provider") if counted else (None, "none")
