"""The rendered configuration keeps its promises on real Envoys, whatever lectr does, and without it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway import (
    LectrTls,
    render_bootstrap,
    render_include_bootstrap,
    render_includes,
)
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.e2e.conftest import once
from tests.e2e.envoy import (
    GOOD_KEY,
    Envoy,
    Headers,
    Rig,
    ScriptedLectr,
    decide_for,
    options_for,
    port_of,
    refuse,
    route,
)
from tests.e2e.gateway import Build
from tests.e2e.provider import Answer, Cut, Gate, Loop, Provider, json_answer, websocket_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import HUSH
from tests.e2e.tls import Authority
from tests.ports import free_port

Start = Callable[..., Rig]

SHAPES = pytest.mark.parametrize(
    ("target", "shape"), [("/v1/chat/completions", "openai"), ("/v1/messages?beta=true", "anthropic")], ids=str
)
UPGRADE = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
]
CLIENT_CONTROL = [("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "3"), ("x-envoy-upstream-rq-timeout-ms", "1")]


@pytest.fixture
def provider(loop: Loop) -> Iterator[Provider]:
    with Provider(loop, lambda _: json_answer({"from": "the provider"})) as provider:
        yield provider


@pytest.fixture
def start(build: Build, provider: Provider, tmp_path: Path) -> Iterator[Start]:
    """Start the three parts; they end with the test."""
    with ExitStack() as stack:

        def start(
            *,
            upstream: Upstream | None = None,
            lectr_runs: bool = True,
            change: Callable[[str], str] = str,
            credentials: grpc.ServerCredentials | None = None,
            **options: Any,
        ) -> Rig:
            to = upstream or Upstream.parse("provider", provider.origin + "/v1")
            chosen = options_for(build, tmp_path, **options)
            lectr = ScriptedLectr(chosen.lectr, decide_for(to), credentials)
            if lectr_runs:
                stack.enter_context(lectr)
            envoy = stack.enter_context(Envoy(build, chosen, change(render_bootstrap(chosen, [to])), tmp_path))
            return Rig(port=envoy.port, lectr=lectr, envoy=envoy, options=chosen, upstream=to)

        yield start


def assert_shape(document: dict[str, Any], shape: str) -> None:
    if shape == "anthropic":
        assert document["type"] == "error"
        assert document["error"]["message"].startswith(document["error"]["code"])
    else:
        assert set(document) == {"error"}
        assert set(document["error"]) == {"message", "type", "param", "code"}


def body_of(size: int) -> bytes:
    return b'{"model": "some", "input": "' + b"a" * size + b'"}'


# --- at the door ------------------------------------------------------------------------------------------------------

KEYS = {
    "no key": (None, "missing_lectr_key"),
    "an empty key": ("", "invalid_lectr_key"),
    "a key too short": ("lc_key_0123456789abcde", "invalid_lectr_key"),
    "another kind of key": ("sk-proj-0123456789abcdef", "invalid_lectr_key"),
    "a key with something before it": (f"Bearer {GOOD_KEY}", "invalid_lectr_key"),
    "a key with something after it": (f"{GOOD_KEY} or 1", "invalid_lectr_key"),
}


@SHAPES
def test_strangers_get_401_in_the_shape_their_sdk_understands(start: Start, target: str, shape: str) -> None:
    rig = start()
    for case, (key, code) in KEYS.items():
        status, said, document = rig.fails_with(target, key=key)
        assert (status, said) == (401, code), case
        assert_shape(document, shape)
        suffix = "_anthropic" if shape == "anthropic" else ""
        entry = rig.lectr.entry()
        assert entry.common_properties.route_name == f"lectr_{code.removesuffix('_lectr_key')}_key{suffix}", case
    assert rig.lectr.asked.empty()


def test_a_strangers_body_is_not_waited_for(start: Start) -> None:
    rig = start()
    with Connection(rig.port) as connection:
        length = str(64 * 1024 * 1024)
        connection.send(
            "POST", "/v1/chat/completions", [("content-type", "application/json"), ("content-length", length)]
        )
        assert connection.read_head().status == 401


def test_two_well_formed_keys_are_for_lectr_to_judge(start: Start) -> None:
    rig = start()
    rig.call(headers=[("x-lectr-key", GOOD_KEY + "2")])
    headers, _ = rig.lectr.asked.get(timeout=5)
    assert headers["x-lectr-key"] == f"{GOOD_KEY}2,{GOOD_KEY}"


def test_a_strangers_upgrade_is_turned_away_too(start: Start) -> None:
    rig = start()
    with Connection(rig.port) as connection:
        connection.send("GET", "/v1/realtime", UPGRADE)
        assert connection.read_head().status == 401
    assert rig.lectr.asked.empty()


# --- when lectr does not decide ---------------------------------------------------------------------------------------


@SHAPES
def test_without_lectr_calls_are_refused_and_none_reaches_a_provider(
    start: Start, provider: Provider, target: str, shape: str
) -> None:
    rig = start(lectr_runs=False)
    ours = [("x-lectr-cluster", rig.upstream.cluster), *CLIENT_CONTROL]
    status, code, document = rig.fails_with(target, headers=ours)
    assert (status, code) == (503, "gateway_unavailable")
    assert_shape(document, shape)
    assert provider.requests == []


def test_a_lectr_that_is_too_slow_is_not_waited_for(start: Start, provider: Provider) -> None:
    rig = start(message_timeout_s=0.2)
    answered = threading.Event()

    def hesitate(headers: Headers, message: ext.ProcessingRequest) -> ext.ProcessingResponse:
        answered.wait(10)
        return route(rig.upstream.cluster)

    rig.lectr.decide = hesitate
    assert rig.fails_with()[:2] == (503, "gateway_unavailable")
    answered.set()
    assert provider.requests == []


def test_a_lectr_that_starts_late_is_found_by_the_next_call(start: Start) -> None:
    rig = start(lectr_runs=False)
    assert rig.call()[0].status == 503
    with rig.lectr:
        assert rig.call()[0].status == 200
        assert rig.lectr.entry().common_properties.route_name in {"lectr_unrouted", "lectr_routed"}
    assert rig.call()[0].status == 503


@pytest.mark.parametrize("status", [400, 401, 413, 503, 504])
def test_what_lectr_answers_itself_reaches_the_client_unchanged(start: Start, status: int) -> None:
    rig = start()
    rig.lectr.decide = lambda *_: refuse(status, '{"said": "by lectr"}')
    head, body = rig.call()
    assert (head.status, body) == (status, b'{"said": "by lectr"}')
    assert head.values("content-type") == ["application/json; from=lectr"]


# --- large bodies -----------------------------------------------------------------------------------------------------


@SHAPES
def test_a_body_that_is_too_large_gets_413_and_lectr_is_not_asked(start: Start, target: str, shape: str) -> None:
    rig = start(max_body_bytes=2_000_000)
    status, code, document = rig.fails_with(target, body=body_of(2_200_000))
    assert (status, code) == (413, "request_too_large")
    assert_shape(document, shape)
    assert rig.lectr.asked.empty()


def test_prompts_with_images_pass(start: Start, provider: Provider) -> None:
    rig = start()
    body = body_of(10_000_000)
    assert rig.call(body=body)[0].status == 200
    assert provider.next_request().body == body
    _headers, message = rig.lectr.asked.get(timeout=5)
    assert message.metadata_context.filter_metadata["lectr.request"]["model"] == "some"
    assert message.WhichOneof("request") == "request_headers"


# --- when the provider does not answer --------------------------------------------------------------------------------


@SHAPES
def test_a_provider_that_cannot_be_reached_is_named_as_such(start: Start, target: str, shape: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        rig = start(upstream=Upstream.parse("gone", f"http://127.0.0.1:{nobody.getsockname()[1]}"))
        status, code, document = rig.fails_with(target, headers=CLIENT_CONTROL)
    assert (status, code) == (503, "provider_unreachable")
    assert_shape(document, shape)
    assert rig.lectr.entry().common_properties.upstream_request_attempt_count == 1


def test_a_cluster_that_envoy_does_not_know_yet_is_an_unreachable_provider(start: Start) -> None:
    rig = start()
    rig.lectr.decide = lambda *_: route("not-there-yet")
    assert rig.fails_with()[:2] == (503, "provider_unreachable")


BROKEN = {
    "a reset": Answer(head=b"", pieces=(Cut.RESET,)),
    "an early close": Answer(head=b"", pieces=(Cut.CLOSE,)),
    "not HTTP": Answer(head=b"HTTP/1.1 what?\r\n\r\n"),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_a_provider_that_breaks_off_is_asked_once_and_reported(
    start: Start, provider: Provider, answer: Answer
) -> None:
    rig = start()
    provider.answer_with(answer)
    assert rig.fails_with(headers=CLIENT_CONTROL)[:2] == (503, "provider_unreachable")
    assert len(provider.requests) == 1


def test_a_provider_that_stays_silent_is_a_timeout(start: Start, provider: Provider) -> None:
    rig = start(stream_idle_timeout_s=0.3)
    gate = Gate()
    provider.answer_with(Answer(head=b"", pieces=(gate,)))
    assert rig.fails_with()[:2] == (504, "provider_timeout")
    gate.open()


@pytest.mark.parametrize("status", [413, 429, 503, 504])
def test_a_providers_own_error_is_the_clients_answer(start: Start, provider: Provider, status: int) -> None:
    rig = start()
    provider.answer_with(json_answer({"error": "the provider's"}, status=status))
    head, body = rig.call(headers=CLIENT_CONTROL)
    assert (head.status, body) == (status, b'{"error": "the provider\'s"}')
    assert len(provider.requests) == 1


# --- headers and paths ------------------------------------------------------------------------------------------------


def test_the_answer_has_the_providers_headers_in_its_order_and_no_others(start: Start, provider: Provider) -> None:
    rig = start()
    theirs = [
        ("x-b", "2"),
        ("set-cookie", "a=1"),
        ("server", "theirs"),
        ("x-envoy-upstream-service-time", "7"),
        ("set-cookie", "b=2"),
        ("x-request-id", "req_1"),
        ("via", "1.1 theirs"),
        ("date", "Mon, 05 Jan 2026 00:00:00 GMT"),
        ("content-length", "2"),
    ]
    provider.answer_with(Answer(headers=theirs, pieces=(b"{}",)))
    head, _ = rig.call()
    assert head.headers == theirs


def test_the_provider_gets_the_clients_headers_and_nothing_of_proxies_or_ours(start: Start, provider: Provider) -> None:
    rig = start()
    request_id = "0b1bd0c4-9f8c-4d3a-8a3f-5a1b2c3d4e5f"
    proxies = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-host", "a"), ("x-forwarded-other", "b")]
    ours = [("x-lectr-cluster", "theirs"), ("x-envoy-other", "c"), ("x-request-id", request_id)]
    rig.call(headers=[*proxies, *ours, ("x-own", "1"), ("x-own", "2")])
    assert sorted(provider.next_request().headers) == [
        ("authorization", f"Bearer {HUSH}-the-providers"),
        ("content-length", "17"),
        ("content-type", "application/json"),
        ("host", "provider.test"),
        ("x-own", "1"),
        ("x-own", "2"),
        ("x-request-id", request_id),
    ]


PATHS = {
    "a base URL that ended in a slash": ("/v1//chat/completions", "/v1/chat/completions"),
    "a slash inside a model's name": ("/v1/models/some%2Fmodel", "/v1/models/some%2Fmodel"),
    "a way out of the prefix": ("/v1/../admin", "/admin"),
    "a hidden way out of the prefix": ("/v1/%2e%2e/admin", "/admin"),
    "a way above the root": ("/../../admin", "/admin"),
    "dots in a query": ("/v1/chat?path=//a/../b", "/v1/chat?path=//a/../b"),
    "a colon": ("/v1beta/models/some:generateContent", "/v1beta/models/some:generateContent"),
    "a broken escape": ("/v1/%zz", "/v1/%zz"),
}


def test_odd_paths_are_resolved_before_lectr_sees_them(start: Start, provider: Provider) -> None:
    rig = start()
    for case, (sent, seen) in PATHS.items():
        assert rig.call(sent)[0].status == 200, case
        headers, _ = rig.lectr.asked.get(timeout=5)
        assert (headers[":path"], provider.next_request().target) == (seen, seen), case


def _as_it_is(message: bytes) -> bytes:
    return message


def test_clients_may_speak_http_2_without_tls(start: Start) -> None:
    rig = start()
    with grpc.insecure_channel(f"127.0.0.1:{rig.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/v1/chat", _as_it_is, _as_it_is)(b"", timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


# --- upgrades and TLS -------------------------------------------------------------------------------------------------


def test_a_websocket_goes_through_the_clusters_twin(start: Start, provider: Provider) -> None:
    rig = start()
    rig.lectr.decide = lambda *_: route(f"{rig.upstream.cluster}.h1")
    provider.answer_with(websocket_answer)
    with Connection(rig.port) as connection:
        connection.send("GET", "/v1/realtime?model=some", [*UPGRADE, ("x-lectr-key", GOOD_KEY)])
        assert connection.read_head().status == 101
        connection.send_bytes(b"\x81\x82\x00\x00\x00\x00hi")
        assert connection.read_exactly(4) == b"\x81\x02hi"


HTTP2_PROVIDER = """
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %(admin)d}}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %(port)d}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [{certificate_chain: {filename: "%(pem)s"}, private_key: {filename: "%(pem)s"}}]
      filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: provider
          upgrade_configs: [{upgrade_type: websocket}]
          http_filters:
          - {name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            request_headers_to_add: [{header: {key: arrived-over, value: "%%PROTOCOL%%"}}]
            virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: behind}}]}]
  clusters:
  - name: behind
    type: STATIC
    load_assignment:
      cluster_name: behind
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %(to)d}}}}]}]
"""


def test_a_provider_that_speaks_http_2_gets_calls_over_it_and_upgrades_over_http_1(
    start: Start, build: Build, provider: Provider, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    authority.server_context("localhost")
    place = options_for(build, tmp_path)
    ports = {"admin": port_of(place.admin), "port": port_of(place.listen), "to": provider.port}
    (tmp_path / "front").mkdir()
    config = HTTP2_PROVIDER % {**ports, "pem": tmp_path / "ca" / "localhost.pem"}
    upstream = Upstream.parse("fast", f"https://localhost:{ports['port']}")
    with Envoy(build, place, config, tmp_path / "front"):
        rig = start(upstream=upstream, trusted_ca=str(authority.bundle))
        assert rig.call()[0].status == 200
        assert provider.next_request().values("arrived-over") == ["HTTP/2"]
        rig.lectr.decide = lambda *_: route(f"{upstream.cluster}.h1")
        provider.answer_with(websocket_answer)
        with Connection(rig.port) as connection:
            connection.send("GET", "/v1/realtime?model=some", [*UPGRADE, ("x-lectr-key", GOOD_KEY)])
            assert connection.read_head().status == 101
        assert provider.next_request().values("arrived-over") == ["HTTP/1.1"]


def test_a_provider_must_show_a_certificate_of_its_own_name(start: Start, loop: Loop, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with Provider(loop, lambda _: json_answer({}), authority.server_context("localhost")) as real:
        rig = start(upstream=Upstream.parse("real", f"https://localhost:{real.port}"), trusted_ca=str(authority.bundle))
        assert rig.call()[0].status == 200
        assert real.next_request().sni == "localhost"


def test_a_provider_with_a_certificate_of_another_name_gets_nothing(start: Start, loop: Loop, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with Provider(loop, lambda _: json_answer({}), authority.server_context("other.test")) as false:
        rig = start(
            upstream=Upstream.parse("false", f"https://localhost:{false.port}"), trusted_ca=str(authority.bundle)
        )
        assert rig.fails_with()[:2] == (503, "provider_unreachable")
        assert false.requests == []


@pytest.mark.parametrize(
    ("server_name", "has_certificate", "status"),
    [("lectr.test", True, 200), ("other.test", True, 503), ("lectr.test", False, 503)],
    ids=["they know each other", "lectr has another name", "Envoy has no certificate"],
)
def test_envoy_and_lectr_know_each_other_by_their_certificates(
    start: Start, tmp_path: Path, server_name: str, has_certificate: bool, status: int
) -> None:
    authority = Authority(tmp_path / "ca")
    for name in ("lectr.test", "envoy.test"):
        authority.server_context(name)
    pem = (tmp_path / "ca" / "lectr.test.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([(pem, pem)], authority.bundle.read_bytes(), require_client_auth=True)
    own = str(tmp_path / "ca" / "envoy.test.pem") if has_certificate else None
    tls = LectrTls(ca=str(authority.bundle), server_name=server_name, cert=own, key=own)
    rig = start(credentials=credentials, lectr=f"localhost:{free_port()}", lectr_tls=tls)
    assert rig.call()[0].status == status


# --- the log ----------------------------------------------------------------------------------------------------------


def test_each_call_and_each_failed_attempt_is_logged_and_no_key_in_either(start: Start, provider: Provider) -> None:
    rig = start()
    provider.answer_with(json_answer({}, status=500))
    rig.call(
        headers=[
            ("authorization", f"Bearer {HUSH}-the-clients"),
            ("x-request-id", "joined-by-this"),
            ("user-agent", "some"),
        ]
    )
    call, attempt = rig.lectr.entry(), rig.lectr.entry("lectr_attempt")
    assert call.common_properties.metadata.filter_metadata["lectr"]["routed"] == "1"
    assert call.common_properties.upstream_cluster == rig.upstream.cluster
    assert call.request.request_id == attempt.request.request_id == b"joined-by-this"
    assert HUSH not in str(call)
    assert HUSH not in str(attempt)


# --- include files ----------------------------------------------------------------------------------------------------


def replace_file(directory: Path, name: str, text: str) -> None:
    new = directory / f"{name}.new"
    new.write_text(text)
    new.rename(directory / name)


def await_status(rig: Rig, status: int, **call: Any) -> None:
    """Call until it is so; the deadline is the connection's."""
    for _ in range(1000):
        if rig.call(**call)[0].status == status:
            return
    raise AssertionError(f"no {status} in 1000 calls:\n{rig.envoy.output}")


