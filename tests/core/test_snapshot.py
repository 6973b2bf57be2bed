import dataclasses

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.reach import find_endpoint
from lectr_extproc.core.snapshot import USUAL_PATHS, Observation
from lectr_extproc.core.tables import Bounds, Org
from tests.core.given import azure_site, digest, snapshot


def test_the_longest_shape_of_a_key_is_asked_first() -> None:
    shapes = [shape for shape, _ in snapshot().key_shapes]
    assert shapes == sorted(shapes, key=len, reverse=True)
    assert shapes.index("sk-ant-") < shapes.index("sk-")
    assert dict(snapshot().key_shapes)["gsk_"] == "groq"


def test_an_address_of_several_orgs_is_one_upstream() -> None:
    tables, site = snapshot(azure_site()), azure_site("2024-10-21")
    orgs = {**tables.orgs_by_key, digest("second"): Org(name="second", sites={"azure": site})}
    clusters = [upstream.cluster for upstream in dataclasses.replace(tables, orgs_by_key=orgs).upstreams]
    assert clusters.count(site.upstream.cluster) == 1
    assert len(clusters) == len(set(clusters)) == len(tables.sites) + 1


def test_an_org_by_its_name_is_bounded_by_none_of_its_keys() -> None:
    bounded = Org(name="second", blocked=frozenset({"o3"}), of_key=Bounds(blocked=frozenset({"gpt-4o"})))
    tables = dataclasses.replace(snapshot(), orgs_by_key={digest("second"): bounded})
    assert tables.orgs == {"second": Org(name="second", blocked=frozenset({"o3"}))}


def test_unless_settings_say_otherwise_the_chunk_is_taken_out_and_nobody_is_told_how_to_read() -> None:
    defaults = Observation(answers={}, reported_costs={}, envoy_reads_usage=False)
    assert (defaults.usage_chunk, dict(defaults.wanted)) == ("strip", {})


def test_a_provider_of_ones_own_is_of_a_known_kind_and_any_other_of_its_own() -> None:
    tables = snapshot(more=[dataclasses.replace(PROVIDERS["ollama"], id="second")])
    assert [tables.kind_of(id_) for id_ in ("second", "ollama", "nobody")] == ["ollama", "ollama", "nobody"]


def test_a_usual_path_has_the_endpoint_that_a_search_finds() -> None:
    tables = snapshot()
    assert tables.usual_endpoints.keys() == set(USUAL_PATHS)
    for path, endpoint in tables.usual_endpoints.items():
        assert endpoint.dialect != "other"
        assert endpoint == next(row for row in tables.endpoints if row.pattern.fullmatch(path))
        assert find_endpoint(path, tables) is endpoint
