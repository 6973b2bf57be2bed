"""Without a good key of ours a call is answered 401, in the words its SDK understands, and goes no further."""

import anthropic
import openai
import pytest

from tests.e2e.calls import CHAT, CLAUDE_MESSAGES, JSON, asking, call, error_of, new_id, read_error
from tests.e2e.gateway import Gateway
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import (
    CLOSED_KEY,
    OPENAI_KEY,
    ORG_KEY,
    PROMPT,
    SECOND_KEY,
    SECOND_ORG,
    Providers,
    assert_nothing_of_ours,
    contacted,
    credentials_in,
    secret,
)

UNKNOWN_KEY = secret("lc_key_")
REFUSED: dict[str, tuple[list[str], str]] = {
    "no key": ([], "missing_lectr_key"),
    "an empty key": ([""], "invalid_lectr_key"),
    "a provider's key in its place": ([secret("sk-proj-")], "invalid_lectr_key"),
    "a key too short": (["lc_key_0123"], "invalid_lectr_key"),
    "a key too long": (["lc_key_" + "a" * 129], "invalid_lectr_key"),
    "a key and more": ([f"{ORG_KEY};"], "invalid_lectr_key"),
    "a key behind Bearer": ([f"Bearer {ORG_KEY}"], "invalid_lectr_key"),
    "a key nobody has": ([UNKNOWN_KEY], "invalid_lectr_key"),
    "a key in other letters": ([ORG_KEY.upper().replace("LC_KEY_", "lc_key_")], "invalid_lectr_key"),
    "two keys": ([ORG_KEY, SECOND_KEY], "invalid_lectr_key"),
    "two keys in one header": ([f"{ORG_KEY}, {SECOND_KEY}"], "invalid_lectr_key"),
    "a good key and a bad one": ([ORG_KEY, UNKNOWN_KEY], "invalid_lectr_key"),
    "the key of a disabled org": ([CLOSED_KEY], "org_disabled"),
}
SHAPES = {
    CHAT: "openai",
    "/v1/models": "openai",
    "/anything/else": "openai",
    CLAUDE_MESSAGES: "anthropic",
    "/v1/messages/count_tokens?beta=true": "anthropic",
}
BODY_HEADERS = [("content-type", "application/json"), ("authorization", f"Bearer {OPENAI_KEY}")]


@pytest.mark.parametrize("case", REFUSED)
def test_a_call_without_a_good_key_is_turned_away(gateway: Gateway, providers: Providers, case: str) -> None:
    keys, code = REFUSED[case]
    for path, shape in SHAPES.items():
        with Connection(gateway.port) as connection:
            connection.send("POST", path, [("x-lectr-key", key) for key in keys] + BODY_HEADERS, asking())
            assert read_error(connection) == (401, "application/json", shape, code)
    assert contacted(providers) == []


IN_A_PROVIDERS_PLACE: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a key too short": ([("authorization", "Bearer lc_key_0123")], "missing_lectr_key"),
    "a key behind another scheme": ([("authorization", f"Basic {ORG_KEY}")], "missing_lectr_key"),
    "a key and more": ([("x-api-key", f"{ORG_KEY};")], "missing_lectr_key"),
    "a key in a header that is none for keys": ([("cookie", ORG_KEY)], "missing_lectr_key"),
    "a key too long": ([("x-api-key", "lc_key_" + "a" * 129)], "invalid_lectr_key"),
    "a key nobody has": ([("x-goog-api-key", UNKNOWN_KEY)], "invalid_lectr_key"),
    "an empty X-Lectr-Key beside it": ([("x-lectr-key", ""), ("x-api-key", ORG_KEY)], "invalid_lectr_key"),
    "two keys": ([("authorization", f"Bearer {ORG_KEY}"), ("x-api-key", SECOND_KEY)], "invalid_lectr_key"),
    "another key in X-Lectr-Key": ([("x-lectr-key", ORG_KEY), ("api-key", SECOND_KEY)], "invalid_lectr_key"),
    "two in two Authorization headers": (
        [("authorization", f"Bearer {ORG_KEY}"), ("authorization", f"Bearer {SECOND_KEY}")],
        "invalid_lectr_key",
    ),
    "the key of a disabled org": ([("api-key", CLOSED_KEY)], "org_disabled"),
}


@pytest.mark.parametrize("case", IN_A_PROVIDERS_PLACE)
def test_a_call_with_no_good_key_in_a_providers_place_is_turned_away(
    gateway: Gateway, providers: Providers, case: str
) -> None:
    headers, code = IN_A_PROVIDERS_PLACE[case]
    for path, shape in SHAPES.items():
        with Connection(gateway.port) as connection:
            connection.send("POST", path, [*headers, BODY_HEADERS[0]], asking())
            assert read_error(connection) == (401, "application/json", shape, code)
    assert contacted(providers) == []


PLACES = {"authorization": "Bearer {}", "x-api-key": "{}", "api-key": "{}", "x-goog-api-key": "{}"}


@pytest.mark.parametrize("place", PLACES)
def test_a_client_with_one_key_says_with_it_who_calls(gateway: Gateway, providers: Providers, place: str) -> None:
    call_id = new_id()
    one_key = {"content-type": "application/json", place: PLACES[place].format(SECOND_KEY)}
    assert call(gateway, headers=one_key, call_id=call_id).status_code == 200

    assert gateway.record(call_id)["org"] == SECOND_ORG
    received = providers["openai"].next_request()
    assert credentials_in(received) == []
    assert_nothing_of_ours(received)


