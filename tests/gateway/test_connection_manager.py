import json
from dataclasses import replace
from typing import Any

import pytest

from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.spool import FORMAT, NATIVE_FORMAT
from lectr_extproc.gateway import GatewayOptions
from tests.gateway.examples import NATIVE, PORTABLE, RELAYING, bootstrap, manager

CONFIGS = {
    "native": manager(bootstrap(NATIVE)),
    "portable": manager(bootstrap(PORTABLE)),
    "relaying": manager(bootstrap(RELAYING)),
}
PROFILES = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


@PROFILES
def test_an_upgraded_call_passes_no_filter_that_could_wait_for_a_body(config: dict[str, Any]) -> None:
    (websocket,) = config["upgrade_configs"]
    assert [item["name"] for item in websocket["filters"]] == ["lectr", "envoy.filters.http.router"]


@PROFILES
def test_the_clients_own_key_header_is_never_stripped_early(config: dict[str, Any]) -> None:
    (extension,) = config["early_header_mutation_extensions"]
    prefixes = [m["remove_on_match"]["key_matcher"]["prefix"] for m in extension["typed_config"]["mutations"]]
    assert prefixes == ["x-envoy-", "x-forwarded-"]


@PROFILES
def test_no_log_entry_can_carry_a_credential(config: dict[str, Any]) -> None:
    router = config["http_filters"][-1]["typed_config"]
    for log in (*config["access_log"], *router["upstream_log"]):
        assert not [option for option in log["typed_config"] if option.startswith("additional_")]


@PROFILES
def test_calls_and_attempts_are_logged_under_names_of_their_own(config: dict[str, Any]) -> None:
    router = config["http_filters"][-1]["typed_config"]
    logs = [*config["access_log"], *router["upstream_log"]]
    assert [log["typed_config"]["common_config"]["log_name"] for log in logs] == ["lectr", "lectr_attempt"]


@PROFILES
def test_every_answer_of_envoys_own_is_one_of_our_refusals_in_both_shapes(config: dict[str, Any]) -> None:
    said = [
        (mapper["status_code"], json.loads(mapper["body_format_override"]["text_format_source"]["inline_string"]))
        for mapper in config["local_reply_config"]["mappers"]
    ]
    codes = ["request_too_large", "provider_timeout", "provider_unreachable", "gateway_unavailable"]
    codes += ["gateway_unavailable"] * (config is not CONFIGS["portable"])  # the first for an attempt that nobody made
    assert said == [
        (REFUSALS[code].status, json.loads(REFUSALS[code].body(shape)))
        for code in codes
        for shape in ("anthropic", "openai")
    ]


@pytest.mark.parametrize("options", [NATIVE, PORTABLE], ids=["native", "portable"])
def test_a_spool_takes_the_place_of_the_log_of_calls(options: GatewayOptions) -> None:
    config = manager(bootstrap(replace(options, spool="/var/lib/lectr/a file.jsonl")))
    (log,) = config["access_log"]
    assert log["typed_config"]["path"] == "/var/lib/lectr/a file.jsonl"
    native = NATIVE_FORMAT if options is NATIVE else {}
    assert log["typed_config"]["log_format"]["json_format"] == {**FORMAT, **native}


@PROFILES
def test_only_attempts_that_failed_are_logged(config: dict[str, Any]) -> None:
    (log,) = config["http_filters"][-1]["typed_config"]["upstream_log"]
    *statuses, flags = log["filter"]["or_filter"]["filters"]
    compared = [item["status_code_filter"]["comparison"] for item in statuses]
    assert [(item["op"], item["value"]["default_value"]) for item in compared] == [("GE", 400), ("EQ", 0)]
    assert flags == {"response_flag_filter": {}}
    assert ["filter" in log for log in config["access_log"]] == [False]


@PROFILES
def test_envoy_writes_of_a_clients_certificate_only_where_that_is_asked_for(config: dict[str, Any]) -> None:
    xfcc = manager(bootstrap(replace(NATIVE, identity="xfcc"), []))
    assert xfcc["forward_client_cert_details"] == "SANITIZE_SET"
    assert xfcc["set_current_client_cert_details"] == {"uri": True}
    assert not {"forward_client_cert_details", "set_current_client_cert_details"} & config.keys()
