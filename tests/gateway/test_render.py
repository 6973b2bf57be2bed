"""Whole files: the checked-in ones are what is rendered, and both Envoys accept what is rendered for them."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import certifi
import pytest

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway import (
    GatewayOptions,
    LectrTls,
    ServerTls,
    render_all,
    render_bootstrap,
    render_include_bootstrap,
    render_includes,
)
from tests.e2e.gateway import BUILDS, Build
from tests.gateway.examples import (
    DEFAULT_UPSTREAMS,
    NATIVE,
    PORTABLE,
    RELAYING,
    bootstrap,
    clusters,
    listener,
    manager,
    parsed,
)

FOLDER = Path(__file__).parents[2] / "envoy"
PROFILES = pytest.mark.parametrize("options", [NATIVE, PORTABLE], ids=lambda options: options.profile)
# What each Envoy must accept: the newest both profiles, the oldest the portable one.
PAIRS = [*((build, build.profile) for build in BUILDS), (BUILDS[0], "portable")]

ACCEPTED: dict[str, tuple[dict[str, Any], list[Upstream]]] = {
    "the defaults": ({}, DEFAULT_UPSTREAMS),
    "a socket, and a provider by its address, plain": (
        {"lectr": "unix:/run/lectr/lectr.sock"},
        [Upstream.parse("ollama", "http://127.0.0.1:11434/v1")],
    ),
    "lectr by its name, and a provider by IPv6": (
        {"lectr": "lectr.example:9191"},
        [Upstream.parse("custom", "https://[2001:db8::1]:8443/v1")],
    ),
    "a listener inside it, by which calls go on to the next candidate": ({"relays": True}, []),
    "TLS, and no provider": ({"lectr_tls": LectrTls(ca=certifi.where(), server_name="lectr.test")}, []),
}


def validate(build: Build, text: str, directory: Path) -> None:
    file = directory / "envoy.yaml"
    file.write_text(text)
    command = [str(build.binary), "--mode", "validate", "-l", "error", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@PROFILES
def test_the_checked_in_files_are_what_is_rendered(options: GatewayOptions) -> None:
    on_disk = {str(file.relative_to(FOLDER)): file.read_text() for file in (FOLDER / options.profile).rglob("*.yaml")}
    assert on_disk == render_all(options, DEFAULT_UPSTREAMS)


@pytest.mark.parametrize(("build", "profile"), PAIRS, ids=[f"{build.version} {profile}" for build, profile in PAIRS])
@pytest.mark.parametrize(("changes", "upstreams"), ACCEPTED.values(), ids=ACCEPTED)
def test_envoy_accepts_a_gateway_with(
    build: Build, profile: Any, changes: dict[str, Any], upstreams: list[Upstream], tmp_path: Path
) -> None:
    options = GatewayOptions(profile=profile, trusted_ca=certifi.where(), **changes)
    validate(build, render_bootstrap(options, upstreams), tmp_path)


@pytest.mark.parametrize(("build", "profile"), PAIRS, ids=[f"{build.version} {profile}" for build, profile in PAIRS])
def test_envoy_accepts_the_bootstrap_that_includes(build: Build, profile: Any, tmp_path: Path) -> None:
    options = GatewayOptions(profile=profile, trusted_ca=certifi.where())
    for name, text in render_includes(options, DEFAULT_UPSTREAMS).items():
        (tmp_path / name).write_text(text)
    validate(build, render_include_bootstrap(options, str(tmp_path)), tmp_path)


def test_who_has_a_bootstrap_of_their_own_is_told_what_calls_with_several_candidates_need_of_it() -> None:
    text = render_includes(RELAYING, [])["hcm.yaml"]
    assert "\n# - name: lectr_attempts\n" in text
    assert "\n# bootstrap_extensions:" in text
    assert "lectr_attempts" not in render_includes(PORTABLE, [])["hcm.yaml"]


@PROFILES
def test_the_bootstrap_is_the_includes_inlined(options: GatewayOptions) -> None:
    """So `envoy --mode validate` on it checks what Envoy does not look into: the included files."""
    includes = {name: parsed(text) for name, text in render_includes(options, DEFAULT_UPSTREAMS).items()}

    def resources(name: str) -> list[dict[str, Any]]:
        return [{key: value for key, value in item.items() if key != "@type"} for item in includes[name]["resources"]]

    inlined, stubbed = manager(bootstrap(options)), includes["hcm.yaml"]
    assert resources("cds.yaml") == list(clusters(bootstrap(options)).values())
    assert resources("rds.yaml") == [inlined["route_config"]]
    for item in inlined["http_filters"][:-1]:
        assert resources(f"ecds-{item['name']}.yaml") == [item]
    differing = {key for key in inlined.keys() | stubbed.keys() if inlined.get(key) != stubbed.get(key)}
    assert differing == {"route_config", "rds", "http_filters", "upgrade_configs"}


@PROFILES
def test_the_including_bootstrap_has_the_connection_manager_of_hcm_yaml(options: GatewayOptions) -> None:
    included = parsed(render_include_bootstrap(options, options.include_directory))
    assert manager(included) == parsed(render_includes(options, [])["hcm.yaml"])


def test_the_portable_listener_holds_a_whole_body_because_envoy_1_36_looks_nowhere_else() -> None:
    assert listener(bootstrap(PORTABLE))["per_connection_buffer_limit_bytes"] == PORTABLE.max_body_bytes
    assert "per_connection_buffer_limit_bytes" not in listener(bootstrap(NATIVE))


@pytest.mark.parametrize(("client_ca", "asks"), [(None, None), ("/ca.pem", {"trusted_ca": {"filename": "/ca.pem"}})])
def test_clients_call_over_tls_where_there_is_a_certificate(client_ca: str | None, asks: object) -> None:
    tls = ServerTls(cert="/cert.pem", key="/key.pem", client_ca=client_ca)
    chain = listener(bootstrap(replace(NATIVE, tls=tls), []))["filter_chains"][0]
    common = chain["transport_socket"]["typed_config"]["common_tls_context"]
    (certificate,) = common["tls_certificates"]
    assert certificate["private_key"] == {"filename": "/key.pem"}
    assert common.get("validation_context") == asks
    assert "transport_socket" not in listener(bootstrap(upstreams=[]))["filter_chains"][0]


@PROFILES
def test_no_setting_is_repeated_with_its_reason(options: GatewayOptions) -> None:
    """The first provider's cluster explains; the others are the same without the words."""
    text = render_includes(options, DEFAULT_UPSTREAMS)["cds.yaml"]
    assert text.count("happy eyeballs") == (
        3 if options is NATIVE else 2
    )  # the first provider's cluster and its copies
