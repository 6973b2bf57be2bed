"""What `lectr explain` says of a call that never happens."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from lectr_extproc import status
from lectr_extproc.cli import main
from tests.commands import HELD, RULED, Capture, explained, file_of_nothing_around, said


@pytest.fixture(autouse=True, name="file")
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return file_of_nothing_around(tmp_path, monkeypatch)


def test_explain_says_everything_about_a_call(file: Path, capsys: Capture) -> None:
    answer = explained(capsys, "--config", file, "--model", "groq/llama-3.1-8b-instant")
    cluster = answer["upstream"].pop("cluster")
    assert re.fullmatch(r"groq-[0-9a-f]{8}", cluster)
    assert answer == {
        "org": "acme",
        "provider": "groq",
        "provider_source": "prefix",
        "provider_unknown": False,
        "provider_detected": None,
        "dialect": "openai.chat",
        "model_requested": "groq/llama-3.1-8b-instant",
        "model_sent": "llama-3.1-8b-instant",
        "upstream": {"host": "api.groq.com", "path": "/openai/v1/chat/completions"},
        "auth_header": "authorization",
        "credential": "the client's own",
        "rule": None,
        "notes": [],
        "refused": None,
    }


EXPLAINED: dict[str, tuple[list[str], dict[str, object]]] = {
    "a model nobody knows": (["--model", "mystery"], {"provider": "openai", "provider_unknown": True}),
    "a model whose provider has no address": (
        ["--model", "ollama/mistral"],
        {"provider": "openai", "provider_detected": "ollama"},
    ),
    "a header": (["--model", "x", "--header", "X-Lectr-Provider: anthropic"], {"auth_header": "x-api-key"}),
    "a key's shape": (
        ["--model", "mystery", "--header", "Authorization: Bearer gsk_x"],
        {"provider": "groq", "provider_source": "credential"},
    ),
    "a path": (
        ["--path", "/v1beta/models/gemini-2.5-pro:generateContent"],
        {"provider": "gemini", "provider_source": "path", "auth_header": "x-goog-api-key"},
    ),
    "a GET": (["--method", "GET", "--path", "/v1/files"], {"provider": "openai", "model_sent": None}),
    "the models": (
        ["--method", "GET", "--path", "/v1/models"],
        {"dialect": "models", "provider": None, "upstream": None, "notes": ["answered_by_gateway"]},
    ),
    "a note": (
        ["--model", "gpt-4o", "--header", "X-Lectr-Provider: nobody"],
        {"notes": ["provider_header_invalid"]},
    ),
    "a keyless call": (["--model", "gpt-4o", "--header", "authorization: "], {"auth_header": None}),
    "another org's address": (
        ["--model", "azure/gpt4", "--org", "azurite"],
        {"org": "azurite", "auth_header": "api-key"},
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), EXPLAINED.values(), ids=EXPLAINED)
def test_explain_knows_what_decides(
    arguments: list[str], expected: dict[str, object], file: Path, capsys: Capture
) -> None:
    answer = explained(capsys, "--config", file, *arguments)
    assert {name: answer[name] for name in expected} == expected


WHOSE_KEY: dict[str, tuple[list[str], str | None]] = {
    "held for every org": (["--model", "gpt-4o"], "held by the gateway (every org)"),
    "held for this org": (["--header", "X-Lectr-Provider: groq"], "held by the gateway (org)"),
    "held, and a client with one key": (
        ["--model", "gpt-4o", "--header", "Authorization: Bearer lc_key_1"],
        "held by the gateway (every org)",
    ),
    "the client's": (["--model", "gpt-4o", "--header", "Authorization: Bearer sk-1"], "the client's own"),
    "Envoy's": (["--model", "amazon.nova-pro-v1:0"], "Envoy's own AWS credentials, with which it signs"),
    "not held": (["--model", "claude-sonnet-4-6"], "the client's own"),
    "not held, and a client with one key": (
        ["--model", "claude-sonnet-4-6", "--header", "Authorization: Bearer lc_key_1"],
        None,
    ),
}


@pytest.mark.parametrize(("arguments", "whose"), WHOSE_KEY.values(), ids=WHOSE_KEY)
def test_explain_says_whose_key_would_go_without_reading_it(
    arguments: list[str], whose: str | None, file: Path, capsys: Capture
) -> None:
    file.write_text(HELD)
    assert explained(capsys, "--config", file, *arguments)["credential"] == whose


def test_explain_says_which_rule_and_why_and_why_no_other(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lectr.yaml").write_text(RULED)
    call_ = ("--rules", "--model", "gpt-4o", "--header", "x-lectr-task: extraction")
    answer = explained(capsys, *call_, "--header", "x-user: ann")
    arms = {"of": "unchanged (9), gpt-4.1 (1)", "by": "x-user"}
    assert answer["rule"] == {"name": "canary", "because": "model=gpt-4o", "arm": "unchanged", **arms}
    assert answer["rules"] == {
        "for-search": "feature is not said",
        "asleep": "it is not enabled",
        "canary": "this is the one",
        "late": "another one comes first",
    }
    assert explained(capsys, *call_)["rule"]["by"] == "chance"
    moved = explained(capsys, *call_, "--header", "x-lectr-feature: search")
    assert moved["rule"] == {"name": "for-search", "because": "feature=search", "arm": "groq"}
    assert (moved["provider"], moved["provider_source"]) == ("groq", "rule")
    assert moved["rules"]["canary"] == "another one comes first"
    shown = said(capsys, "explain", *call_)
    assert re.search(r"^rule +name=canary  because=model=gpt-4o  arm=", shown, re.MULTILINE)
    assert re.search(r"^rules +late: another one comes first$", shown, re.MULTILINE)
    nobodys = explained(capsys, "--model", "x")
    assert nobodys["rule"] is None
    assert "rules" not in nobodys
    assert explained(capsys, "--rules", "--model", "x", "--config", _without_rules(tmp_path))["rules"] == {}


def _without_rules(directory: Path) -> Path:
    (directory / "plain.yaml").write_text("")
    return directory / "plain.yaml"


def test_explain_tells_what_a_model_would_be_chosen_from_and_why(tmp_path: Path, capsys: Capture) -> None:
    settings, body = tmp_path / "lectr.yaml", tmp_path / "body.json"
    settings.write_text(
        """
        orgs:
        - name: acme
          keys: [{sha256: "%s"}]
          credentials: {openai: env:O, anthropic: env:A}
          blocked: {models: [claude-opus-4-6]}
        providers:  # whatever becomes of them
        - {id: openai, models: [gpt-4.1-mini]}
        - {id: anthropic, models: [claude-haiku-4-5, claude-opus-4-6]}
        - {id: gemini, models: [gemini-2.5-flash]}
        """
        % ("0" * 64)
    )
    pictures = [{"type": "image_url", "image_url": {"url": "data:"}}]
    body.write_text(
        json.dumps({"model": "auto", "prefer": "quality", "messages": [{"role": "user", "content": pictures}]})
    )
    answer = explained(capsys, "--config", settings, "--body", body)
    plan = answer["plan"]
    assert (answer["model_sent"], answer["provider_source"]) == ("gpt-4.1-mini", "chosen")
    assert (plan["tier"], plan["prefer"], plan["auto"]["signals"]["length"]) == ("economy", "quality", 5)
    assert [one["model"] for one in plan["candidates"]] == ["gpt-4.1-mini", "claude-haiku-4-5"]
    assert Decimal(plan["candidates"][0]["estimated_usd"]) > Decimal("0.0012")
    assert plan["attempts"] == 2
    dropped = {one["model"]: one["reason"] for one in plan["dropped"]}
    assert (dropped["gemini-2.5-flash"], dropped["llama3.1-8b"]) == ("credential", "retired")
    shown = said(capsys, "explain", "--config", settings, "--body", body)
    assert re.search(r"^tier +economy \(score \d+: code=0 ", shown, re.MULTILINE)
    assert re.search(r"^candidate 1 +openai/gpt-4.1-mini  \$0\.001\d+  quality=65.0  coding=23.6", shown, re.MULTILINE)
    assert re.search(r"^attempts +2 at most$", shown, re.MULTILINE)
    assert re.search(r"^dropped +gemini/gemini-2.5-flash: credential$", shown, re.MULTILINE)
    tier = said(capsys, "explain", "--config", settings, "--model", "premium")
    assert re.search(r"^tier +premium$", tier, re.MULTILINE)
    assert re.search(r"^dropped +anthropic/claude-opus-4-6: blocked$", tier, re.MULTILINE)
    assert "plan" not in explained(capsys, "--config", settings, "--model", "gpt-4o")
    assert re.search(r"^health +not known: no lectr answers$", tier, re.MULTILINE)


def test_explain_knows_from_the_lectr_that_runs_which_models_fail_and_how_soon_they_answer(
    file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sick = {"provider": "openai", "model": "gpt-5.4", "host": "api.openai.com", "until_s": 4_000_000_000}
    timed = {"provider": "openai", "model": "gpt-5.4", "host": "api.openai.com", "first_token_ms": 350}
    monkeypatch.setattr(status, "ask", lambda _: {"breakers": [sick], "first_tokens": [timed]})
    key = ("--config", file, "--model", "premium", "--header", "Authorization: Bearer sk-proj-0123456789")
    (candidate,) = explained(capsys, *key)["plan"]["candidates"]
    assert (candidate["model"], candidate["open_until"]) == ("gpt-5.4", "2096-10-02T07:06:40Z")
    assert (candidate["first_token_ms"], candidate["is_measured"]) == (350, True)
    shown = said(capsys, "explain", *key)
    assert re.search(
        r"^candidate 1 +openai/gpt-5.4  .*  first_token_ms=350 \(measured\)  open until 2096-10-02T07:06:40Z$",
        shown,
        re.MULTILINE,
    )
    assert "not known" not in shown


def test_explain_tells_a_refusal(file: Path, capsys: Capture) -> None:
    answer = explained(capsys, "--config", file, "--model", "azure/gpt4")
    assert (answer["refused"]["status"], answer["refused"]["code"]) == (400, "azure_config_missing")
    assert (answer["upstream"], answer["auth_header"]) == (None, None)


def test_explain_needs_no_settings(capsys: Capture) -> None:
    assert explained(capsys, "--model", "gpt-4o")["upstream"]["host"] == "api.openai.com"


def test_explain_does_not_show_keys(capsys: Capture) -> None:
    out = said(capsys, "explain", "--path", "/v1/models?key=sk-hunter2", "--header", "x-api-key: sk-hunter2")
    assert "hunter2" not in out


def test_explain_is_a_line_for_each_thing(file: Path, capsys: Capture) -> None:
    lines = said(capsys, "explain", "--config", file, "--model", "gpt-4o").splitlines()
    read = dict(re.split(r" +", line, maxsplit=1) for line in lines)
    assert (read["provider"], read["model_sent"], read["provider_detected"]) == ("openai", "gpt-4o", "-")
    assert read["upstream"].startswith("host=api.openai.com  path=/v1/chat/completions")


def test_explain_names_the_orgs_there_are(file: Path, capsys: Capture) -> None:
    assert main(["explain", "--config", str(file), "--org", "nobody"]) == 64
    assert "there is no org 'nobody'; known are acme, azurite" in capsys.readouterr().err
