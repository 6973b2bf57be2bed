import argparse
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lectr_extproc import status
from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.cli import build_parser, main
from lectr_extproc.core.decision import WELL_FORMED_KEY
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import Store
from lectr_extproc.keys import digest
from lectr_extproc.settings import load
from lectr_extproc.settings_file import json_schema
from tests.commands import FILE, HELD, RULED, Capture, file_of_nothing_around, said
from tests.core.finished import call
from tests.edge.test_prices import LIST

REACHED = {row.id for row in PROVIDERS.values() if row.base_url}


@pytest.fixture(autouse=True, name="file")
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return file_of_nothing_around(tmp_path, monkeypatch)


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_is_what_the_lectr_that_runs_says(file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Live(load(FILE))
    monkeypatch.setattr(status, "ask", lambda _: running.health())
    running.ledger = lambda: {"url": "memory", "written": 3, "waiting": 0, "dropped": 0, "problem": None}
    running.telemetry = lambda: {"spans": "off", "metrics": "off", "problem": None}
    assert re.search(r"^lectr +\d\S+, ok$", said(capsys, "status", "--config", file), re.MULTILINE)
    running.prices_problem = "answered 404"
    assert json.loads(said(capsys, "status", "--json", "--config", file, code=1))["degraded"] == ["prices"]


def test_status_says_that_nobody_answers(file: Path, capsys: Capture) -> None:
    assert main(["status", "--config", str(file)]) == 1
    assert capsys.readouterr().err == "lectr: no lectr answers\n"


# --- models and price -------------------------------------------------------------------------------------------------


def test_models_lists_what_there_is_with_its_prices(capsys: Capture) -> None:
    lines = said(capsys, "models", "--at", "2026-11-20").splitlines()
    assert lines[1].split()[:6] == ["openai", "gpt-4o", "128,000", "2.5", "10", "1.25"]
    assert lines[1].endswith("gpt-4o-mini saves 94%")
    assert len(lines) == 1 + len(LINEUP)


def test_models_of_one_provider_can_be_read_by_a_program(capsys: Capture) -> None:
    models = json.loads(said(capsys, "models", "--provider", "ollama", "--json"))
    assert {model["provider"] for model in models} == {"ollama"}
    assert models[0]["prices"] == {"input": "0", "output": "0"}


def test_price_ends_with_the_total(capsys: Capture) -> None:
    counts = ("--input", "1,000", "--output", "500", "--cached", "200")
    lines = said(capsys, "price", "--model", "gpt-4o", *counts, "--at", "2026-11-20").splitlines()
    assert lines[0] == "gpt-4o at openai, 2026-11-20 00:00 UTC"
    assert [line.split()[-1] for line in lines[1:5]] == ["$0.002", "$0.005", "$0.00025", "$0.00725"]


def test_price_says_why_there_is_none(capsys: Capture) -> None:
    text = said(capsys, "price", "--model", "gpt-4o-foo", "--input", 1)
    assert "$0.00 (pricing unavailable)" in text
    assert "no price for this model" in text


def test_price_is_what_it_was_then_in_the_tier_that_answered(capsys: Capture) -> None:
    def cost(*arguments: object) -> str:
        text = said(capsys, "price", "--model", "gpt-5", "--input", 1_000_000, "--json", *arguments)
        return str(json.loads(text)["usd"])

    assert cost("--at", "2026-11-20T12:00") == cost("--at", "2026-11-20T13:00+01:00") == "1.25"
    assert cost("--at", "2026-11-20", "--service-tier", "flex") == "0.625"
    assert cost("--at", "2026-10-01", "--service-tier", "flex") == "1.25"


def test_price_and_models_know_providers_of_ones_own_and_no_others(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("providers: [{id: ours, base_url: 'http://h/v1', models: [{id: M, input: 2}]}]")
    listed = json.loads(said(capsys, "models", "--config", file, "--provider", "ours", "--json"))
    assert [(model["provider"], model["model"]) for model in listed] == [("ours", "M")]
    bill = json.loads(said(capsys, "price", "--config", file, "--model", "M", "--input", 1_000_000, "--json"))
    assert (bill["provider"], bill["usd"]) == ("ours", "2")
    said(capsys, "models", "--provider", "ours", code=64)
    assert main(["models", "--provider", "ours"]) == 64
    assert "'ours' is not a provider; known are openai, anthropic," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [("--input", "-4", "a whole number"), ("--output", "²", "a whole number"), ("--at", "soon", "2026-11-20")],
)
def test_a_count_or_date_that_is_none_is_told(option: str, value: str, told: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["price", "--model", "gpt-4o", f"{option}={value}"])
    assert told in capsys.readouterr().err


def test_price_wants_to_know_what_was_used(capsys: Capture) -> None:
    assert main(["price", "--model", "gpt-4o"]) == 64
    assert "say what the call used" in capsys.readouterr().err


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_new_key_is_shown_once_and_its_digest_can_be_piped_into_a_file(capsys: Capture) -> None:
    assert main(["keys", "new", "--label", 'back"end: 1']) == 0
    out, err = capsys.readouterr()
    (key,) = WELL_FORMED_KEY.findall(err)
    assert key not in out
    assert yaml.safe_load(out) == [{"sha256": digest(key), "label": 'back"end: 1'}]
    settings = load(f"orgs:\n- name: acme\n  keys:\n  {out}")
    assert settings.snapshot.orgs_by_key[digest(key)].name == "acme"


def test_a_key_needs_no_label(capsys: Capture) -> None:
    assert list(yaml.safe_load(said(capsys, "keys", "new"))[0]) == ["sha256"]


# --- rendering and checking -------------------------------------------------------------------------------------------


def test_render_writes_one_bootstrap_to_standard_output(file: Path, capsys: Capture) -> None:
    bootstrap = yaml.safe_load(said(capsys, "envoy", "render", "--config", file))
    clusters = {cluster["name"].rpartition("-")[0] for cluster in bootstrap["static_resources"]["clusters"]}
    assert {"openai", "anthropic", "groq", "gemini", "azure"} <= clusters


def test_render_takes_another_profile_than_the_settings(capsys: Capture) -> None:
    native, portable = (said(capsys, "envoy", "render", "--profile", name) for name in ("native", "portable"))
    assert "ai_protocol_manager" in native
    assert "ai_protocol_manager" not in portable
    assert said(capsys, "envoy", "render") == native


def test_render_writes_every_file_and_names_it(tmp_path: Path, capsys: Capture) -> None:
    written = said(capsys, "envoy", "render", "--out", tmp_path / "out").splitlines()
    assert written
    assert {str(path) for path in (tmp_path / "out").rglob("*") if path.is_file()} == set(written)


IN_MESHES = {"istio-sidecar": "EnvoyFilter", "istio-gateway": "EnvoyFilter", "envoy-gateway": "EnvoyPatchPolicy"}


@pytest.mark.parametrize(("mesh", "kind"), IN_MESHES.items(), ids=IN_MESHES.keys())
def test_render_writes_the_resources_of_a_mesh(mesh: str, kind: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "lectr.yaml"
    file.write_text("envoy: {profile: portable}")
    shown = ("--host", "ai.acme.example", "--port", "8443", "--listener", "edge/main/web")
    text = said(capsys, "envoy", "render", "--for", mesh, "--config", file, *shown)
    assert kind in {document["kind"] for document in yaml.safe_load_all(text)}
    assert ("ai.acme.example" in text) == (mesh != "istio-sidecar")
    assert ("portNumber: 8443" in text, "name: edge/main/web" in text) == (
        mesh == "istio-gateway",
        mesh == "envoy-gateway",
    )


def test_render_refuses_a_mesh_where_lectr_would_count_on_what_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "failover.yaml"
    file.write_text("envoy: {profile: portable}\nfailover: {attempts_max: 3}")
    for settings, problem in {
        (): "envoy.profile: has to be portable",
        ("--config", str(file)): "attempts_max: has",
    }.items():
        assert main(["envoy", "render", "--for", "istio-gateway", "--profile", "portable", *settings]) == 64
        assert problem in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["envoy", "render", "--for", "envoy-gateway", "--listener", "http"])
    assert "NAMESPACE/GATEWAY/LISTENER" in capsys.readouterr().err


def fake_envoy(directory: Path, script: str) -> Path:
    binary = directory / "envoy"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    return binary


def test_check_says_that_envoy_accepts_what_is_rendered(file: Path, tmp_path: Path, capsys: Capture) -> None:
    out = said(capsys, "check", "--config", file, "--envoy-binary", fake_envoy(tmp_path, "exit 0"))
    assert out.startswith(f"{file}: fine, 2 orgs, {len(REACHED) + 1} provider addresses\n")
    assert "Envoy accepts it" in out


def test_check_warns_of_an_envoy_that_may_start_late_and_fails_for_one_that_lacks_something(
    tmp_path: Path, capsys: Capture
) -> None:
    asked = ["check", "--envoy-binary", fake_envoy(tmp_path, "exit 0"), "--envoy", tmp_path / "envoy.yaml"]
    resolver = "typed_dns_resolver_config"
    complete = said(capsys, "envoy", "render")
    (tmp_path / "envoy.yaml").write_text(complete.replace(resolver, "another_field"))
    assert f"{tmp_path}/envoy.yaml: warning  {resolver} without" in said(capsys, *asked)
    (tmp_path / "envoy.yaml").write_text(complete.replace("normalize_path", "another_field"))
    assert "no normalize_path" in said(capsys, *asked, code=1)


def test_check_fails_with_envoys_own_words(file: Path, tmp_path: Path, capsys: Capture) -> None:
    binary = fake_envoy(tmp_path, "echo no such field: colour >&2; exit 1")
    assert "no such field: colour" in said(capsys, "check", "--config", file, "--envoy-binary", binary, code=1)


def test_check_says_that_nobody_may_call(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lectr.yaml").write_text("")
    out = said(capsys, "check", "--envoy-binary", fake_envoy(tmp_path, "exit 0"))
    assert out.startswith(f"lectr.yaml: fine, 0 orgs, {len(REACHED)} provider addresses\nthere is no org: every call")


def test_check_warns_of_doors_that_are_open_to_strangers(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lectr.yaml").write_text("grpc: {listen: '0.0.0.0:9191'}")
    out = said(capsys, "check", "--envoy-binary", fake_envoy(tmp_path, "exit 0"))
    assert "\nwarning: grpc.listen (0.0.0.0:9191) is open to whoever reaches it" in out


def test_check_warns_of_rules_that_no_call_reaches(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lectr.yaml").write_text(RULED + "  - {name: idle, when: {model: gpt-4o}, then: {model: gpt-5}}\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GROQ", "held")
        out = said(capsys, "check", "--envoy-binary", fake_envoy(tmp_path, "exit 0"))
    assert "warning: orgs: acme: rule 'late' never matches: 'canary' comes first, and takes all of its calls\n" in out
    assert out.count("never matches") == 2


SOURCES = {
    "a good list": (json.dumps(LIST), 0, "has prices, data "),
    "no list": ("{}", 1, "ValueError: not a list of providers"),
    "no file": (None, 1, "FileNotFoundError"),
}


@pytest.mark.parametrize(("content", "code", "told"), SOURCES.values(), ids=SOURCES)
def test_check_reads_a_price_file(content: str | None, code: int, told: str, tmp_path: Path, capsys: Capture) -> None:
    if content is not None:
        (tmp_path / "prices.json").write_text(content)
    (tmp_path / "lectr.yaml").write_text(f"catalogue: {{source: {tmp_path}/prices.json}}")
    assert told in said(capsys, "check", "--envoy-binary", fake_envoy(tmp_path, "exit 0"), code=code)


def test_check_fetches_no_prices_and_says_so(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lectr.yaml").write_text("catalogue: {source: 'http://127.0.0.1:1/prices.json'}")
    out = said(capsys, "check", "--envoy-binary", fake_envoy(tmp_path, "exit 0"))
    assert "catalogue.source: a URL is not fetched here" in out


OWN = {
    "what lectr needs": ("", 0, "has what lectr needs"),
    "a broken file": ("a: [", 1, "not readable as YAML"),
    "a file of something else": ("a: 1", 1, "error    no connection manager has a filter named lectr"),
}


@pytest.mark.parametrize(("text", "code", "told"), OWN.values(), ids=OWN)
def test_check_says_what_an_envoy_of_ones_own_lacks(
    text: str, code: int, told: str, tmp_path: Path, capsys: Capture
) -> None:
    said(capsys, "envoy", "render", "--out", tmp_path)
    own = tmp_path / "own.yaml"
    # As it is included where the files are, so that these are looked into, too.
    there = (tmp_path / "native/include.yaml").read_text().replace("/etc/envoy/lectr", f"{tmp_path}/native/include")
    own.write_text(text or there)
    check = ("check", "--envoy-binary", fake_envoy(tmp_path, "exit 0"), "--envoy", own)
    assert f"{own}: {told}" in said(capsys, *check, code=code)
    cds = tmp_path / "native/include/cds.yaml"
    cds.write_text(cds.read_text().replace("trusted_ca", "watched_directory"))
    assert ("no trusted_ca" in said(capsys, *check, code=1)) is (not text)


def test_a_missing_envoy_is_an_error_and_not_a_traceback(tmp_path: Path, capsys: Capture) -> None:
    assert main(["check", "--envoy-binary", str(tmp_path / "envoy")]) == 1
    assert capsys.readouterr().err == f"lectr: {tmp_path / 'envoy'} is not an executable file\n"


def test_the_schema_is_the_settings(capsys: Capture) -> None:
    assert json.loads(said(capsys, "schema")) == json_schema()


# --- where the settings are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "serve"])
def test_who_needs_the_held_keys_names_the_missing_ones(command: str, file: Path, capsys: Capture) -> None:
    file.write_text(HELD)
    assert main([command, "--config", str(file)]) == 64
    said_so = capsys.readouterr().err
    assert "line 2: credentials.openai: the environment has no NOT_THERE" in said_so
    assert "line 2: credentials.groq: /not/there cannot be read: No such file or directory" in said_so
    assert "line 4: orgs[0].credentials.groq: the environment has no NOT_THERE_EITHER" in said_so


def test_serve_does_not_start_without_settings(capsys: Capture) -> None:
    assert main(["serve"]) == 64
    assert "name a file with --config or LECTR_CONFIG" in capsys.readouterr().err


# --- help -------------------------------------------------------------------------------------------------------------


def commands(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield " ".join(path) or "lectr", parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*path, name))


COMMANDS = dict(commands(build_parser()))


def test_these_are_the_commands() -> None:
    assert set(COMMANDS) == {
        *(
            "lectr",
            "run",
            "serve",
            "anomalies",
            "check",
            "doctor",
            "envoy",
            "envoy render",
            "keys",
            "keys new",
            "explain",
            "limits",
            "models",
            "price",
            "outbox",
            "recommend",
            "report",
            "schema",
            "status",
            "tail",
        )
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_is_explained(name: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*(name.split() if name != "lectr" else ()), "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: lectr")
    for action in COMMANDS[name]._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert all(choice.help and choice.help.endswith(".") for choice in action._choices_actions)
        else:
            assert action.help, action


def test_no_command_at_all_is_a_mistake(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "usage: lectr" in capsys.readouterr().err


# --- a reader that leaves ---------------------------------------------------------------------------------------------

CLOSED_ON = {
    "a short text": (["price", "--model", "gpt-4o", "--input", "1"], 0),
    "a long text": (["models"], 0),
    "lines, each at once": (["tail"], 0),
    "the help": (["--help"], 0),
    "a failure that was found": (["check", "--envoy-binary", "/bin/false"], 1),
}


@pytest.mark.parametrize(("arguments", "code"), CLOSED_ON.values(), ids=CLOSED_ON)
def test_a_command_whose_reader_has_left_ends_without_a_word(
    ledger: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture, arguments: list[str], code: int
) -> None:
    ledger.write([call()], [])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        monkeypatch.setattr("sys.stdout", nobody)
        assert main(arguments) == code
        nobody.flush()  # as Python does at its end
    assert capsys.readouterr().err == ""
