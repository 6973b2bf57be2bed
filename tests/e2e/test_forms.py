"""Recordings and pictures go up as forms, whose `model` field decides where; every other byte of them passes."""

import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.answers import INPUT_TOKENS, OUTPUT_TOKENS, TEXT, WORDS, event
from tests.e2e.calls import KEYS, call, new_id
from tests.e2e.gateway import Gateway, Record
from tests.e2e.provider import Received, digest_answer, json_answer, sse_answer
from tests.e2e.scene import AZURE_API_VERSION, OPENAI_KEY, ORG_KEY, Providers, contacted, credentials_in

TRANSCRIPTIONS, EDITS = "/v1/audio/transcriptions", "/v1/images/edits"
SOUND = bytes(range(256)) * 512 + b'\r\n--\r\nContent-Disposition: form-data; name="model"\r\n\r\nclaude-opus-4-9\r\n'
BOUNDARY = "fjord0boundary"
PARTS = {**KEYS, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
LARGEST_FILE = 25_000_000
"Of a recording, at OpenAI."

TOKENS = {"type": "tokens", "input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
SPOKEN = json_answer({"text": TEXT, "usage": {"type": "duration", "seconds": 60}})
HEARD = json_answer({"text": TEXT, "usage": TOKENS | {"input_token_details": {"audio_tokens": 14}}})
DRAWN = json_answer({"created": 1, "data": [{"b64_json": "QUFB"}], "usage": TOKENS})


@pytest.fixture
def call_id() -> str:
    return new_id()


@pytest.fixture
def client(gateway: Gateway, call_id: str) -> Iterator[openai.OpenAI]:
    ours = {"X-Lectr-Key": ORG_KEY, "X-Request-Id": call_id}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=OPENAI_KEY, default_headers=ours, max_retries=0) as client:
        yield client


def form(model: str, file: bytes, *, model_last: bool = False) -> bytes:
    """As curl -F writes it."""
    field = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'.encode()
    sent = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n'
        "Content-Type: audio/mpeg\r\n\r\n"
    ).encode()
    parts = [field, sent + file + b"\r\n"]
    return b"".join(reversed(parts) if model_last else parts) + f"--{BOUNDARY}--\r\n".encode()


def fields_of(received: Received) -> dict[str, bytes]:
    """The parts of the form that arrived, read otherwise than lectr reads them."""
    (content_type,) = received.values("content-type")
    boundary = content_type.partition("boundary=")[2].encode()
    parts = received.body.removeprefix(b"--" + boundary + b"\r\n").removesuffix(b"\r\n--" + boundary + b"--\r\n")
    found = {}
    for part in parts.split(b"\r\n--" + boundary + b"\r\n"):
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'[ ;]name="([^"]*)"', head)
        assert name is not None
        found[name[1].decode()] = content
    return found


def told(record: Record) -> dict[str, object]:
    names = ("provider", "provider_source", "model_requested", "model_sent", "dialect", "usage", "pricing_status")
    return {name: record.get(name) for name in names}


def test_a_recording_is_transcribed_and_its_seconds_are_priced(
    client: openai.OpenAI, gateway: Gateway, providers: Providers, call_id: str
) -> None:
    providers["openai"].answer_with(SPOKEN)

    answer = client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", SOUND), language="no")

    assert answer.text == TEXT
    received = providers["openai"].next_request()
    assert fields_of(received) == {"model": b"whisper-1", "language": b"no", "file": SOUND}
    assert (received.target, credentials_in(received)) == (TRANSCRIPTIONS, [("authorization", f"Bearer {OPENAI_KEY}")])
    record = gateway.record(call_id)
    assert told(record) == {
        "provider": "openai",
        "provider_source": "prefix",
        "model_requested": "whisper-1",
        "model_sent": "whisper-1",
        "dialect": "openai.audio",
        "usage": {"audio_seconds": 60},
        "pricing_status": "priced",
    }
    assert float(record["cost"]) == pytest.approx(0.006)


