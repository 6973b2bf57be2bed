"""Where the gRPC server listens, who may connect, and how one process takes over from another."""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lectr_extproc.edge import server as server_module
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.server import GrpcServer
from tests.e2e.tls import Authority
from tests.edge.given import body, channel_to, form, headers, live, process, said, serving, settings
from tests.ports import free_port

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def server_of(shared: Live) -> GrpcServer:
    return GrpcServer(shared, lambda _calls, _attempts: None)


async def decides(shared: Live) -> None:
    """A new connection to the address gets a decision."""
    async with channel_to(shared) as channel:
        await decided_on(channel)


async def decided_on(channel: grpc.aio.Channel) -> None:
    call = process(channel)
    await call.write(headers())
    assert said(await call.read())["routed"] == "1"


# --- Unix sockets -----------------------------------------------------------------------------------------------------


async def test_a_process_takes_over_a_unix_socket_before_the_first_one_stops(tmp_path: Path) -> None:
    first, second = live(tmp_path), live(tmp_path)
    old, new = server_of(first), server_of(second)
    await old.start()
    await decides(first)
    await new.start()
    await decides(second)
    assert (first.counts["decisions"], second.counts["decisions"]) == (1, 1)
    await old.stop()
    await decides(second)
    assert second.counts["decisions"] == 2
    await new.stop()


async def test_a_socket_that_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    shared = live(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "lectr.sock"))
    async with serving(shared):
        await decides(shared)
        assert os.listdir(tmp_path) == ["lectr.sock"]  # noqa: PTH208


async def test_only_our_user_and_group_may_connect_to_the_socket(tmp_path: Path) -> None:
    async with serving(live(tmp_path)):
        mode = (tmp_path / "lectr.sock").stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)


async def test_nobody_else_may_connect_before_the_socket_has_its_permissions_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = GrpcServer._bind
    seen: list[tuple[int, int]] = []

    def watched(server: GrpcServer, address: str, tls: Any) -> None:
        bind(server, address, tls)
        path = Path(address.removeprefix("unix:"))
        seen.append((stat.S_IMODE(path.parent.stat().st_mode), stat.S_IMODE(path.stat().st_mode)))

    monkeypatch.setattr(GrpcServer, "_bind", watched)
    before = os.umask(0)
    try:
        async with serving(live(tmp_path)):
            assert stat.S_IMODE((tmp_path / "lectr.sock").stat().st_mode) == 0o660
    finally:
        os.umask(before)
    assert seen == [(0o700, 0o777)], "open to all, in a folder that is open to nobody else"


@pytest.mark.parametrize("path", ["no/such/folder/lectr.sock", "x" * 120], ids=["no folder", "too long"])
async def test_a_socket_that_cannot_be_made_is_a_clear_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(OSError, match=f"cannot listen on unix:{tmp_path}/.*is its folder there"):
        await server_of(Live(settings(f"unix:{tmp_path}/{path}"))).start()


# --- TCP --------------------------------------------------------------------------------------------------------------


async def test_a_process_takes_over_a_port_before_the_first_one_stops() -> None:
    listen = f"127.0.0.1:{free_port()}"
    first, second = Live(settings(listen)), Live(settings(listen))
    old, new = server_of(first), server_of(second)
    await old.start()
    await decides(first)
    await new.start()
    await old.stop()
    await decides(second)
    await new.stop()
    assert (first.counts["decisions"], second.counts["decisions"]) == (1, 1)


async def test_a_busy_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {listen}: is the port taken\\? Set grpc.listen"):
            await server_of(Live(settings(listen))).start()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="authority")
def _authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "ca")
    authority.server_context("lectr.test")
    authority.server_context("envoy.test")
    return authority


def tls(directory: Path, **more: str) -> dict[str, Any]:
    pem = str(directory / "ca" / "lectr.test.pem")
    return {"tls": {"cert": pem, "key": pem, **more}}


def secure_channel(shared: Live, authority: Authority, pem: Path | None = None) -> grpc.aio.Channel:
    own = pem.read_bytes() if pem else None
    credentials = grpc.ssl_channel_credentials(authority.bundle.read_bytes(), own, own)
    options = [("grpc.ssl_target_name_override", "lectr.test")]
    return grpc.aio.secure_channel(shared.settings.grpc_listen, credentials, options=options)


async def test_tls_is_spoken_where_it_is_set_and_nothing_else(tmp_path: Path, authority: Authority) -> None:
    shared = Live(settings(f"127.0.0.1:{free_port()}", grpc=tls(tmp_path)))
    async with serving(shared) as plain_channel, secure_channel(shared, authority) as channel:
        await decided_on(channel)
        plain = process(plain_channel)
        assert await plain.code() is grpc.StatusCode.UNAVAILABLE
    assert shared.counts["decisions"] == 1


async def test_mutual_tls_refuses_a_client_without_a_certificate_of_its_authority(
    tmp_path: Path, authority: Authority
) -> None:
    stranger = Authority(tmp_path / "other")
    stranger.server_context("envoy.test")
    shared = Live(settings(f"127.0.0.1:{free_port()}", grpc=tls(tmp_path, client_ca=str(authority.bundle))))
    async with serving(shared):
        async with secure_channel(shared, authority, tmp_path / "ca" / "envoy.test.pem") as channel:
            await decided_on(channel)
        for pem in (None, tmp_path / "other" / "envoy.test.pem"):
            async with secure_channel(shared, authority, pem) as channel:
                assert await process(channel).code() is grpc.StatusCode.UNAVAILABLE
    assert shared.counts["decisions"] == 1


async def test_files_that_hold_no_certificate_are_a_clear_error(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.write_text("no certificate")
    shared = Live(settings("127.0.0.1:0", grpc={"tls": {"cert": str(pem), "key": str(pem)}}))
    with pytest.raises(OSError, match=r"mend the files of grpc\.tls"):
        await server_of(shared).start()


async def test_a_file_of_tls_that_is_not_there_is_named(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.pem")
    shared = Live(settings("127.0.0.1:0", grpc={"tls": {"cert": gone, "key": gone}}))
    with pytest.raises(FileNotFoundError, match=r"gone\.pem"):
        await server_of(shared).start()


# --- health and stop --------------------------------------------------------------------------------------------------


async def test_health_says_not_serving_before_the_server_is_gone(tmp_path: Path) -> None:
    shared = live(tmp_path)
    server = server_of(shared)
    await server.start()
    async with channel_to(shared) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        stopping = asyncio.create_task(server.stop())
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
        await stopping


async def test_a_call_that_is_being_decided_when_we_stop_is_decided(tmp_path: Path) -> None:
    shared = live(tmp_path)
    server = server_of(shared)
    await server.start()
    async with channel_to(shared) as channel:
        call = process(channel)
        await call.write(form())
        assert (await call.read()).HasField("mode_override")
        stopping = asyncio.create_task(server.stop())
        await shared.draining.wait()
        await call.write(body(b'{"model": "gpt-4o"}'))
        assert said(await call.read())["routed"] == "1"
        await stopping


async def test_a_call_that_never_goes_on_does_not_keep_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "DRAIN_S", 0.05)
    shared = live(tmp_path)
    server = server_of(shared)
    await server.start()
    async with channel_to(shared) as channel:
        call = process(channel)
        await call.write(form())
        await call.read()
        await server.stop()
        assert await call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert shared.counts["decisions_failed"] == 0
