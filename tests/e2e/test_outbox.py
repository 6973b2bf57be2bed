"""Spans leave from the ledger, whatever becomes of the collector and of lectr; attempts stand below their call."""

import signal
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from tests.collector import Collector
from tests.core import finished
from tests.e2e.calls import call, new_id
from tests.e2e.conftest import Launch, LaunchApart, once
from tests.e2e.gateway import Apart, Build, Gateway, wait_until
from tests.e2e.provider import Answer
from tests.e2e.scene import Providers, settings_for

LEFT = 3_000
"Calls that an earlier lectr could not send."
PATIENCE_S = 60.0
"A lectr that was killed has the lease for 15 s, and pauses grow while a collector is down."


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.url)
        yield collector


def export(gateway: Gateway) -> dict[str, Any]:
    return dict(gateway.healthz().json()["export"])


def calls(gateway: Gateway, count: int) -> list[str]:
    ids = [new_id() for _ in range(count)]
    with ThreadPoolExecutor(4) as clients:
        for done in [clients.submit(call, gateway, call_id=one) for one in ids]:
            assert done.result().status_code == 200
    return ids


def leave(path: Path) -> list[str]:
    """A ledger of an earlier lectr, whose collector was down: the calls that it could not send."""
    store = Store(Sqlite(path))
    store.migrate()
    store.begin("otlp")
    left = [finished.call(dialect="openai.chat", path="/v1/chat/completions") for _ in range(LEFT)]
    store.write(left, [])
    store.close()
    return [one.call_id for one in left]


@once
def test_a_collector_that_was_down_gets_every_span_once_it_is_back_and_none_twice(
    launch: Launch, providers: Providers, collector: Collector, tmp_path: Path
) -> None:
    left = leave(tmp_path / "ledger.db")
    collector.status = 503
    gateway = launch({**settings_for(providers), "ledger": {"url": f"sqlite://{tmp_path}/ledger.db"}})
    before = calls(gateway, 100)
    wait_until(lambda: export(gateway)["lag"] == LEFT + 100, "a lag")
    health = gateway.healthz().json()
    assert health["degraded"] == ["export"]
    assert health["export"]["problem"] == "spans wait in the ledger: HTTP 503 Service Unavailable"
    collector.status = 200
    after = calls(gateway, 50)
    wait_until(lambda: len(collector.calls()) == LEFT + 150, "every span", PATIENCE_S)
    wait_until(lambda: export(gateway)["lag"] == 0, "nothing left")
    assert collector.calls() == Counter([*left, *before, *after])
    health = gateway.healthz().json()
    assert (health["export"]["exported"], health["status"]) == (LEFT + 150, "ok")
    assert len(gateway.lines("spans wait in the ledger")) == len(gateway.lines("spans are sent again")) == 1


@once
def test_a_lectr_that_is_killed_before_it_heard_sends_again_and_it_is_the_same_span(
    launch_apart: LaunchApart, providers: Providers, collector: Collector
) -> None:
    gateway = launch_apart(settings_for(providers))
    collector.goes.clear()
    (sent,) = calls(gateway, 1)
    wait_until(lambda: collector.calls() == Counter([sent]), "a span on its way")
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait()
    collector.goes.set()
    gateway.process = gateway.serve()
    (later,) = calls(gateway, 1)
    wait_until(lambda: later in collector.calls(), "the spans of both", PATIENCE_S)
    assert collector.calls() == Counter([sent, sent, later])
    assert len({(span.trace_id, span.span_id) for span in collector.taken}) == 2


class Changed(Apart, ABC):
    """An Envoy to whose bootstrap and connection manager its operator has added something."""

    def start_envoy(self) -> None:
        document = yaml.safe_load(self.bootstrap.read_text())
        ((manager,),) = [
            [f["typed_config"] for c in listener["filter_chains"] for f in c["filters"]]
            for listener in document["static_resources"]["listeners"]
        ]
        self.change(document, manager)
        self.bootstrap.write_text(yaml.safe_dump(document, sort_keys=False))
        super().start_envoy()

    @abstractmethod
    def change(self, bootstrap: dict[str, Any], manager: dict[str, Any]) -> None:
        """What was added, to either of them."""