def test_a_prefix_is_taken_off_in_its_field_and_the_file_arrives_untouched(
    client: openai.OpenAI, gateway: Gateway, providers: Providers, call_id: str
) -> None:
    providers["groq"].answer_with(SPOKEN)

    assert client.audio.transcriptions.create(model="groq/whisper-large-v3", file=("a.mp3", SOUND)).text == TEXT

    received = providers["groq"].next_request()
    assert fields_of(received) == {"model": b"whisper-large-v3", "file": SOUND}
    assert received.target == "/openai/v1/audio/transcriptions"
    assert told(gateway.record(call_id)) | {"pricing_status": None} == {
        "provider": "groq",
        "provider_source": "prefix",
        "model_requested": "groq/whisper-large-v3",
        "model_sent": "whisper-large-v3",
        "dialect": "openai.audio",
        "usage": {"audio_seconds": 60},
        "pricing_status": None,
    }


def test_a_transcription_streams(client: openai.OpenAI, gateway: Gateway, providers: Providers, call_id: str) -> None:
    done = {"type": "transcript.text.done", "text": TEXT, "usage": TOKENS | {"total_tokens": 29}}
    events: list[dict[str, Any]] = [*({"type": "transcript.text.delta", "delta": word} for word in WORDS), done]
    providers["openai"].answer_with(sse_answer(map(event, events)))

    with client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.mp3", SOUND), stream=True) as stream:
        said = [event.delta for event in stream if event.type == "transcript.text.delta"]

    assert said == WORDS
    record = gateway.record(call_id)
    assert record["streaming"] is True
    assert record["usage"] == {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}


def test_pictures_are_edited_and_their_tokens_recorded(
    client: openai.OpenAI, gateway: Gateway, providers: Providers, call_id: str
) -> None:
    providers["openai"].answer_with(DRAWN)

    answer = client.images.edit(model="openai/gpt-image-1", prompt="a boat", image=[("a.png", SOUND), ("b.png", b"\n")])

    assert answer.data is not None
    assert answer.data[0].b64_json == "QUFB"
    received = providers["openai"].next_request()
    assert (received.target, fields_of(received)["model"]) == (EDITS, b"gpt-image-1")
    assert received.body.count(SOUND) == 1
    record = gateway.record(call_id)
    assert (record["dialect"], record["model_sent"]) == ("openai.images", "gpt-image-1")
    assert record["usage"] == {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}


def test_azure_gets_the_deployment_of_the_field_in_its_path(
    client: openai.OpenAI, gateway: Gateway, providers: Providers, call_id: str
) -> None:
    providers["azure"].answer_with(HEARD)

    azure = {"X-Lectr-Provider": "azure"}
    answer = client.audio.transcriptions.create(model="our-whisper", file=("a.mp3", SOUND), extra_headers=azure)

    assert answer.text == TEXT
    received = providers["azure"].next_request()
    assert received.target == f"/openai/deployments/our-whisper/audio/transcriptions?api-version={AZURE_API_VERSION}"
    assert gateway.record(call_id)["usage"] == {
        "input_tokens": INPUT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        "audio_input_tokens": 14,
    }


@pytest.mark.parametrize("model_last", [False, True], ids=["model first", "model last"])
@pytest.mark.parametrize("model", ["whisper-large-v3", "groq/whisper-large-v3"], ids=["as it is", "renamed"])
def test_the_largest_recording_there_is_passes(
    gateway: Gateway, providers: Providers, model: str, model_last: bool
) -> None:
    file = bytes(LARGEST_FILE)
    providers["groq"].answer_with(digest_answer)
    answer = call(gateway, TRANSCRIPTIONS, headers=PARTS, body=form(model, file, model_last=model_last))
    assert answer.json()["length"] == len(form("whisper-large-v3", file))
    assert providers["groq"].next_request().body == form("whisper-large-v3", file, model_last=model_last)


def test_a_form_of_unknown_length_and_one_of_files_pass_unread(gateway: Gateway, providers: Providers) -> None:
    body = form("groq/whisper-large-v3", SOUND)
    calls = {"chunked": (TRANSCRIPTIONS, iter([body[:99], body[99:]])), "a file": ("/v1/files", body)}
    for name, (path, sent) in calls.items():
        call(gateway, path, headers=PARTS, body=sent)
        assert providers["openai"].next_request().body == body, name
    assert contacted(providers) == ["openai", "openai"]
