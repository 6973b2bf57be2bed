"""What of Envoy's share is which part's: one Envoy for each part of what lectr renders, and nothing else in it."""

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from tests.bench.arms import NATIVE, Arm, Bench, empty_ext_proc, envoy_alone, lectr_arm, static, typed
from tests.bench.load import REPOSITORY


def rendered() -> Mapping[str, Any]:
    """The connection manager that `lectr envoy render` writes."""
    bootstrap = yaml.safe_load((REPOSITORY / "envoy" / NATIVE.profile / "bootstrap.yaml").read_text())
    manager: dict[str, Any] = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    config: dict[str, Any] = manager["typed_config"]
    return config


def http_filter(name: str) -> Mapping[str, Any]:
    found: dict[str, Any] = next(one for one in rendered()["http_filters"] if one["name"] == name)
    return found


def with_body_held(bench: Bench) -> Arm:
    """Envoy waits for a request's last byte, and reads none."""
    return static(bench, "envoy+hold", filters=[typed("filters.http.buffer.v3.Buffer", max_request_bytes=32 << 20)])


def with_body_read(bench: Bench) -> Arm:
    """Envoy reads the few fields that a decision needs."""
    return static(bench, "envoy+json", filters=[http_filter("lectr_json_to_metadata")])


def with_usage_read(bench: Bench) -> Arm:
    """Envoy reads the answer's usage."""
    return static(bench, "envoy+usage", filters=[http_filter("lectr_ai_protocol_manager")])


def with_access_log(bench: Bench) -> Arm:
    """Envoy tells of each call, to somebody who does not listen."""
    return static(bench, "envoy+log", access_log=rendered()["access_log"])


PARTS: Mapping[str, Callable[[Bench], Arm]] = {
    "envoy": envoy_alone,
    "envoy+hold": with_body_held,
    "envoy+json": with_body_read,
    "envoy+usage": with_usage_read,
    "envoy+log": with_access_log,
    "empty": empty_ext_proc,
    "native": lectr_arm("native"),
}
"In the order in which each round takes them."
