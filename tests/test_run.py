import asyncio
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.decision import WELL_FORMED_KEY
from lectr_extproc.edge.envoy import EnvoyError
from lectr_extproc.explain import explain
from lectr_extproc.keys import digest, new_key
from lectr_extproc.run import banner, practice_settings, run, run_defaults, run_directory
from lectr_extproc.settings import ConfigError, Settings, compile_settings, load

KEY = new_key()
PLAYED = "file:practice.key"
REACHED = [row for row in PROVIDERS.values() if row.base_url]
ALL_KEYS = {row.key_env: "hunter2" for row in REACHED if row.key_env}


def practice(**environment: str) -> Settings:
    return compile_settings(practice_settings(environment, 4711, KEY, PLAYED))


def addresses(settings: Settings) -> dict[str, str]:
    sites = {**settings.snapshot.sites, **settings.snapshot.orgs_by_key[digest(KEY)].sites}
    return {id_: site.upstream.authority for id_, site in sites.items()}


# --- settings without a file ------------------------------------------------------------------------------------------


def test_without_any_key_the_practice_provider_plays_everyone() -> None:
    assert addresses(practice()) == dict.fromkeys(("azure", *(row.id for row in REACHED)), "127.0.0.1:4711")


def test_a_provider_whose_key_is_there_is_called_itself() -> None:
    reached = addresses(practice(GROQ_API_KEY="hunter2", OPENAI_API_KEY=""))
    assert (reached["groq"], reached["openai"]) == ("api.groq.com", "127.0.0.1:4711")


def test_azure_is_where_the_environment_says() -> None:
    assert addresses(practice(AZURE_OPENAI_ENDPOINT="https://x.openai.azure.com"))["azure"] == "x.openai.azure.com"


def test_the_path_tells_the_practice_provider_whom_it_plays() -> None:
    settings = practice()
    org = settings.snapshot.orgs_by_key[digest(KEY)]
    assert settings.snapshot.sites["groq"].upstream.prefix == "/groq/openai/v1"
    native = {"gemini": "/v1beta/models/m:generateContent", "cohere": "/v2/chat", "bedrock": "/model/m/converse"}
    for provider, path in native.items():
        answer = explain(settings, model="m", path=path, headers=[])
        assert (answer["provider"], answer["upstream"]["path"]) == (provider, f"/{provider}{path}")
    assert (org.name, org.sites["azure"].upstream.prefix) == ("practice", "/azure")


def test_envoy_and_lectr_talk_over_a_private_socket_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    defaults = run_defaults(tmp_path)
    assert load("", defaults=defaults).gateway.lectr == f"unix:{tmp_path}/lectr.sock"
    assert load("grpc: {listen: 127.0.0.1:1}", defaults=defaults).gateway.lectr == "127.0.0.1:1"


def test_the_folder_of_a_run_is_private_and_goes_with_it() -> None:
    with run_directory() as directory:
        (directory / "lectr.sock").touch()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not directory.exists()


# --- what a newcomer reads --------------------------------------------------------------------------------------------


def test_practising_needs_nothing_but_a_line_to_paste() -> None:
    text = banner(practice(), KEY)
    assert "http://127.0.0.1:10000/v1" in text
    assert "  console   http://127.0.0.1:8088/\n" in text
    assert f"-H 'Authorization: Bearer {KEY}'" in text
    assert f'api_key="{KEY}")' in text
    assert "X-Lectr-Key" not in text
    assert "  openai      practice: OPENAI_API_KEY is not set, the built-in provider answers" in text
    assert "  azure       practice: AZURE_OPENAI_ENDPOINT is not set" in text


def test_a_key_in_the_environment_is_held_for_the_one_org() -> None:
    endpoint = "https://acme.openai.azure.com"
    environment = {**ALL_KEYS, "AZURE_OPENAI_API_KEY": "hunter2", "AZURE_OPENAI_ENDPOINT": endpoint}
    practising = practice_settings(environment, 4711, KEY, PLAYED)
    settings = load("", defaults=practising, read_reference=lambda reference: environment[reference[4:]])
    org = settings.snapshot.orgs_by_key[digest(KEY)]
    assert {id_: held.secret for id_, held in org.credentials.items()} == dict.fromkeys(
        ("azure", *(row.id for row in REACHED)), "hunter2"
    )
    text = banner(settings, KEY)
    assert f"-H 'Authorization: Bearer {KEY}'" in text
    assert "  openai      api.openai.com: the gateway holds a key" in text
    assert "hunter2" not in text
    assert "practice:" not in text


