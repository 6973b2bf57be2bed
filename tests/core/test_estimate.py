import pytest

from lectr_extproc.core.estimate import estimate_tokens, settle
from lectr_extproc.core.usage import Usage


def test_a_token_is_four_bytes_of_text_and_one_begun_counts() -> None:
    assert [estimate_tokens(size) for size in (0, 1, 4, 5, 400)] == [0, 1, 1, 2, 100]


BOTH = Usage(input_tokens=3, output_tokens=5)
SETTLED = {
    "the provider said it": (BOTH, 999, 999, (BOTH, "provider")),
    "nobody said anything": (None, 40, 8, (Usage(input_tokens=10, output_tokens=2), "estimated")),
    "the stream was cut after its input": (
        Usage(input_tokens=3, cache_read_tokens=2),
        40,
        8,
        (Usage(input_tokens=3, cache_read_tokens=2, output_tokens=2), "estimated"),
    ),
    "only the answer's size is known": (None, None, 8, (Usage(output_tokens=2), "estimated")),
    "no size is known": (None, None, None, (None, "none")),
    "no size is known of what is missing": (Usage(input_tokens=3), None, None, (Usage(input_tokens=3), "provider")),
    "billed by the second": (Usage(audio_seconds=7), 4000, 8, (Usage(audio_seconds=7), "provider")),
    "an older Ollama that had the prompt cached": (Usage(output_tokens=7), 40, 8, (Usage(output_tokens=7), "provider")),
}


@pytest.mark.parametrize("name", SETTLED)
def test_what_is_left_open_is_estimated_and_what_was_said_stands(name: str) -> None:
    usage, prompt_bytes, output_bytes, expected = SETTLED[name]
    assert settle(usage, prompt_bytes=prompt_bytes, output_bytes=output_bytes) == expected
