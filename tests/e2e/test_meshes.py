"""lectr on listeners that Istio and Envoy Gateway made: its host's calls go by way of it, all else never meets it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from lectr_extproc.doctor import examine
from lectr_extproc.settings import load
from tests.e2e.calls import CHAT, JSON, asking, call, error_of, new_id
from tests.e2e.envoy import Envoy, options_for, port_of
from tests.e2e.gateway import BUILDS, HTTP, Apart, Build, wait_until
from tests.e2e.meshes import (
    HOST,
    SHOP,
    apply_envoy_filter,
    apply_envoy_patches,
    documents,
    envoy_gateway,
    istio_gateway,
)
from tests.e2e.provider import Answer, Cut, json_answer
from tests.e2e.scene import OPENAI_KEY, Providers, assert_meant_for, settings_for
from tests.e2e.test_envoy_config import HTTP2_PROVIDER
from tests.e2e.tls import Authority
from tests.gateway.test_render import validate
from tests.ports import free_port

Piece = dict[str, Any]

oldest = pytest.mark.parametrize("build", BUILDS[-1:], indirect=True, ids=str)
"Meshes bring an Envoy of their own, so the profile is the one for all."


class Mesh(Apart):
    """lectr, and an Envoy with what a mesh makes of the shop and of our resources."""

    def __init__(self, kind: str, build: Build, providers: Providers, settings: Piece, directory: Path) -> None:
        self.kind = kind
        self.shop, self.openai = providers["groq"], providers["openai"]
        self.shop_port = free_port()
        super().__init__(build, settings, directory)

    def render(self) -> None:
        resources = documents(self.ask("envoy", "render", "--for", self.kind, "--host", HOST))
        if self.kind == "envoy-gateway":
            there = envoy_gateway(self.port, self.shop.port, resources)
            made = apply_envoy_patches(there, resources)
        elif self.kind == "istio-gateway":
            made = apply_envoy_filter(istio_gateway(self.port, self.shop.port), resources[0], "GATEWAY")
        else:
            made = apply_envoy_filter(istio_gateway(self.shop_port, self.shop.port), resources[0], "SIDECAR_OUTBOUND")
        self.bootstrap = self.processes.directory / "envoy.yaml"
        self.bootstrap.write_text(json.dumps(bootstrap(made, self.envoy_admin_port)))

    def ask_llm(self, feature: str = "-", headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        """A call of lectr's host. Its record is found by its feature: not every mesh keeps a client's x-request-id."""
        return call(self, headers={**JSON, "Host": HOST, "X-Lectr-Feature": feature, **(headers or {})}, **more)

    def ask_other(self, host: str = SHOP, body: bytes = b"{}") -> httpx.Response:
        """A call that is none of lectr's."""
        port = self.shop_port if self.kind == "istio-sidecar" else self.port
        return HTTP.post(f"http://127.0.0.1:{port}{CHAT}", headers={**JSON, "Host": host}, content=body)

    def heard(self) -> tuple[int, int]:
        """How often lectr was asked, and told of a call."""
        health = self.healthz().json()
        return health["counts"].get("decisions", 0), health["ledger"]["written"]


def bootstrap(made: Piece, admin: int) -> Piece:
    """All that a mesh sends to an Envoy, in a file."""
    listener = made["listener"]
    chain = listener["default_filter_chain"] if "default_filter_chain" in listener else listener["filter_chains"][0]
    chain["filters"][0]["typed_config"]["route_config"] = made["routes"]
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": [listener, *made["listeners"]], "clusters": made["clusters"]},
    }


@pytest.fixture(scope="module", params=["istio-gateway", "envoy-gateway", "istio-sidecar"])
def shared(request: pytest.FixtureRequest, build: Build, listening: Providers, tmp_path_factory: Any) -> Iterator[Mesh]:
    """Its provider Gemini is an Envoy with TLS and HTTP/2 in front of the shop."""
    directory, front = tmp_path_factory.mktemp("mesh"), tmp_path_factory.mktemp("front")
    authority, place = Authority(front), options_for(build, front)
    authority.server_context("localhost")
    ports = {"admin": port_of(place.admin), "port": port_of(place.listen), "to": listening["groq"].port}
    config = (HTTP2_PROVIDER % {**ports, "pem": front / "localhost.pem"}).replace(
        "%PROTOCOL%", "%PROTOCOL% %REQ(:SCHEME)%"
    )
    settings = settings_for(listening)
    (gemini,) = [provider for provider in settings["providers"] if provider["id"] == "gemini"]
    gemini["base_url"] = f"https://localhost:{ports['port']}/v1"
    settings["envoy"] = {"trusted_ca": str(authority.bundle)}
    with Envoy(build, place, config, front), Mesh(request.param, build, listening, settings, directory) as mesh:
        yield mesh


