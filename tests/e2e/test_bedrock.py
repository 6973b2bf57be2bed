"""AWS Bedrock: a client's key is passed on, or Envoy signs; native paths, event streams and regional prices."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anthropic
import pytest
from websockets.sync.client import connect

from tests.core.aws import message, text
from tests.e2e.calls import CHAT, asking, call, error_of, new_id
from tests.e2e.conftest import once
from tests.e2e.documented import DOCUMENTED, expected_in, read_in
from tests.e2e.gateway import Build, Gateway, wait_until
from tests.e2e.provider import Answer, Headers, Loop, Provider, Received, json_answer, websocket_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import ORG, ORG_KEY, PROMPT, assert_meant_for, assert_nothing_of_ours, credentials_in, org, secret
from tests.e2e.sigv4 import Signed, signed

REGION = "eu-central-1"
BEARER = secret("ABSK")
ACCESS_KEY, SECRET, TOKEN = secret("AKIA"), secret("aws/"), secret("token/")
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ESCAPED = MODEL.replace(":", "%3A")
ARN = f"arn:aws:bedrock:{REGION}:123456789012:inference-profile/{MODEL}"
CONVERSE = f"/model/{ESCAPED}/converse"
OPENAI_CHAT = "/openai/v1/chat/completions"
ASKED = json.dumps({"messages": [{"role": "user", "content": [{"text": PROMPT}]}]}).encode()
UNSIGNED = Answer(
    status=403,
    headers=[("content-type", "application/json"), ("x-amzn-errortype", "MissingAuthenticationTokenException")],
    pieces=(b'{"message":"Missing Authentication Token"}',),
)


def answer_as_bedrock(received: Received) -> Answer:
    """Without credentials it says so; else the shortest answer that each of its APIs has."""
    if "authorization" not in received.names:
        return UNSIGNED
    document: dict[str, Any] = {"output": {}, "stopReason": "end_turn", "usage": {"inputTokens": 5, "outputTokens": 3}}
    if received.path.startswith("/openai/"):
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        document = {"id": "c1", "object": "chat.completion", "choices": [], "usage": usage}
    return json_answer(document)


@dataclass(frozen=True, slots=True)
class Scene:
    """A gateway in front of one Bedrock that is known under several ids, and the credentials that Envoy signs with."""

    gateway: Gateway
    bedrock: Provider
    credentials: Path

    def call(
        self, target: str, body: bytes | None = ASKED, *, to: str = "signed", method: str = "POST", **more: str
    ) -> Received:
        """One call that must succeed; what arrived."""
        assert call(self.gateway, target, method=method, headers=headers(to, **more), body=body).status_code == 200
        return self.bedrock.next_request()


def headers(to: str = "bedrock", **more: str) -> dict[str, str]:
    named = {"X-Lectr-Key": ORG_KEY, "X-Lectr-Provider": to, "Content-Type": "application/json"}
    return {**named, **{name.replace("_", "-"): value for name, value in more.items()}}


def section(name: str, secret_key: str = SECRET, access_key: str = ACCESS_KEY) -> str:
    keys = f"aws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\naws_session_token = {TOKEN}\n"
    return f"[{name}]\n{keys}"


def settings(origin: str, directory: Path) -> dict[str, Any]:
    def signing(id_: str, file: str, **more: str) -> dict[str, Any]:
        sign = {"credentials_file": str(directory / file), **more}
        return {"id": id_, "kind": "bedrock", "region": REGION, "base_url": origin, "sign": sign}

    return {
        "orgs": [org(ORG, ORG_KEY)],
        "providers": [
            {"id": "bedrock", "base_url": origin},
            signing("signed", "credentials", profile="lectr"),
            signing("wrong", "credentials", profile="wrong"),
            signing("mantle", "credentials", profile="lectr", service="bedrock-mantle"),
            signing("rotated", "rotated"),
            signing("nobody", "missing"),
            {"id": "by-environment", "kind": "bedrock", "region": REGION, "base_url": origin, "sign": True},
        ],
    }


@pytest.fixture(scope="module")
def shared(build: Build, loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("aws")
    (directory / "credentials").write_text(section("lectr") + section("wrong", secret("aws/not-this-")))
    (directory / "rotated").write_text(section("default"))
    found = {
        "AWS_ACCESS_KEY_ID": "AKIDENVIRONMENT",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch, Provider(loop, answer_as_bedrock) as bedrock:
        for name, value in found.items():
            patch.setenv(name, value)
        with Gateway(build, settings(bedrock.origin, directory), tmp_path_factory.mktemp("gateway")) as gateway:
            yield Scene(gateway, bedrock, directory)


@pytest.fixture
def scene(shared: Scene) -> Scene:
    shared.bedrock.reset()
    return shared


# --- a key of the client's --------------------------------------------------------------------------------------------

PATHS = {
    "OpenAI's chat": (CHAT, OPENAI_CHAT),
    "OpenAI's chat under Bedrock's own prefix": (OPENAI_CHAT, OPENAI_CHAT),
    "Claude's messages": ("/v1/messages?beta=true", "/anthropic/v1/messages?beta=true"),
    "Claude's messages under Bedrock's own prefix": ("/anthropic/v1/messages", "/anthropic/v1/messages"),
    "OpenAI's responses": ("/v1/responses", "/openai/v1/responses"),
    "converse": (CONVERSE, CONVERSE),
    "converse, as a stream": (f"{CONVERSE}-stream", f"{CONVERSE}-stream"),
    "invoke": (f"/model/{ESCAPED}/invoke?a=1", f"/model/{ESCAPED}/invoke?a=1"),
    "a colon that is not escaped": (f"/model/{MODEL}/invoke", f"/model/{MODEL}/invoke"),
    "an ARN": (f"/model/{ARN.replace('/', '%2F')}/count-tokens", f"/model/{ARN.replace('/', '%2F')}/count-tokens"),
}


@pytest.mark.parametrize(("path", "target"), PATHS.values(), ids=PATHS)
def test_a_bedrock_key_arrives_as_it_came_at_the_path_bedrock_has(scene: Scene, path: str, target: str) -> None:
    received = scene.call(path, asking("openai.gpt-oss-120b-1:0"), to="bedrock", Authorization=f"Bearer {BEARER}")

    assert_meant_for(scene.bedrock, received, target=target, credential=("authorization", f"Bearer {BEARER}"))
    assert received.body == asking("openai.gpt-oss-120b-1:0")


def test_bedrocks_models_and_paths_lead_there_without_a_header(scene: Scene) -> None:
    for path, body in ((CHAT, asking(MODEL)), (OPENAI_CHAT, asking("openai.gpt-oss-20b-1:0")), (CONVERSE, ASKED)):
        call_id = new_id()
        sent = {"X-Lectr-Key": ORG_KEY, "Content-Type": "application/json", "Authorization": f"Bearer {BEARER}"}
        assert call(scene.gateway, path, headers=sent, body=body, call_id=call_id).status_code == 200
        record = scene.gateway.record(call_id)
        assert (record["provider"], record.get("provider_unknown"), record.get("notes")) == ("bedrock", None, None)


def test_anthropics_own_bedrock_client_works_with_a_bedrock_key(scene: Scene) -> None:
    said = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn"}
    content = [{"type": "text", "text": "The state."}]
    scene.bedrock.answer_with(
        json_answer(said | {"content": content, "usage": {"input_tokens": 5, "output_tokens": 3}})
    )
    client = anthropic.AnthropicBedrock(
        base_url=scene.gateway.url,
        api_key=BEARER,
        aws_region=REGION,
        default_headers={"X-Lectr-Key": ORG_KEY},
        max_retries=0,
    )
    with client:
        answer = client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": PROMPT}])

    assert answer.usage.output_tokens == 3
    received = scene.bedrock.next_request()
    assert unquote(received.target) == f"/model/{MODEL}/invoke"
    assert credentials_in(received) == [("authorization", f"Bearer {BEARER}")]


def clients_signature() -> dict[str, str]:
    scope = "20261120/us-east-1/bedrock/aws4_request"
    said = f"AWS4-HMAC-SHA256 Credential=AKIACLIENT/{scope}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    parts = {"X-Amz-Date": "20261120T000000Z", "X-Amz-Security-Token": secret(""), "X-Amz-Content-SHA256": "0" * 64}
    return {"Authorization": said, **parts}


def test_a_signature_of_the_client_goes_nowhere_and_the_record_says_so(scene: Scene, call_id: str) -> None:
    answer = call(scene.gateway, CONVERSE, headers=headers(**clients_signature()), body=ASKED, call_id=call_id)

    assert (answer.status_code, answer.content) == (403, UNSIGNED.body)
    received = scene.bedrock.next_request()
    assert credentials_in(received) == []
    assert [name for name in received.names if name.startswith("x-amz")] == []
    record = scene.gateway.record(call_id)
    assert (record["notes"], record["error_code"]) == (["aws_signature_removed"], "MissingAuthenticationTokenException")


def test_the_signatures_of_these_tests_are_those_of_awss_own_example() -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    scope = "AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request"
    signature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    names = "content-type;host;x-amz-date"
    example = Received(
        method="GET",
        target="/?Action=ListUsers&Version=2010-05-08",
        headers=[
            ("Host", "iam.amazonaws.com"),
            ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("X-Amz-Date", "20150830T123600Z"),
            ("Authorization", f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"),
        ],
        body=b"",
        sni=None,
        connection=1,
    )
    assert signed(example, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").is_right
    assert not signed(replace(example, body=b" "), "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").is_right


# --- signed by Envoy --------------------------------------------------------------------------------------------------

SIGNED_NAMES = {"host", "content-type", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"}
CREDENTIALS = {
    "no credential": {},
    "a key": {"Authorization": f"Bearer {BEARER}"},
    "a key in another place": {"x-api-key": BEARER},
    "a signature": clients_signature(),
}


def assert_signed(received: Received, **expected: str) -> None:
    """Signed with our credentials over what arrived, and with nothing of the client's."""
    said = signed(received, SECRET)
    wanted = {"key": ACCESS_KEY, "region": REGION, "service": "bedrock", **expected}
    assert said == Signed(**wanted, names=said.names, is_right=True)
    assert said.names >= SIGNED_NAMES - (set() if received.body else {"content-type"})
    assert received.values("x-amz-content-sha256") == [hashlib.sha256(received.body).hexdigest()]
    assert received.values("x-amz-security-token") == [TOKEN]
    assert [name for name, _ in credentials_in(received)] == ["authorization"]
    assert_nothing_of_ours(received)


