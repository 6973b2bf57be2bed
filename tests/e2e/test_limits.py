"""How large a call may be: up to the limit it arrives whole, above it the answer is 413 in the client's shape."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, KEYS, asking, call, error_of, new_id, read_error, works
from tests.e2e.gateway import Build, Gateway
from tests.e2e.provider import digest_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import PROMPT, Providers, contacted, settings_for

LIMIT = 4 << 20
"Above Envoy's default of 1 MiB, which must not be what counts."

OCTETS = {**KEYS, "Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def limited(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {**settings_for(listening), "limits": {"request_body_bytes": LIMIT}}
    with Gateway(build, settings, tmp_path_factory.mktemp("limited")) as gateway:
        yield gateway


def of_size(size: int) -> bytes:
    """A call with an image in its prompt, of exactly this many bytes."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    document = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": [PROMPT, part]}]})
    return document.replace("base64,", "base64," + "A" * (size - len(document))).encode()


def in_chunks(body: bytes) -> Iterator[bytes]:
    return (body[start : start + 100_000] for start in range(0, len(body), 100_000))


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_a_call_exactly_at_the_limit_arrives_whole(limited: Gateway, providers: Providers, chunked: bool) -> None:
    body = of_size(LIMIT)
    providers["openai"].answer_with(digest_answer)

    answer = call(limited, body=in_chunks(body) if chunked else body)

    assert answer.json() == {"length": LIMIT, "sha256": hashlib.sha256(body).hexdigest()}


def test_a_form_exactly_at_the_limit_is_read_and_arrives_whole(limited: Gateway, providers: Providers) -> None:
    headers = {**KEYS, "Content-Type": "multipart/form-data; boundary=b"}
    form = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'.format
    body = (form("model", "groq/whisper-1") + form("file", "{}") + "--b--\r\n").encode()
    body = body.replace(b"{}", b"A" * (LIMIT - len(body) + 2))
    assert len(body) == LIMIT

    assert call(limited, "/v1/audio/transcriptions", headers=headers, body=body).status_code == 404  # the provider's
    assert providers["groq"].next_request().body == body.replace(b"groq/", b"")


def test_an_image_of_ten_mebibytes_passes_with_default_settings(gateway: Gateway, providers: Providers) -> None:
    body = of_size(10 << 20)
    providers["openai"].answer_with(digest_answer)
    assert call(gateway, body=body).json() == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@pytest.mark.parametrize("path", [CHAT, CLAUDE_MESSAGES])
def test_a_call_above_the_limit_is_refused_in_its_clients_shape(
    limited: Gateway, providers: Providers, path: str
) -> None:
    shape = "anthropic" if path == CLAUDE_MESSAGES else "openai"
    calls = {
        "one byte more": ([("content-length", str(LIMIT + 1))], of_size(LIMIT + 1)),
        "in chunks": ([("transfer-encoding", "chunked")], b"%x\r\n" % (2 * LIMIT) + of_size(2 * LIMIT)),
    }
    ids = {name: new_id() for name in calls}
    for name, (framing, body) in calls.items():
        with Connection(limited.port) as connection:
            connection.send("POST", path, [*JSON.items(), *framing, ("x-request-id", ids[name])], body)
            assert read_error(connection) == (413, "application/json", shape, "request_too_large"), name

    assert contacted(providers) == []
    for call_id in ids.values():
        record = limited.record(call_id)
        said = tuple(record.get(name) for name in ("status", "error_category", "error_source", "error_code", "path"))
        assert said == (413, "request_too_large", "gateway", "request_too_large", path)
        assert len(record["call_id"]) == 32
    assert works(limited)


def test_a_body_that_is_no_json_is_held_to_the_limit_by_its_length(limited: Gateway, providers: Providers) -> None:
    providers["openai"].answer_with(digest_answer)
    assert call(limited, "/v1/files", headers=OCTETS, body=bytes(LIMIT)).json()["length"] == LIMIT

    with Connection(limited.port) as connection:
        connection.send("POST", "/v1/files", [*OCTETS.items(), ("content-length", str(LIMIT + 1))])
        assert read_error(connection)[0] == 413
    assert len(contacted(providers)) == 1


def test_a_chunked_upload_that_is_no_json_streams_through_unmeasured(limited: Gateway, providers: Providers) -> None:
    providers["openai"].answer_with(digest_answer)
    answer = call(limited, "/v1/files", headers=OCTETS, body=in_chunks(bytes(2 * LIMIT)))
    assert answer.json()["length"] == 2 * LIMIT


def test_a_form_too_large_to_be_inspected_passes_without_its_model(limited: Gateway, providers: Providers) -> None:
    form = {**KEYS, "Content-Type": "application/x-www-form-urlencoded"}
    large = asking("claude-opus-4-9", padding="x" * (1 << 20))
    call(limited, headers=form, body=large)
    assert providers["openai"].next_request().body == large
    assert contacted(providers) == ["openai"]


def test_a_large_form_is_inspected_where_settings_say_so(limited: Gateway, providers: Providers) -> None:
    form = {**KEYS, "Content-Type": "text/plain"}
    body = asking("claude-opus-4-9", padding="x" * 900_000)
    answer = call(limited, headers=form, body=body)
    assert answer.status_code == 200
    assert providers["anthropic"].next_request().body == body


def test_a_refusal_for_size_reads_as_an_error_of_the_clients_sdk(limited: Gateway, providers: Providers) -> None:
    answer = call(limited, headers={**OCTETS, "Expect": "100-continue"}, body=bytes(LIMIT + 1))
    assert error_of(answer) == (413, "application/json", "openai", "request_too_large")