@pytest.fixture
def mesh(shared: Mesh, providers: Providers) -> Mesh:
    return shared


@oldest
def test_calls_of_its_host_are_decided_and_recorded(mesh: Mesh, call_id: str) -> None:
    answer = mesh.ask_llm(call_id)
    assert answer.status_code == 200
    received = mesh.openai.next_request()
    assert_meant_for(mesh.openai, received, target=CHAT, credential=("authorization", f"Bearer {OPENAI_KEY}"))
    record = mesh.record(call_id)
    assert (record["provider"], record["token_source"]) == ("openai", "provider")
    assert "x-envoy-upstream-service-time" not in answer.headers
    found = examine(load(mesh.served.read_text())).findings
    # A sidecar's bootstrap is Istio's, which has neither of these two.
    assert [finding.severity for finding in found] == ["warning"] * (2 if mesh.kind == "istio-sidecar" else 0), found


@oldest
def test_a_provider_is_called_by_its_own_name_over_tls_and_http_2(mesh: Mesh) -> None:
    assert mesh.ask_llm(body=asking("gemini-2.5-pro")).status_code == 200
    received = mesh.shop.next_request()
    assert received.values("arrived-over") == ["HTTP/2 https"]
    assert received.values("host")[0].startswith("localhost:")


@oldest
def test_of_calls_of_other_hosts_lectr_is_neither_asked_nor_told(mesh: Mesh) -> None:
    mesh.ask_llm(first := new_id())
    mesh.record(first)
    decided, told = mesh.heard()
    for body in (b'{"model": "gpt-4o"}', b"not json", b"x" * 100_000):
        assert mesh.ask_other(body=body).status_code == 200
        assert mesh.shop.next_request().body == body
    assert mesh.ask_other("elsewhere.example.com").status_code == 404
    # Envoy hands its log on in the order of calls: what was told of those before would be there by now.
    mesh.ask_llm(last := new_id())
    mesh.record(last)
    wait_until(lambda: mesh.heard()[1] > told, "the record of the last call")
    assert mesh.heard() == (decided + 1, told + 1)


@oldest
def test_strangers_and_calls_without_lectr_get_answers_that_sdks_understand(mesh: Mesh) -> None:
    for key in ({}, {"X-Lectr-Key": "lc_key_short"}):
        answer = mesh.ask_llm(headers={"X-Lectr-Key": "", **key})
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
    mesh.openai.answer_with(Answer(head=b"", pieces=(Cut.RESET,)))
    assert error_of(mesh.ask_llm()) == (503, "application/json", "openai", "provider_unreachable")
    assert mesh.ask_llm(body=b'{"model": "' + b"x" * 40_000_000 + b'"}').status_code == 413


@oldest
def test_no_client_makes_a_call_happen_twice_or_upgrades_it(mesh: Mesh) -> None:
    control = {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "3"}
    mesh.openai.answer_with(json_answer({"error": {}}, status=503), json_answer({}))
    assert mesh.ask_llm(headers=control).status_code == 503
    assert mesh.openai.next_request().names.count("x-envoy-retry-on") == 0
    if mesh.kind != "istio-sidecar":  # whose listener is lectr's own, with its own filters for upgrades
        upgrade = {"connection": "Upgrade", "upgrade": "websocket"}
        assert mesh.ask_llm(method="GET", headers=upgrade).status_code == 403


@oldest
def test_the_newest_envoy_accepts_the_same(mesh: Mesh, tmp_path: Path) -> None:
    validate(BUILDS[0], mesh.bootstrap.read_text(), tmp_path)


@oldest
def test_without_lectr_its_host_is_refused_and_others_do_not_notice(mesh: Mesh) -> None:
    """The last one: nobody starts lectr again."""
    mesh.process.kill()
    mesh.process.wait()
    assert error_of(mesh.ask_llm()) == (503, "application/json", "openai", "gateway_unavailable")
    assert mesh.openai.requests == []
    assert mesh.ask_other().status_code == 200