@pytest.mark.parametrize("sent", CREDENTIALS.values(), ids=CREDENTIALS)
@pytest.mark.parametrize(("path", "target"), PATHS.values(), ids=PATHS)
def test_envoy_signs_what_leaves_whatever_credential_came(
    scene: Scene, path: str, target: str, sent: dict[str, str]
) -> None:
    received = scene.call(path, asking("signed/some-model"), **{name.replace("-", "_"): v for name, v in sent.items()})

    assert received.target == target
    assert_signed(received)
    assert received.json()["model"] == ("signed/some-model" if "/model/" in path else "some-model")


@once
def test_each_attempt_at_several_candidates_is_signed_as_it_leaves(scene: Scene, call_id: str) -> None:
    refused = Answer(status=503, pieces=(b"{}",))
    scene.bedrock.answer_with(refused, refused)
    body = asking("signed/some-model")
    sent = {
        "X-Lectr-Fallback": "bedrock/plain-model, signed/another-model",
        "X-Lectr-Key": ORG_KEY,
        "Content-Type": "application/json",
        "Authorization": f"Bearer {BEARER}",
    }
    assert call(scene.gateway, headers=sent, body=body, call_id=call_id).status_code == 200
    first, plain, last = (scene.bedrock.next_request() for _ in range(3))
    assert_signed(first)
    assert_signed(last)
    assert (first.json()["model"], last.json()["model"]) == ("some-model", "another-model")
    assert credentials_in(plain) == [("authorization", f"Bearer {BEARER}")]
    assert [name for name in plain.names if name.startswith("x-amz-")] == []
    tries = scene.gateway.record(call_id)["tries"]
    assert [(one["provider"], one["status"]) for one in tries] == [("signed", 503), ("bedrock", 503), ("signed", 200)]