class Retrying(Changed):
    def change(self, bootstrap: dict[str, Any], manager: dict[str, Any]) -> None:
        (host,) = manager["route_config"]["virtual_hosts"]
        (routed,) = [route for route in host["routes"] if route.get("name") == "lectr_routed"]
        routed["route"]["retry_policy"] = {"retry_on": "5xx", "num_retries": 2}


class Tracing(Changed):
    """Its Envoy sends spans of its own to the collector that lectr sends to."""

    def __init__(self, *args: Any, to: Collector) -> None:
        self.to = to
        super().__init__(*args)

    def change(self, bootstrap: dict[str, Any], manager: dict[str, Any]) -> None:
        host, _, port = urlsplit(self.to.url).netloc.partition(":")
        address = {"socket_address": {"address": host, "port_value": int(port)}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        bootstrap["static_resources"]["clusters"].append(
            {"name": "collector", "load_assignment": {"cluster_name": "collector", "endpoints": endpoints}}
        )
        at_once = {"tracing": {"opentelemetry": {"min_flush_spans": 1}}}
        bootstrap["layered_runtime"] = {"layers": [{"name": "at once", "static_layer": at_once}]}
        tracer = {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "service_name": "envoy",
            "http_service": {"http_uri": {"uri": self.to.url, "cluster": "collector", "timeout": "5s"}},
        }
        manager["tracing"] = {"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer}}


def test_each_attempt_at_a_call_that_was_retried_is_a_span_below_the_calls(
    build: Build, providers: Providers, collector: Collector, tmp_path: Path
) -> None:
    with Retrying(build, settings_for(providers), tmp_path) as gateway:
        providers["openai"].answer_with(Answer(status=503))
        (once,) = calls(gateway, 1)
        wait_until(lambda: once in collector.calls(), "the call's span")
    whole, first, second = collector.taken
    names = [(span.name, span.parent_span_id) for span in collector.taken]
    assert names == [("chat gpt-4o", b""), ("attempt 1", whole.span_id), ("attempt 2", whole.span_id)]
    assert {span.trace_id for span in collector.taken} == {whole.trace_id}
    assert [span.status.code for span in collector.taken] == [0, 2, 0]
    whole_from, until = whole.start_time_unix_nano, whole.end_time_unix_nano
    assert whole_from <= first.start_time_unix_nano <= first.end_time_unix_nano <= second.start_time_unix_nano <= until
    said = [{pair.key: pair.value for pair in span.attributes} for span in (first, second)]
    assert [attributes["http.response.status_code"].int_value for attributes in said] == [503, 200]
    assert said[0]["error.type"].string_value == "503"
    assert said[0]["network.peer.port"].int_value == providers["openai"].port
    assert said[1]["server.address"].string_value == "127.0.0.1"


def test_where_envoy_traces_a_calls_span_stands_below_envoys_call_to_lectr(
    build: Build, providers: Providers, collector: Collector, tmp_path: Path
) -> None:
    with Tracing(build, settings_for(providers), tmp_path, to=collector) as gateway:
        assert call(gateway).status_code == 200  # with an id of Envoy's: of one that is no UUID it makes no spans
        wait_until(lambda: len(collector.taken) >= 3, "spans of Envoy and of lectr")
    spans = {span.name.partition(" ")[0]: span for span in collector.taken}
    assert spans.keys() == {"ingress", "async", "chat"}
    assert [spans["async"].parent_span_id, spans["chat"].parent_span_id] == [
        spans["ingress"].span_id,
        spans["async"].span_id,
    ]
    assert {span.trace_id for span in collector.taken} == {spans["ingress"].trace_id}
