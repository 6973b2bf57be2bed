import argparse
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lectr_extproc import status
from lectr_extproc.catalog.lineup import LINEUP
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.cli import _parser, follow, main
from lectr_extproc.core.decision import WELL_FORMED_KEY
from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.report import Filters
from lectr_extproc.core.usage import Usage
from lectr_extproc.edge.ledger import open_store
from lectr_extproc.edge.live import Live
from lectr_extproc.edge.store import SetAside, Store, Unavailable
from lectr_extproc.keys import digest
from lectr_extproc.settings import load
from lectr_extproc.settings_file import json_schema
from tests.commands import FILE, HELD, RULED, Capture, explained, file_of_nothing_around, said
from tests.core.finished import DAY_S, STARTED_S, call
from tests.edge.ledgers import Moody
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


def test_price_and_models_know_the_prices_of_the_settings(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("prices: [{provider: openai, model: gpt-4o, input: 1, output: 2}, {provider: xai, discount: 0.5}]")
    text = said(capsys, "price", "--config", file, "--model", "gpt-4o", "--input", 1_000_000, "--json")
    assert (json.loads(text)["usd"], json.loads(text)["source"]) == ("1", "settings")
    models = json.loads(said(capsys, "models", "--config", file, "--provider", "xai", "--json"))
    assert models[0]["prices"]["input"] == "1.5"


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


def test_price_reads_a_price_file_but_fetches_nothing(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"catalogue: {{source: {tmp_path}/prices.json}}")
    asked = ["price", "--config", str(file), "--model", "gpt-4o", "--input", "1"]
    assert main(asked) == 1
    assert "FileNotFoundError" in capsys.readouterr().err
    (tmp_path / "prices.json").write_text(json.dumps(LIST))
    assert main(asked) == 0
    assert "genai-prices data " in capsys.readouterr().out
    file.write_text("catalogue: {source: 'http://192.0.2.1/prices.json'}")
    assert main(asked) == 0
    out, err = capsys.readouterr()
    assert ("genai-prices data " in out, "is not fetched here" in err) == (False, True)


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
    assert f"has what lectr needs\n{tmp_path}/envoy.yaml: warning: {resolver} without" in said(capsys, *asked)
    (tmp_path / "envoy.yaml").write_text(complete.replace("merge_slashes", "another_field"))
    assert "no merge_slashes" in said(capsys, *asked, code=1)


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


@pytest.mark.parametrize(("profile", "warns"), [("portable", True), ("native", False)])
def test_check_warns_of_failing_over_where_nothing_can(
    tmp_path: Path, capsys: Capture, profile: str, *, warns: bool
) -> None:
    (tmp_path / "lectr.yaml").write_text(f"failover: {{attempts_max: 2}}\nenvoy: {{profile: {profile}}}")
    out = said(capsys, "check", "--envoy-binary", fake_envoy(tmp_path, "exit 0"))
    assert ("\nwarning: failover: in the portable profile each call goes" in out) is warns


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


def test_settings_are_where_they_are_named_then_in_the_environment_then_here(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("here", "environment"):
        (tmp_path / f"{name}.yaml").write_text(FILE.replace("acme", name))
    assert explained(capsys)["org"] == "-"
    (tmp_path / "here.yaml").rename("lectr.yaml")
    assert explained(capsys)["org"] == "here"
    monkeypatch.setenv("LECTR_CONFIG", str(tmp_path / "environment.yaml"))
    assert explained(capsys)["org"] == "environment"
    assert explained(capsys, "--config", file)["org"] == "acme"


UNREADABLE = {"a file that is not there": None, "a file that is no text": b"\xff\xfe\x00"}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_settings_that_cannot_be_read_are_bad_settings(content: bytes | None, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)
    assert main(["explain", "--config", str(path)]) == 64
    assert f"{path}: 1 problem\ncannot be read: " in capsys.readouterr().err


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


COMMANDS = dict(commands(_parser()))


def test_these_are_the_commands() -> None:
    assert set(COMMANDS) == {
        *(
            "lectr",
            "run",
            "serve",
            "anomalies",
            "check",
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


# --- the ledger -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A ledger in its default place, which a lectr holds open."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store, _ = open_store(None, {"XDG_STATE_HOME": str(tmp_path)})
    store.migrate()
    yield store
    store.close()


def test_report_says_what_calls_add_up_to(capsys: Capture, ledger: Store) -> None:
    ledger.write([call(), call(org="dal", cost=Cost("unavailable"))], [])
    shown = said(capsys, "report")
    assert re.search(r"^openai, gpt-4o +2 +0 +2,500\.0  2,500\.0  \$0\.25 and 1 unpriced$", shown, re.MULTILINE)
    assert re.search(r"^dal  .* \$0\.00 \(pricing unavailable\)$", shown, re.MULTILINE)
    told = json.loads(said(capsys, "report", "--json"))
    assert list(told) == ["total", "model", "feature", "task", "day", "org"]
    assert "cost_usd" not in next(line for line in told["org"] if line["org"] == "dal")


def test_report_counts_only_what_is_asked_for(capsys: Capture, ledger: Store) -> None:
    ledger.write([call(), call(org="dal"), call(started_ns=0)], [])
    for filters, requests in (
        (["--org", "dal"], 1),
        (["--since", "2026-11-20"], 2),
        (["--until", "2026-11-20T12:00"], 1),
        (["--rule", "canary"], 0),
        (["--provider", "openai", "--model", "gpt-4o", "--feature", "search", "--task", "summarisation"], 3),
    ):
        assert json.loads(said(capsys, "report", "--json", *filters))["total"][0]["requests"] == requests


def test_report_without_a_ledger_says_where_it_looked(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "none"))
    for command in (["report"], ["tail"], ["outbox"], ["outbox", "retry"], ["recommend"], ["anomalies", "dismiss"]):
        assert main(command) == 1
        place = tmp_path / "none" / "lectr" / "ledger.db"
        assert capsys.readouterr().err == f"lectr: the ledger cannot be read: there is no ledger at {place} yet\n"


def test_recommend_names_a_cheaper_model_with_what_it_saves(
    capsys: Capture, ledger: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(time, "time", lambda: STARTED_S + 10 * DAY_S)
    usage = Usage(input_tokens=100_000, output_tokens=100)
    calls = [call(usage=usage, token_source="provider") for _ in range(100)]
    ledger.write([*calls, *(replace(one, call_id=f"dal{n}", org="dal") for n, one in enumerate(calls))], [])
    (one,) = json.loads(said(capsys, "recommend", "--json", "--org", "acme"))
    assert (one["feature"], one["model"], one["target"]) == ("search", "gpt-4o", "gpt-4o-mini")
    assert (one["cost_usd"], one["saving_usd"], one["confidence"]) == ("75.30", "70.78", "medium")
    assert said(capsys, "recommend", "--feature", "search").count("saves $70.78 of $75.30 a month") == 2
    for none in (["--feature", "another"], ["--org", "another"], ["--days", "9"]):
        assert said(capsys, "recommend", *none) == "nothing to recommend\n"
    tmp_path.joinpath("lectr.yaml").write_text(
        f"orgs: [{{name: dal, keys: [{{sha256: {'ab' * 32}}}], blocked: {{models: [gpt-4o-mini]}}}}]\n"
        "recommend: {min_saving_usd: 70}"
    )
    assert [one["org"] for one in json.loads(said(capsys, "recommend", "--json"))] == ["acme"]


def test_anomalies_are_told_until_they_are_dismissed(
    capsys: Capture, ledger: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour_s = STARTED_S // 3600 * 3600
    monkeypatch.setattr(time, "time", lambda: hour_s + 3600)
    failed = {"error_category": "overloaded", "error_source": "provider"}
    ledger.write(
        [
            call(started_ns=(hour_s - 3600 * back) * 10**9, **(failed if back == 0 and number < 5 else {}))
            for back in range(24 * 4)
            for number in range(10)
        ],
        [],
    )
    Path("lectr.yaml").write_text("anomalies: {min_calls: 10, after_hours: 72}")
    shown = said(capsys, "anomalies")
    assert shown.endswith("acme, feature search: errors, 50.0% of calls, usually 0.0% of calls (+5.7 σ)\n")
    told = json.loads(said(capsys, "anomalies", "--json", "--org", "acme", "--feature", "search", "--days", "1"))
    ((found,), new) = told.values()
    assert (found["kind"], found["dismissed"], new) == ("errors", False, [])
    assert said(capsys, "anomalies", "--feature", "another") == "nothing unusual\n"
    assert said(capsys, "anomalies", "dismiss", found["id"]) == f"{found['id']} is dismissed\n"
    assert said(capsys, "anomalies") == "nothing unusual\n"
    assert said(capsys, "anomalies", "--all").endswith("  dismissed\n")
    for unknown in (["another"], []):
        assert main(["anomalies", "dismiss", *unknown]) == 1
        name = unknown[0] if unknown else "-"
        assert capsys.readouterr().err == f"lectr: there is no anomaly {name} in the last 7 days\n"


def test_outbox_shows_how_far_spans_have_been_sent_and_what_was_refused(capsys: Capture, ledger: Store) -> None:
    assert said(capsys, "outbox") == "nothing is sent: no lectr with this ledger has had an OTLP endpoint\n"
    ledger.begin("otlp")
    assert said(capsys, "outbox").splitlines() == [
        "done with     0",
        "sent by       nobody now",
        "not sent yet  0",
        "set aside     0",
    ]
    ledger.write([call(), call(), call()], [])
    ledger.lease("otlp", "gw-1:71", 60)
    ledger.advance("otlp", "gw-1:71", 2, SetAside(1, 2, 2, "HTTP 401 Unauthorized"))
    assert said(capsys, "outbox").splitlines() == [
        "done with     2",
        "sent by       gw-1:71",
        "not sent yet  1, the first began 2026-11-20 12:00:00",
        "set aside     2",
        "  1 to 2: 2 calls, HTTP 401 Unauthorized",
    ]


def test_outbox_shows_the_last_of_many_ranges(capsys: Capture, ledger: Store) -> None:
    ledger.begin("otlp")
    ledger.lease("otlp", "gw-1:71", 60)
    for seq in range(1, 51, 2):
        ledger.advance("otlp", "gw-1:71", seq, SetAside(seq, seq, 1, "HTTP 401"))
    shown = said(capsys, "outbox").splitlines()
    assert shown[3:6] == ["set aside     25", "  the last 20 of 25 ranges:", "  11 to 11: 1 calls, HTTP 401"]
    assert shown[-1] == "  49 to 49: 1 calls, HTTP 401"


def test_outbox_retry_has_what_was_refused_sent_again(capsys: Capture, ledger: Store) -> None:
    ledger.begin("otlp")
    ledger.lease("otlp", "one", 60)
    ledger.advance("otlp", "one", 2, SetAside(1, 2, 2, "HTTP 401"))
    assert said(capsys, "outbox", "retry") == "1 range will be sent again by the lectr that sends\n"
    assert [part.again for part in ledger.set_aside("otlp", 9)] == [1]
    assert said(capsys, "outbox").splitlines()[-1] == "  1 to 2: 2 calls, HTTP 401, is sent again"


def test_tail_shows_the_last_calls_and_then_each_new_one(ledger: Store) -> None:
    calls = [call() for _ in range(5)]
    ledger.write(calls[:3], [])
    waits = 0

    def another_is_written() -> None:
        nonlocal waits
        ledger.write([calls[3 + waits]], [])
        waits += 1

    found = follow(ledger, Filters(), 2, wait=another_is_written)
    assert [next(found).call_id for _ in range(4)] == [one.call_id for one in calls[1:]]
    assert waits == 2


def test_tail_goes_on_when_the_database_is_back(capsys: Capture) -> None:
    moody = Moody()
    store = Store(moody)
    store.migrate()
    waits = 0

    def wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 1:
            moody.mood = Unavailable("the server is shutting down")
        elif waits == 4:
            moody.mood = None
            store.write([late], [])

    late = call()
    assert next(follow(store, Filters(), 2, wait)) == late
    assert waits == 4
    assert capsys.readouterr().err.splitlines() == [
        "lectr: the ledger cannot be read now: the server is shutting down",
        "lectr: the ledger is read again",
    ]
    store.close()


@pytest.mark.parametrize("json_", [False, True])
def test_tail_prints_a_line_for_each_call_until_it_is_stopped(
    capfd: pytest.CaptureFixture[str], ledger: Store, monkeypatch: pytest.MonkeyPatch, json_: bool
) -> None:
    ledger.write([call(), call(org="dal", feature="søk")], [])

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lectr_extproc.cli.time.sleep", stop)
    assert main(["tail", "--org", "dal", *(["--json"] if json_ else [])]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert (json.loads(line)["feature"] == "søk") if json_ else ("feature=søk" in line)


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