def test_a_call_without_a_body_is_signed(scene: Scene) -> None:
    received = scene.call("/v1/models?b=2&a=%20x&c", None, method="GET")
    assert received.target == "/openai/v1/models?b=2&a=%20x&c"
    assert_signed(received)


def test_a_body_of_unknown_length_is_signed(scene: Scene) -> None:
    with Connection(scene.gateway.port) as connection:
        framed = [*headers("signed").items(), ("transfer-encoding", "chunked")]
        connection.send("POST", CONVERSE, framed, b"3\r\n{  \r\n1\r\n}\r\n0\r\n\r\n")
        assert connection.read_head().status == 200
    received = scene.bedrock.next_request()
    assert received.body == b"{  }"
    assert_signed(received)


def test_odd_headers_of_the_client_do_not_break_the_signature(scene: Scene) -> None:
    with Connection(scene.gateway.port) as connection:
        odd = [
            ("x-odd", "a   b"),
            ("x-odd", " c "),
            ("x-quoted", '"a  b"'),
            ("x-empty", ""),
            ("user-agent", "Boto3  1"),
        ]
        connection.send("POST", CONVERSE, [*headers("signed").items(), *odd], ASKED)
        assert connection.read_head().status == 200
    assert_signed(scene.bedrock.next_request())