def test_with_settings_of_ones_own_no_key_is_made_up() -> None:
    tls = "envoy: {listen: '127.0.0.1:8000', tls: {cert: c, key: k}}"
    assert "curl https://127.0.0.1:8000/v1/" in banner(load(f"orgs: [{{name: a, keys: []}}]\n{tls}"), None)
    text = banner(load("orgs: [{name: a, keys: []}]\nenvoy: {listen: '127.0.0.1:8000'}"), None)
    assert WELL_FORMED_KEY.search(text) is None
    assert '-H "X-Lectr-Key: $LECTR_KEY"' in text
    assert '-H "Authorization: Bearer $OPENAI_API_KEY"' in text
    assert """default_headers={"X-Lectr-Key": "lc_key_..."})""" in text
    assert "curl http://127.0.0.1:8000/v1/chat/completions" in text
    assert "  groq        api.groq.com: calls carry their own key\n" in text
    assert "  azure       no org has an endpoint for it: calls get azure_config_missing" in text
    assert "ollama" not in text


def test_a_provider_of_ones_own_on_this_machine_is_no_practice() -> None:
    vllm = {"id": "vllm", "base_url": "http://127.0.0.1:8000"}
    settings = {**practice_settings({}, 4711, KEY, PLAYED), "providers": [vllm]}
    assert "  vllm        127.0.0.1:8000: calls carry their own key\n" in banner(compile_settings(settings), KEY)


def test_a_provider_that_gets_no_key_of_anyones_is_told_so() -> None:
    text = """
    providers:
    - {id: ollama, base_url: 'http://127.0.0.1:11434'}
    - {id: mine, base_url: 'http://10.0.0.5', auth: none}
    - {id: bedrock, region: eu-west-1, sign: true}
    """
    told = banner(load(text), None)
    assert "  ollama      127.0.0.1:11434: no key\n" in told
    assert "  mine        10.0.0.5: no key\n" in told
    assert "  bedrock     bedrock-runtime.eu-west-1.amazonaws.com: Envoy signs\n" in told


def test_where_the_gateway_holds_the_key_one_of_ours_is_all_a_caller_needs() -> None:
    text = banner(load("credentials: {openai: env:OPENAI_API_KEY}"), None)
    assert '-H "Authorization: Bearer $LECTR_KEY"' in text
    assert 'api_key="lc_key_...")' in text
    assert "  openai      api.openai.com: the gateway holds a key\n" in text
    assert "  groq        api.groq.com: calls carry their own key\n" in text


def test_azures_key_never_goes_to_the_practice_provider() -> None:
    made = practice_settings({"AZURE_OPENAI_API_KEY": "hunter2"}, 4711, KEY, PLAYED)
    assert set(made["orgs"][0]["credentials"].values()) == {PLAYED}


def test_what_is_played_has_a_key_so_that_a_model_can_be_chosen_of_it() -> None:
    held = practice_settings({"OPENAI_API_KEY": "hunter2"}, 4711, KEY, PLAYED)["orgs"][0]["credentials"]
    assert held == {"openai": "env:OPENAI_API_KEY"} | dict.fromkeys(
        ("azure", *(row.id for row in REACHED if row.id != "openai")), PLAYED
    )


# --- what goes wrong before Envoy starts ------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def start(settings: str, directory: Path, version: str = "1.40.0") -> None:
    """Run with an Envoy that only tells its version, and ends."""
    binary = directory / "envoy"
    binary.write_text(
        f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'envoy version: 0/{version}/Clean' && exit 0\nexit 3\n"
    )
    binary.chmod(0o700)
    asyncio.run(run(settings, None, binary, directory))


def given(envoy: str) -> str:
    return f"envoy: {envoy}\nadmin: {{listen: '127.0.0.1:{free()}'}}"


@pytest.mark.parametrize("name", ["listen", "admin"])
def test_a_port_that_is_taken_names_the_setting(name: str, taken: int, tmp_path: Path) -> None:
    ports = {"listen": free(), "admin": free(), name: taken}
    envoy = f"{{listen: '127.0.0.1:{ports['listen']}', admin: '127.0.0.1:{ports['admin']}'}}"
    with pytest.raises(EnvoyError, match=f"cannot listen on 127.0.0.1:{taken} .*: set envoy.{name} to another port"):
        start(given(envoy), tmp_path)


def test_an_old_envoy_is_told_to_use_the_portable_profile(tmp_path: Path) -> None:
    envoy = f"{{listen: '127.0.0.1:{free()}', admin: '127.0.0.1:{free()}'}}"
    with pytest.raises(EnvoyError, match=r"the native profile needs Envoy 1\.40; set envoy\.profile to portable"):
        start(given(envoy), tmp_path, "1.36.4")


def test_an_envoy_that_does_not_come_up_ends_the_run(tmp_path: Path) -> None:
    envoy = f"{{profile: portable, listen: '127.0.0.1:{free()}', admin: '127.0.0.1:{free()}'}}"
    with run_directory() as directory, pytest.raises(EnvoyError, match="Envoy ended with code 3 before it served"):
        start(given(envoy), directory, "1.36.4")


def test_a_run_is_one_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"grpc\.workers: `lectr run` is one process"):
        asyncio.run(run("grpc: {workers: 2}", None, tmp_path / "envoy", tmp_path))
