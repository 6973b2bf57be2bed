"""What the tests of this band start from: settings, Envoy's messages, and lectr's gRPC server with a client."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from lectr_extproc.core.record import Attempt, CallRecord
from lectr_extproc.edge.access_log import Sink
from lectr_extproc.edge.limits import Limits
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.server import GrpcServer
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import core_pb2 as core
from lectr_extproc.pb import ext_proc_pb2 as ext
from lectr_extproc.settings import Settings, compile_settings

KEY = "lc_key_0123456789abcdefghij"
CLIENT_KEY = "sk-client-0123456789abcdef"
ORG = {"name": "acme", "keys": [{"sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}


def settings(listen: str = "127.0.0.1:0", **sections: Any) -> Settings:
    grpc_section = {"listen": listen, **sections.pop("grpc", {})}
    admin = {"listen": "127.0.0.1:0"}
    envoy = {"access_log_flush_s": 0.02, **sections.pop("envoy", {})}  # a server that stops waits for what Envoy has
    return compile_settings({"orgs": [ORG], "grpc": grpc_section, "admin": admin, "envoy": envoy, **sections})


def live(directory: Path, **sections: Any) -> Live:
    """On a Unix socket in the test's folder; Envoy reads the answers, unless the test says otherwise."""
    sections.setdefault("providers", [{"id": "openai", "observe": "native"}])
    return Live(settings(f"unix:{directory}/lectr.sock", **sections))


# --- Envoy's side of ext_proc -----------------------------------------------------------------------------------------


def headers(
    model: str | None = "gpt-4o", *more: tuple[str, str | bytes], path: str | bytes = "/v1/chat/completions"
) -> ext.ProcessingRequest:
    """The first message about a call with a good key; `more` headers win."""
    pairs: dict[str, str | bytes] = {
        ":method": "POST",
        ":path": path,
        "content-type": "application/json",
        "x-lectr-key": KEY,
        "authorization": f"Bearer {CLIENT_KEY}",
        **dict(more),
    }
    message = ext.ProcessingRequest(request_headers=ext.HttpHeaders(headers=core_headers(list(pairs.items()))))
    if model is not None:
        message.metadata_context.filter_metadata["lectr.request"].update({"model": model})
    return message


def core_headers(pairs: Sequence[tuple[str, str | bytes]]) -> ext.HeaderMap:
    return ext.HeaderMap(
        headers=[
            ext.HeaderValue(key=name, raw_value=value.encode() if isinstance(value, str) else value)
            for name, value in pairs
        ]
    )


def form(size: int = 100, *more: tuple[str, str | bytes]) -> ext.ProcessingRequest:
    """The headers of `curl -d`: the model is hidden in a body of this size."""
    return headers(None, ("content-type", "application/x-www-form-urlencoded"), ("content-length", str(size)), *more)


def body(content: bytes) -> ext.ProcessingRequest:
    return ext.ProcessingRequest(request_body=ext.HttpBody(body=content, end_of_stream=True))


def set_headers(reply: ext.ProcessingResponse) -> dict[str, str]:
    common = (reply.request_body if reply.HasField("request_body") else reply.request_headers).response
    return {h.header.key: h.header.raw_value.decode() for h in common.header_mutation.set_headers}


def said(reply: ext.ProcessingResponse) -> dict[str, str]:
    """The decision, as the reply asks Envoy to remember it."""
    return {key: value.string_value for key, value in reply.dynamic_metadata["lectr"].fields.items()}  # type: ignore[union-attr]


# --- Envoy's side of the access log -----------------------------------------------------------------------------------


def entry(call_id: str = "", **common: Any) -> als.HTTPAccessLogEntry:
    made = als.HTTPAccessLogEntry(common_properties=als.AccessLogCommon(**common))
    if call_id:
        made.common_properties.metadata.filter_metadata["lectr"].update({"call_id": call_id, "routed": "1"})
    return made


def batch(*entries: als.HTTPAccessLogEntry, first: bool = False) -> als.StreamAccessLogsMessage:
    identifier = als.StreamAccessLogsMessage.Identifier(node=core.Node(id="envoy-1"), log_name="lectr")
    return als.StreamAccessLogsMessage(
        identifier=identifier if first else None,
        http_logs=als.StreamAccessLogsMessage.HTTPAccessLogEntries(log_entry=entries),
    )


# --- lectr ------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(
    live: Live, sink: Sink = lambda _calls, _attempts: None, limits: Limits | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """lectr's gRPC server and a channel to it, which sends messages of any size."""
    server = GrpcServer(live, sink, limits)
    await server.start()
    try:
        async with channel_to(live) as channel:
            yield channel
    finally:
        await server.stop()


def channel_to(live: Live) -> grpc.aio.Channel:
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, not one that a channel before it left
    ]
    return grpc.aio.insecure_channel(live.settings.grpc_listen, options=options)


def process(channel: grpc.aio.Channel, messages: Iterable[Any] | None = None) -> Any:
    """A new ext_proc stream, which these messages are all of, if there are any."""
    return channel.stream_stream(
        "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
        request_serializer=ext.ProcessingRequest.SerializeToString if messages is None else None,
        response_deserializer=ext.ProcessingResponse.FromString,
    )(iter(messages) if messages is not None else None)


def access_logs(channel: grpc.aio.Channel, messages: Iterable[Any] | None = None) -> Any:
    """A new access-log stream; it takes messages as bytes."""
    return channel.stream_unary(
        "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
        request_serializer=None,
        response_deserializer=als.StreamAccessLogsResponse.FromString,
    )(iter(messages) if messages is not None else None)


class Records:
    """A sink; `get` waits for the next batch of records."""

    def __init__(self) -> None:
        self._batches: asyncio.Queue[Sequence[CallRecord]] = asyncio.Queue()

    def __call__(self, records: Sequence[CallRecord], attempts: Sequence[Attempt]) -> None:
        self._batches.put_nowait(records)

    async def get(self) -> list[str]:
        """The call ids of the next batch."""
        return [record.call_id for record in await self._batches.get()]