def test_a_body_as_large_as_bodies_may_be_is_signed_and_a_larger_one_is_refused(scene: Scene) -> None:
    limit = 32 * 1024 * 1024
    received = scene.call(CONVERSE, b'"%b"' % (b"a" * (limit - 2)))
    assert len(received.body) == limit
    assert_signed(received)

    answer = call(scene.gateway, CONVERSE, headers=headers("signed"), body=b"a" * (limit + 1))
    assert error_of(answer) == (413, "application/json", "openai", "request_too_large")


def test_the_service_that_is_signed_for_can_be_another(scene: Scene) -> None:
    assert_signed(scene.call(CHAT, asking(), to="mantle"), service="bedrock-mantle")


def test_a_wrong_secret_makes_a_wrong_signature(scene: Scene) -> None:
    assert not signed(scene.call(CONVERSE, to="wrong"), SECRET).is_right


def test_credentials_are_found_in_the_environment_of_envoy(scene: Scene) -> None:
    said = signed(scene.call(CONVERSE, to="by-environment"), SECRET)
    assert (said.key, said.region, said.is_right) == ("AKIDENVIRONMENT", REGION, True)


def test_a_replaced_credentials_file_takes_effect_without_a_restart(scene: Scene) -> None:
    assert signed(scene.call(CONVERSE, to="rotated"), SECRET).key == ACCESS_KEY
    draft = scene.credentials / "draft"
    draft.write_text(section("default", access_key="AKIANEW"))
    draft.rename(scene.credentials / "rotated")
    wait_until(lambda: signed(scene.call(CONVERSE, to="rotated"), SECRET).key == "AKIANEW", "a new key")


def test_without_credentials_a_call_leaves_unsigned_and_bedrock_answers_for_itself(scene: Scene, call_id: str) -> None:
    sent = headers("nobody", Authorization=f"Bearer {BEARER}")
    answer = call(scene.gateway, CONVERSE, headers=sent, body=ASKED, call_id=call_id)

    assert (answer.status_code, answer.content) == (403, UNSIGNED.body)
    assert answer.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    assert credentials_in(scene.bedrock.next_request()) == []
    record = scene.gateway.record(call_id)
    assert (record["status"], record["error_code"]) == (403, "MissingAuthenticationTokenException")