def test_every_refusal_leaves_a_record(gateway: Gateway, providers: Providers) -> None:
    ids = {case: new_id() for case in REFUSED}
    for case, (keys, _) in REFUSED.items():
        with Connection(gateway.port) as connection:
            ours = [("x-lectr-key", key) for key in keys]
            connection.send("POST", CHAT, [*ours, *BODY_HEADERS, ("x-request-id", ids[case])], asking())
            connection.read_head()

    records = {case: gateway.record(call_id) for case, call_id in ids.items()}

    expected = (401, "authentication", "gateway", CHAT, "POST")
    seen = {
        case: tuple(record[name] for name in ("status", "error_category", "error_source", "path", "method"))
        for case, record in records.items()
    }
    assert seen == dict.fromkeys(REFUSED, expected)
    assert {case: record["error_code"] for case, record in records.items()} == {
        case: code for case, (_, code) in REFUSED.items()
    }
    assert len({record["call_id"] for record in records.values()}) == len(REFUSED)


def test_the_same_key_twice_is_one_key(gateway: Gateway, providers: Providers) -> None:
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [("x-lectr-key", ORG_KEY)] * 2 + BODY_HEADERS, asking())
        assert connection.read_head().status == 200


@pytest.mark.parametrize("key", [None, "lc_key_0123", UNKNOWN_KEY, CLOSED_KEY], ids=["no", "odd", "unknown", "closed"])
def test_both_sdks_raise_their_authentication_error(gateway: Gateway, providers: Providers, key: str | None) -> None:
    ours = {"X-Lectr-Key": key} if key else {}
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=OPENAI_KEY, default_headers=ours, max_retries=0)
    with client, pytest.raises(openai.AuthenticationError) as from_openai:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": PROMPT}])
    claude = anthropic.Anthropic(base_url=gateway.url, api_key=secret("sk-ant-"), default_headers=ours, max_retries=0)
    with claude, pytest.raises(anthropic.AuthenticationError) as from_anthropic:
        claude.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=[{"role": "user", "content": PROMPT}])

    code = from_openai.value.code
    assert code in {"missing_lectr_key", "invalid_lectr_key", "org_disabled"}
    assert from_openai.value.type == "authentication_error"
    assert str(code) in str(from_anthropic.value)
    assert contacted(providers) == []


@pytest.mark.parametrize("framing", [("content-length", str(64 << 20)), ("transfer-encoding", "chunked")], ids="-".join)
@pytest.mark.parametrize(
    "key",
    [[], [("x-lectr-key", "lc_key_0123")], [("authorization", "Bearer lc_key_0123"), ("x-api-key", OPENAI_KEY)]],
    ids=["no key", "an odd key", "an odd key in a provider's place"],
)
def test_a_stranger_is_refused_before_its_body_is_read(
    gateway: Gateway, providers: Providers, key: list[tuple[str, str]], framing: tuple[str, str]
) -> None:
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [*key, framing, ("content-type", "application/json")])
        assert read_error(connection)[0] == 401
    assert contacted(providers) == []


@pytest.mark.parametrize("key", [[], [("x-lectr-key", ORG_KEY)]], ids=["no key", "a good key"])
def test_a_gateway_is_no_proxy(gateway: Gateway, providers: Providers, key: list[tuple[str, str]]) -> None:
    target = f"127.0.0.1:{providers['openai'].port}"
    with Connection(gateway.port) as connection:
        connection.send("CONNECT", target, [*key, ("content-type", "application/json")], host=target)
        assert connection.read_head().status == 403
    assert contacted(providers) == []


def test_a_stranger_who_sends_64_mebibytes_is_refused_all_the_same(gateway: Gateway, providers: Providers) -> None:
    with Connection(gateway.port) as connection:
        connection.send("POST", CHAT, [("content-length", str(64 << 20)), ("content-type", "application/json")])
        try:
            for _ in range(64):
                connection.send_bytes(b"x" * (1 << 20))
        except ConnectionError:
            pass  # refused and hung up in the middle: fine too
        else:
            assert connection.read_head().status == 401
    assert contacted(providers) == []
    assert call(gateway, headers=JSON).status_code == 200


def test_a_refusal_says_no_more_than_it_must(gateway: Gateway, providers: Providers) -> None:
    answer = call(gateway, headers={**JSON, "X-Lectr-Key": UNKNOWN_KEY})

    assert error_of(answer) == (401, "application/json", "openai", "invalid_lectr_key")
    assert UNKNOWN_KEY not in answer.text
    assert set(answer.headers) <= {"content-length", "content-type", "date", "connection"}


def test_a_key_of_ours_that_strayed_reaches_no_provider(gateway: Gateway, providers: Providers) -> None:
    protocols = f"realtime, openai-insecure-api-key.{ORG_KEY}"
    headers = {**JSON, "sec-websocket-protocol": protocols, "referer": f"https://app.example/?k={ORG_KEY}"}
    call(gateway, f"{CHAT}?api_key={ORG_KEY}&a=1&t=lc%5Fkey_1", headers=headers)

    received = providers["openai"].next_request()
    assert_nothing_of_ours(received)
    assert received.target == f"{CHAT}?a=1"
    assert not {"referer", "sec-websocket-protocol"} & set(received.names)
