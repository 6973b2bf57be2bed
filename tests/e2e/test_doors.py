"""Who may speak to lectr, and write its records: the Envoy it belongs to, and nobody who is only somewhere near."""

from pathlib import Path
from typing import Any

import grpc

from tests.e2e.calls import call, error_of, new_id
from tests.e2e.conftest import LaunchApart
from tests.e2e.gateway import STOP_WITHIN_S, Gateway
from tests.e2e.scene import ORG, ORG_KEY, Providers, contacted, settings_for
from tests.e2e.tls import Authority
from tests.edge.given import batch, entry

FORGED = "forged-by-a-stranger"


def forge(target: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """Tell of a call that never was, as an Envoy would."""
    made = entry(FORGED)
    made.common_properties.metadata.filter_metadata["lectr"].update({"org": ORG})
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stream: Any = channel.stream_unary("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs")
        try:
            stream(iter([batch(made, first=True).SerializeToString()]), timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def received(gateway: Gateway) -> int:
    """How many finished calls lectr was told of."""
    count: int = gateway.healthz().json()["ledger"]["received"]
    return count


def test_a_forged_record_is_written_for_nobody_who_is_elsewhere(
    launch_apart: LaunchApart, providers: Providers
) -> None:
    gateway = launch_apart(settings_for(providers), over="tcp")
    port = gateway.grpc_port

    assert forge(f"127.0.0.2:{port}") is grpc.StatusCode.UNAVAILABLE, "the port is on the one loopback address"
    client = [("x-lectr-key", ORG_KEY), ("x-lectr-cluster", "lectr"), ("x-lectr-provider", "lectr")]
    assert forge(f"127.0.0.1:{gateway.port}") is not grpc.StatusCode.OK
    assert forge(f"127.0.0.1:{gateway.port}", *client) is not grpc.StatusCode.OK
    call_id = new_id()
    call(gateway, call_id=call_id)
    gateway.record(call_id)
    assert FORGED not in gateway.output

    # So the forgery is a good one, and nothing but the address stands between: docs/running.md says so.
    assert forge(f"127.0.0.1:{port}") is grpc.StatusCode.OK
    assert gateway.record(FORGED)["org"] == ORG


def test_only_an_envoy_with_a_certificate_of_our_authority_is_answered_and_believed(
    launch_apart: LaunchApart, providers: Providers, tmp_path: Path
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    for authority, name in ((ours, "lectr.test"), (ours, "envoy.test"), (theirs, "envoy.test")):
        authority.server_context(name)
    server, envoy, stranger = (
        str(tmp_path / f"{pem}.pem") for pem in ("ours/lectr.test", "ours/envoy.test", "theirs/envoy.test")
    )

    def settings(client: dict[str, str]) -> dict[str, Any]:
        tls = {"cert": server, "key": server, "client_ca": str(ours.bundle)}
        lectr_tls = {"ca": str(ours.bundle), "server_name": "lectr.test", **client}
        return {**settings_for(providers), "grpc": {"tls": tls}, "envoy": {"lectr_tls": lectr_tls}}

    gateway = launch_apart(settings({"cert": envoy, "key": envoy}), over="tcp")
    call_id = new_id()
    assert call(gateway, call_id=call_id).status_code == 200
    gateway.record(call_id)
    before, asked = received(gateway), contacted(providers)

    for client in ({}, {"cert": stranger, "key": stranger}):
        gateway.envoy.terminate()
        gateway.envoy.wait(STOP_WITHIN_S)
        gateway.write_settings(settings(client))
        gateway.render()
        gateway.launch_envoy()
        assert error_of(call(gateway))[::3] == (503, "gateway_unavailable")
    assert forge(f"127.0.0.1:{gateway.grpc_port}") is grpc.StatusCode.UNAVAILABLE
    gateway.envoy.terminate()  # what it had to tell it has tried to tell
    gateway.envoy.wait(STOP_WITHIN_S)
    assert (received(gateway), contacted(providers)) == (before, asked)
    assert gateway.healthz().json()["counts"]["decisions"] == 1
