"""Wire conversion: Envoy's messages to values and back, protobuf's own work included."""

from collections.abc import Iterator

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import read_facts
from lectr_extproc.core.outcome import Route, to_metadata
from lectr_extproc.edge import wire, wire_log
from lectr_extproc.pb import access_log_pb2 as als
from lectr_extproc.pb import ext_proc_pb2 as ext
from tests.bench.decide import HEADERS, entry, message, snapshot
from tests.bench.timing import microseconds


def measure() -> Iterator[tuple[str, str]]:
    """Per call."""
    asked = message().SerializeToString()
    parsed = ext.ProcessingRequest.FromString(asked)
    facts = read_facts(HEADERS, {"model": "gpt-4o"}, end_of_stream=False)
    route = decide(facts, snapshot())
    assert isinstance(route, Route)
    metadata = to_metadata(route, facts, "0" * 32)
    batch = als.StreamAccessLogsMessage()
    batch.http_logs.log_entry.extend([entry(metadata)] * 20)
    sent = batch.SerializeToString()

    def convert() -> object:
        return wire.headers_from(parsed.request_headers), wire.request_metadata_from(parsed)

    for what, cost in {
        "a request's bytes as a message": microseconds(lambda: ext.ProcessingRequest.FromString(asked)),
        "its headers and metadata": microseconds(convert),
        "the reply to it, in bytes": microseconds(lambda: wire.reply_from(route, metadata, to_body=False)),
        "a log entry, of a batch of 20": microseconds(
            lambda: list(wire_log.told_in(als.StreamAccessLogsMessage.FromString(sent))), calls=300
        )
        / 20,
    }.items():
        yield what, f"{cost:6.1f} µs"