def test_an_upgrade_does_not_wait_for_a_signature(scene: Scene) -> None:
    scene.bedrock.answer_with(websocket_answer)
    url = f"ws://127.0.0.1:{scene.gateway.port}/v1/realtime?model=some"
    keys = {"X-Lectr-Key": ORG_KEY, "X-Lectr-Provider": "signed", "Authorization": f"Bearer {BEARER}"}
    with connect(url, additional_headers=keys, proxy=None) as websocket:
        websocket.send("state")
        assert websocket.recv() == "state"
    assert credentials_in(scene.bedrock.next_request()) == []


# --- what it answers --------------------------------------------------------------------------------------------------

SPOKEN = {name: case for name, case in DOCUMENTED.items() if case.dialect.startswith("bedrock.")}
OPERATIONS = {"bedrock.converse": "converse", "bedrock.invoke": "invoke", "bedrock.count_tokens": "count-tokens"}
STREAMS = {"converse": "converse-stream", "invoke": "invoke-with-response-stream"}


def test_every_documented_answer_is_read_as_bedrock_means_it_and_passes_unchanged(scene: Scene) -> None:
    ids = {}
    for name, case in SPOKEN.items():
        operation = OPERATIONS[case.dialect]
        if case.about["content_type"].endswith("eventstream"):
            operation = STREAMS[operation]
        scene.bedrock.answer_with(case.answer())
        ids[name] = new_id()
        answer = call(
            scene.gateway, f"/model/{ESCAPED}/{operation}", headers=headers("signed"), body=ASKED, call_id=ids[name]
        )
        assert (answer.content, answer.status_code) == (case.body, case.about["status"]), name
        assert answer.headers["content-type"] == case.about["content_type"]
        assert case.about.get("headers", {}).items() <= answer.headers.items()
    records = {name: scene.gateway.record(call_id) for name, call_id in ids.items()}
    assert {name: read_in(record) for name, record in records.items()} == {
        name: expected_in(records[name], case.expected) for name, case in SPOKEN.items()
    }
    assert {record["model_requested"] for record in records.values()} == {MODEL}


def stream(usage: dict[str, int]) -> Answer:
    def event(kind: str, document: object) -> bytes:
        names = text(":message-type", "event") + text(":event-type", kind) + text(":content-type", "application/json")
        return message(names, json.dumps(document).encode())

    events = [
        event("messageStart", {"role": "assistant"}),
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Envoy"}}),
        event("messageStop", {"stopReason": "end_turn"}),
        event("metadata", {"usage": usage, "metrics": {"latencyMs": 31}}),
    ]
    framing: Headers = [("content-type", "application/vnd.amazon.eventstream")]
    return Answer(headers=framing, pieces=tuple(events), chunked=True)


@pytest.mark.parametrize("operation", ["converse", "converse-stream"])
def test_the_region_in_a_models_name_is_in_the_price(scene: Scene, operation: str) -> None:
    usage = {"inputTokens": 1000, "outputTokens": 100, "totalTokens": 1100}
    cost = {}
    for area in ("global", "us", "eu"):
        answer = stream(usage) if operation == "converse-stream" else json_answer({"usage": usage})
        scene.bedrock.answer_with(answer)
        call_id = new_id()
        path = f"/model/{area}{ESCAPED.removeprefix('us')}/{operation}"
        assert call(scene.gateway, path, headers=headers("signed"), body=ASKED, call_id=call_id).content == answer.body
        record = scene.gateway.record(call_id)
        assert (record["usage"]["input_tokens"], record["usage"]["output_tokens"]) == (1000, 100)
        assert record["pricing_status"] == "priced"
        cost[area] = Decimal(str(record["cost"]["total"] if isinstance(record["cost"], dict) else record["cost"]))
    # Sonnet 4.5 costs 3 and 15 USD per million tokens, and a tenth more where the region is fixed.
    assert cost == {"global": Decimal("0.0045"), "us": Decimal("0.00495"), "eu": Decimal("0.00495")}
