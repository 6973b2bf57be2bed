"""Our subset of Envoy's API is Envoy's API: a wrong number would fail silently, as a field that is never there."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lectr_extproc.pb import access_log_pb2, ext_proc_pb2

ROOT = Path(__file__).parents[2]
XDS_PROTOS = Path(os.environ.get("LECTR_XDS_PROTOS") or ROOT / ".tools" / "xds-protos")
FILES = sorted((ROOT / "proto").rglob("*.proto"))
Descriptors = dict[str, dict[str, Any]]
OURS = "lectr_extproc.pb."

SAME_BYTES = {
    # Clients write these; a string that is not UTF-8 would cost the whole batch its entries.
    "HTTPRequestProperties.path": {"type": "TYPE_STRING"},
    "HTTPRequestProperties.request_id": {"type": "TYPE_STRING"},
    # An enum in Envoy's API; both are varints.
    "HttpStatus.code": {"type": "TYPE_ENUM", "of": "envoy.type.v3.StatusCode"},
}


def run(*arguments: object, path: Path = ROOT) -> str:
    command, environment = [sys.executable, *map(str, arguments)], {**os.environ, "PYTHONPATH": str(path)}
    result = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def descriptors(*arguments: object, path: Path = ROOT) -> Descriptors:
    read: Descriptors = json.loads(run(ROOT / "tests" / "proto_descriptors.py", *arguments, path=path))
    return read


def xds_protos() -> Descriptors:
    assert XDS_PROTOS.is_dir(), f"{XDS_PROTOS} is missing: run make setup"
    modules = ["envoy.service.ext_proc.v3.external_processor_pb2", "envoy.service.accesslog.v3.als_pb2"]
    return descriptors("modules", *modules, path=XDS_PROTOS)


def envoy_binary() -> Descriptors:
    binary = Path(sysconfig.get_path("purelib"), "envoy", "_bin", "envoy")
    assert binary.is_file(), f"{binary} is missing: run make setup"
    roots = ["service/ext_proc/v3/external_processor", "service/accesslog/v3/als", "data/ai/v3/token_usage"]
    return descriptors("binary", binary, *(f"envoy/{root}.proto" for root in roots))


def mirrored() -> dict[str, str]:
    """Our top-level names and the official ones, from the comments of the .proto files."""
    definition = re.compile(r"^// Mirrors (\S+)\n(?://.*\n)*(?:message|enum) (\w+)", re.MULTILINE)
    return {ours: official for file in FILES for official, ours in definition.findall(file.read_text())}


def in_envoys_words(files: list[Path]) -> Descriptors:
    """What these files define, under the names that they say they mirror."""
    names = mirrored()

    def official(name: str) -> str:
        if not name.startswith(OURS):
            return name
        top, dot, nested = name.removeprefix(OURS).partition(".")
        return names[top] + dot + nested

    def fields(name: str, members: dict[str, Any]) -> dict[str, Any]:
        return {
            key: {**value, "of": official(value["of"]), **SAME_BYTES.get(f"{name.removeprefix(OURS)}.{key}", {})}
            if isinstance(value, dict)
            else value
            for key, value in members.items()
        }

    ours = descriptors("modules", *(f"lectr_extproc.pb.{file.stem}_pb2" for file in files))
    return {official(name): fields(name, members) for name, members in ours.items()}


# xds-protos 1.85.0 is older than Envoy 1.40 and has no token usage; the binary is the Envoy we run against.
SOURCES = {
    "the published API": (xds_protos, [file for file in FILES if file.stem != "token_usage"]),
    "the Envoy binary": (envoy_binary, FILES),
}


@pytest.mark.parametrize(("read", "files"), SOURCES.values(), ids=SOURCES)
def test_every_field_and_enum_value_is_envoys(read: Callable[[], Descriptors], files: list[Path]) -> None:
    official, ours = read(), in_envoys_words(files)
    assert ours.keys() <= official.keys()
    differing = [
        f"{name}.{member} is {official[name].get(member)} there, {value} here"
        for name, members in ours.items()
        for member, value in members.items()
        if official[name].get(member) != value
    ]
    assert not differing, "\n".join(differing)


def test_it_shares_a_process_with_the_otlp_exporters() -> None:
    exporters = [f"opentelemetry.exporter.otlp.proto.{transport}.trace_exporter" for transport in ("grpc", "http")]
    ours = [f"lectr_extproc.pb.{file.stem}_pb2" for file in FILES]
    loaded = run("-c", f"import sys, {', '.join(ours + exporters)}; print(*sys.modules)").split()
    assert not {"envoy", "xds", "udpa", "validate"} & set(loaded)


def test_what_a_newer_envoy_adds_is_skipped_and_kept() -> None:
    added = b"\xfa\x06\x03new"  # field 111, three bytes
    properties = access_log_pb2.AccessLogCommon(route_name="pinned").SerializeToString() + added
    entry = b"\x0a" + bytes([len(properties)]) + properties + added
    read = access_log_pb2.HTTPAccessLogEntry.FromString(entry)
    assert read.common_properties.route_name == "pinned"
    assert read.SerializeToString() == entry


def test_a_message_we_do_not_know_is_none_of_those_we_do() -> None:
    client_window_update = b"\x6a\x00"  # field 13 of the same oneof since Envoy 1.40
    request = ext_proc_pb2.ProcessingRequest.FromString(client_window_update)
    assert request.WhichOneof("request") is None


def test_an_unknown_enum_value_stays_a_number() -> None:
    read = access_log_pb2.AccessLogCommon.FromString(b"\x88\x02\x63")  # access_log_type 99
    assert read.access_log_type == 99