@pytest.fixture
def including(build: Build, provider: Provider, tmp_path: Path) -> Iterator[tuple[Rig, Path]]:
    """An Envoy that reads include files, which know no provider yet."""
    directory = tmp_path / "include"
    directory.mkdir()
    options = replace(options_for(build, tmp_path), include_directory=str(directory))
    for name, text in render_includes(options, []).items():
        (directory / name).write_text(text)
    to = Upstream.parse("provider", provider.origin + "/v1")
    bootstrap = render_include_bootstrap(options, str(directory))
    lectr = ScriptedLectr(options.lectr, decide_for(to))
    with lectr, Envoy(build, options, bootstrap, tmp_path) as envoy:
        yield Rig(port=port_of(options.listen), lectr=lectr, envoy=envoy, options=options, upstream=to), directory


def test_replaced_include_files_take_effect_without_a_restart(including: tuple[Rig, Path]) -> None:
    rig, directory = including
    assert rig.fails_with()[:2] == (503, "provider_unreachable")
    files = render_includes(rig.options, [rig.upstream])
    replace_file(directory, "cds.yaml", files["cds.yaml"])
    await_status(rig, 200)
    replace_file(directory, "rds.yaml", files["rds.yaml"].replace("status: 401", "status: 418"))
    await_status(rig, 418, key=None)
    replace_file(
        directory,
        "ecds-lectr.yaml",
        files["ecds-lectr.yaml"].replace("request_header_mode: SEND", "request_header_mode: SKIP"),
    )
    await_status(rig, 503)


