"""lectr on a listener of others: on for one host, and for no other."""

import yaml

from lectr_extproc.core.upstream import Signing, Upstream
from lectr_extproc.gateway.shared import Piece, own_listener, pieces, written
from tests.gateway.examples import DEFAULT_UPSTREAMS, PORTABLE, bootstrap, clusters, listener, manager

HOST = "llm.example.com"
THERE = pieces(PORTABLE, DEFAULT_UPSTREAMS, HOST)
OWN = manager(bootstrap(PORTABLE))


def test_every_filter_is_off_for_the_listener_and_on_for_the_host() -> None:
    assert all(each["disabled"] for each in THERE.filters)
    assert [each["name"] for each in THERE.filters] == [each["name"] for each in OWN["http_filters"][:-1]]
    on = THERE.virtual_host["typed_per_filter_config"]
    assert {name: config["config"] for name, config in on.items()} == {each["name"]: {} for each in THERE.filters}


def test_filters_have_the_names_that_others_gave_them_wherever_they_stand() -> None:
    there = pieces(PORTABLE, [], HOST, {"lectr": "theirs"})
    names = [each["name"] for each in there.filters]
    assert names == [name.replace("lectr", "theirs") if name == "lectr" else name for name in names]
    configs = [there.virtual_host, *there.virtual_host["routes"]]
    assert all(set(config.get("typed_per_filter_config", names)) == set(names) for config in configs)


def test_filters_are_those_of_a_listener_of_its_own_but_for_the_host_which_may_not_change_while_routes_are_read() -> (
    None
):
    for ours, own in zip(THERE.filters, OWN["http_filters"], strict=False):
        config, wanted = dict(ours["typed_config"]), dict(own["typed_config"])
        if ours["name"] == "lectr":
            rules, allowed = config.pop("mutation_rules"), wanted.pop("mutation_rules")
            assert {**rules, "disallow_expression": None} == {**allowed, "disallow_expression": None}
            assert rules["disallow_expression"] == {"regex": "^(:method|:scheme|:authority|host)$"}
        assert config == wanted


def test_each_providers_cluster_writes_its_own_host_before_anything_signs_the_call() -> None:
    signing = Signing(service="bedrock", region="us-east-1")
    signed = Upstream(provider="bedrock", scheme="https", host="b.example", port=8443, prefix="", signing=signing)
    made = {cluster["name"]: cluster for cluster in pieces(PORTABLE, [signed, *DEFAULT_UPSTREAMS], HOST).clusters}
    own = clusters(bootstrap(PORTABLE, [signed, *DEFAULT_UPSTREAMS]))
    assert made.keys() == {name for name in own if not name.endswith(".h1")}
    for upstream in (signed, *DEFAULT_UPSTREAMS):
        host, no_envoys, *others = _chain(made[upstream.cluster])
        assert f'":authority", "{upstream.authority}"' in host["typed_config"]["default_source_code"]["inline_string"]
        assert no_envoys["name"] == "lectr_no_envoy_headers"
        assert others == _chain(own[upstream.cluster]) or [each["name"] for each in others] == [
            "envoy.filters.http.upstream_codec"
        ]
    assert made["lectr"] == own["lectr"]


def _chain(cluster: Piece) -> list[Piece]:
    options = cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    chain: list[Piece] = options.get("http_filters", [])
    return chain


def test_only_calls_of_its_routes_are_logged_and_get_its_words() -> None:
    (log,) = THERE.manager["access_log"]
    own = OWN["access_log"][0]
    assert log == {**own, "filter": log["filter"]}
    expression = log["filter"]["extension_filter"]["typed_config"]["expression"]
    assert expression == "xds.route_name.startsWith('lectr_')"
    assert all(route["name"].startswith("lectr_") for route in THERE.virtual_host["routes"])
    mappers, owns = THERE.manager["local_reply_config"]["mappers"], OWN["local_reply_config"]["mappers"]
    for mapper, wanted in zip(mappers, owns, strict=True):
        first, *others = mapper["filter"]["and_filter"]["filters"]
        assert first == log["filter"]
        assert {**mapper, "filter": {"and_filter": {"filters": others}}} == wanted


def test_its_routes_are_those_of_a_listener_of_its_own_and_one_against_upgrades() -> None:
    no_upgrade, *routes = THERE.virtual_host["routes"]
    assert no_upgrade["direct_response"] == {"status": 403}
    assert routes == OWN["route_config"]["virtual_hosts"][0]["routes"]
    assert THERE.virtual_host["domains"] == [HOST, f"{HOST}:*"]


def test_a_listener_of_its_own_is_the_rendered_one() -> None:
    document = bootstrap(PORTABLE)
    assert own_listener(PORTABLE, DEFAULT_UPSTREAMS) == (listener(document), list(clusters(document).values()))


def test_what_is_written_reads_back_without_anchors_and_with_programs_in_lines() -> None:
    twice = {"a": 1}
    document = {"first": twice, "second": twice, "program": "one\ntwo\n"}
    text = written("# head\n", [document])
    assert list(yaml.safe_load_all(text)) == [document]
    assert text.startswith("# head\n---\n")
    assert ("&" in text, "program: |\n  one\n  two\n" in text) == (False, True)
