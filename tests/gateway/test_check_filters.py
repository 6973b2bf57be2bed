from typing import Any

import pytest

from lectr_extproc.gateway import check, found_in_dump
from tests.gateway.examples import NATIVE, ONE, Change, bootstrap, dump_of, findings, http_filter, manager

JSON, FALLBACK, USAGE = "lectr_json_to_metadata", "lectr_fallback", "lectr_ai_protocol_manager"


def without(field: str, name: str = "lectr") -> Change:
    return lambda document: http_filter(document, name).pop(field)


def swap(document: dict[str, Any]) -> None:
    chain = manager(document)["http_filters"]
    chain.insert(0, chain.pop(2))


CASES: dict[str, tuple[str, Change]] = {
    f"no filter {JSON}": ("error", lambda document: manager(document)["http_filters"].pop(0)),
    f"no filter {FALLBACK}": ("error", lambda document: manager(document)["http_filters"].pop(1)),
    f"filter {FALLBACK}: default_source_code is missing": ("error", without("default_source_code", FALLBACK)),
    f"no filter {USAGE}": ("error", lambda document: manager(document)["http_filters"].pop(3)),
    "the filters are in another order": ("error", swap),
    "grpc_service.envoy_grpc is another": (
        "error",
        lambda document: http_filter(document)["grpc_service"]["envoy_grpc"].update(cluster_name="other"),
    ),
    "grpc_service.timeout is missing": ("error", lambda document: http_filter(document)["grpc_service"].pop("timeout")),
    "grpc_service.retry_policy is missing": (
        "warning",
        lambda document: http_filter(document)["grpc_service"].pop("retry_policy"),
    ),
    "failure_mode_allow is missing": ("error", without("failure_mode_allow")),
    "processing_mode is another": (
        "error",
        lambda document: http_filter(document)["processing_mode"].update(request_body_mode="BUFFERED"),
    ),
    "allow_mode_override is missing": ("error", without("allow_mode_override")),
    "mutation_rules is missing": ("error", without("mutation_rules")),
    "metadata_options.forwarding_namespaces is missing": (
        "error",
        lambda document: http_filter(document)["metadata_options"].pop("forwarding_namespaces"),
    ),
    "metadata_options.receiving_namespaces is another": (
        "error",
        lambda document: http_filter(document)["metadata_options"]["receiving_namespaces"]["untyped"].pop(),
    ),
    "message_timeout is missing": ("warning", without("message_timeout")),
    "max_message_timeout is missing": ("warning", without("max_message_timeout")),
    "observability_mode is set": ("error", lambda document: http_filter(document).update(observability_mode=True)),
    "request_rules.rules is another": (
        "error",
        lambda document: http_filter(document, JSON)["request_rules"]["rules"].pop(),
    ),
    "allow_content_types_regex is missing": (
        "warning",
        lambda document: http_filter(document, JSON)["request_rules"].pop("allow_content_types_regex"),
    ),
    "response_handling is missing": ("error", without("response_handling", USAGE)),
    "default_llm_protocol is set": (
        "error",
        lambda document: http_filter(document, USAGE).update(default_llm_protocol="OPENAI_RESPONSES"),
    ),
    "the websocket upgrade has no filters of its own": (
        "warning",
        lambda document: manager(document)["upgrade_configs"][0].pop("filters"),
    ),
}


@pytest.mark.parametrize(("words", "severity", "change"), [(k, *v) for k, v in CASES.items()], ids=CASES)
def test_what_a_filter_lacks_is_named_once(words: str, severity: str, change: Change) -> None:
    (finding,) = findings(change)
    assert words in finding.what
    assert finding.severity == severity


def test_what_to_do_is_the_rendered_yaml() -> None:
    (finding,) = findings(without("failure_mode_allow"))
    assert finding.do == "failure_mode_allow: true"


def test_upgrades_to_other_protocols_are_anybodys() -> None:
    assert findings(lambda document: manager(document)["upgrade_configs"].append({"upgrade_type": "tcp"})) == []


def test_a_filter_whose_configuration_has_not_arrived_is_named_where_envoy_runs() -> None:
    document = bootstrap(upstreams=ONE)
    manager(document)["http_filters"][2] = {"name": "lectr", "config_discovery": {}}
    manager(document)["upgrade_configs"] = [{"upgrade_type": "tcp"}]
    (finding,) = check(found_in_dump(dump_of(document)), NATIVE, ONE)
    assert finding.what.endswith("the configuration of filter lectr has not arrived")
    assert findings(lambda one: manager(one)["http_filters"].__setitem__(2, {"name": "lectr"})) == []