def test_a_broken_include_file_is_refused_and_the_old_one_keeps_serving(including: tuple[Rig, Path]) -> None:
    rig, directory = including
    files = render_includes(rig.options, [rig.upstream])
    replace_file(directory, "cds.yaml", files["cds.yaml"])
    await_status(rig, 200)
    replace_file(directory, "cds.yaml", "resources: [{broken")
    replace_file(directory, "rds.yaml", files["rds.yaml"].replace("status: 401", "status: 418"))
    await_status(rig, 418, key=None)
    assert rig.call()[0].status == 200


@once
def test_a_name_that_nobody_answers_for_keeps_envoy_from_serving_for_seconds_only(start: Start) -> None:
    """A minute without the settings of the resolver: longer than this Envoy is waited for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))

        def asking_it(text: str) -> str:
            document = yaml.safe_load(text)
            where = {"address": "127.0.0.1", "port_value": silent.getsockname()[1]}
            document["typed_dns_resolver_config"]["typed_config"]["resolvers"] = [{"socket_address": where}]
            return str(yaml.safe_dump(document))

        rig = start(upstream=Upstream.parse("provider", "http://provider.example/v1"), change=asking_it)
        assert silent.recv(512)
    assert rig.fails_with()[:2] == (503, "provider_unreachable")


# --- an Envoy of one's own --------------------------------------------------------------------------------------------


def with_a_bare_connection_manager(text: str) -> str:
    """What is left if nobody applied hcm.yaml: the filters, a plain router and the routes."""
    document = yaml.safe_load(text)
    config = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    config["http_filters"][-1]["typed_config"] = {"@type": config["http_filters"][-1]["typed_config"]["@type"]}
    kept = {name: config[name] for name in ("@type", "stat_prefix", "http_filters", "route_config")}
    document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"] = kept
    return str(yaml.safe_dump(document))


def test_a_connection_manager_without_hcm_yaml_leads_nobody_to_a_provider(start: Start, provider: Provider) -> None:
    rig = start(lectr_runs=False, change=with_a_bare_connection_manager)
    ours = [("x-lectr-cluster", rig.upstream.cluster), *CLIENT_CONTROL]
    assert rig.call(headers=ours)[0].status == 503
    assert rig.call(headers=ours, key=None)[0].status == 401
    assert provider.requests == []


def test_a_connection_manager_without_hcm_yaml_lets_lectr_choose_the_cluster(start: Start, provider: Provider) -> None:
    rig = start(change=with_a_bare_connection_manager)
    assert rig.call(headers=[("x-lectr-cluster", "theirs"), ("x-forwarded-for", "192.0.2.1")])[0].status == 200
    received = provider.next_request()
    assert [name for name in received.names if name.startswith(("x-lectr-", "x-forwarded-"))] == []
