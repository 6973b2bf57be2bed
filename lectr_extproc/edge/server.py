"""The gRPC server: where it listens, how a second process can listen before the first stops, and how it drains."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lectr_extproc.edge import access_log, ext_proc
from lectr_extproc.edge.access_log import Sink
from lectr_extproc.edge.limits import Limits
from lectr_extproc.edge.live import Live
from lectr_extproc.gateway.options import ServerTls, worker_address

DRAIN_S = 10
"How long calls being decided may take once we were told to stop; then they are cut."


SOCKET_HELP = "is its folder there, and ours to write, and the path shorter than 95 characters?"

LAST_STREAMS = 1.5
"""For how many of Envoy's flush intervals a server that was told to stop still lets streams begin: a worker opens its
log stream when it first flushes, and one that could not would lose its first entries."""


class GrpcServer:
    """Envoy's three services: ext_proc, the access log, and health."""

    def __init__(self, live: Live, sink: Sink, limits: Limits | None = None, worker: int = 0) -> None:
        self._live = live
        self._address = worker_address(live.settings.grpc_listen, worker)
        self._health = health.aio.HealthServicer()
        largest = live.snapshot.limits.max_body_bytes + 64 * 1024
        self._server = grpc.aio.server(
            options=[
                # grpcio's own limit is 4 MiB; a body we ask for arrives as one message.
                ("grpc.max_receive_message_length", largest),
                ("grpc.max_send_message_length", largest),
                ("grpc.max_concurrent_streams", 100_000),
                ("grpc.so_reuseport", 1),
            ],
        )
        self._server.add_generic_rpc_handlers(
            (
                ext_proc.handlers(ext_proc.ExtProc(live, limits)),
                access_log.handlers(access_log.AccessLog(live, sink)),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> None:
        """Listen, then say that we serve."""
        settings = self._live.settings
        listen = self._address
        if listen.startswith("unix:"):
            # Each process binds a path of its own and moves it over the shared one in a single step. Bound directly, a
            # process that stops would unlink the socket of the one that replaced it.
            path = Path(listen.removeprefix("unix:"))
            # A folder that is ours alone: whatever the umask, nobody connects before the socket has its permissions.
            with _new_folder(path) as folder:
                mine = folder / "s"
                self._bind(f"unix:{mine}", settings.grpc_tls)
                await self._server.start()
                # Envoy in a container beside us often is another user: it needs our group (`fsGroup` in Kubernetes).
                # Nobody else may connect, for whoever can may write records.
                mine.chmod(0o660)
                mine.rename(path)
        else:
            self._bind(listen, settings.grpc_tls)
            await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._live.serving.set()

    async def stop(self) -> None:
        """Tell Envoy to go elsewhere, finish what is here, and read the access log until it is quiet."""
        await self._health.enter_graceful_shutdown()
        if self._live.counts["decisions"]:
            await asyncio.sleep(LAST_STREAMS * self._live.settings.gateway.access_log_flush_s)
        self._live.draining.set()
        await self._server.stop(DRAIN_S)

    def _bind(self, address: str, tls: ServerTls | None) -> None:
        try:
            if tls is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, _credentials(tls))
        except RuntimeError:  # gRPC says why on standard error only
            why = "is the port taken? Set grpc.listen to another" + (", or mend the files of grpc.tls" if tls else "")
            if address.startswith("unix:"):
                why = SOCKET_HELP
            raise OSError(f"cannot listen on {address}: {why}") from None


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    try:
        folder = tempfile.mkdtemp(prefix=f"{path.name}.", dir=path.parent)
    except OSError:
        raise OSError(f"cannot listen on unix:{path}: {SOCKET_HELP}") from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    chain = (Path(tls.key).read_bytes(), Path(tls.cert).read_bytes())
    client_ca = Path(tls.client_ca).read_bytes() if tls.client_ca else None
    return grpc.ssl_server_credentials([chain], client_ca, require_client_auth=client_ca is not None)
