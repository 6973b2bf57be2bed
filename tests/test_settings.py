from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.auto_words import WORDS
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.cli import main
from lectr_extproc.core.auto import Scoring
from lectr_extproc.core.tables import Limits
from lectr_extproc.gateway import GatewayOptions, LectrTls, ServerTls
from lectr_extproc.settings import (
    EXIT_BAD_SETTINGS,
    ConfigError,
    LedgerSettings,
    Settings,
    load,
)
from lectr_extproc.settings_file import json_schema

ROOT = Path(__file__).parents[1]

DIGEST, OTHER = "ab" * 32, "cd" * 32

SMALLEST = f"orgs: [{{name: acme, keys: [{{sha256: {DIGEST}}}]}}]"


def problems(text: str, **defaults: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, defaults=defaults)
    return caught.value.problems


def test_one_org_with_one_key_is_enough() -> None:
    settings = load(SMALLEST)
    assert settings.orgs == ("acme",)
    org = settings.snapshot.orgs_by_key[DIGEST]
    assert (org.name, org.enabled, org.sites) == ("acme", True, {})
    assert settings.snapshot.sites.keys() == {row.id for row in PROVIDERS.values() if row.base_url}


@pytest.mark.parametrize("text", ["", "{}", "# nothing", "---", "orgs:\nenvoy:\n  listen:\nlog: {level: }\n", "~"])
def test_everything_has_a_default(text: str) -> None:
    settings = load(text)
    assert settings.gateway == GatewayOptions()
    assert settings.snapshot.limits == Limits()
    assert settings.snapshot.providers == PROVIDERS
    assert (settings.orgs, settings.grpc_listen, settings.grpc_tls) == ((), "127.0.0.1:9191", None)
    assert (settings.admin_listen, settings.envoy_directory) == ("127.0.0.1:8088", None)
    assert (settings.log_level, settings.log_calls) == ("info", True)


def test_every_setting_arrives() -> None:
    settings = load(
        """
        envoy:
          listen: "[::]:20000"
          admin: 127.0.0.1:20001
          profile: portable
          lectr: unix:/run/lectr.sock
          lectr_tls: {ca: ca.pem, server_name: lectr, cert: c.pem, key: c.key}
          message_timeout_s: 1.5
          connect_timeout_s: 3
          stream_idle_timeout_s: 60
          trusted_ca: cas.pem
          max_heap_bytes: 335544320
          directory: include
        grpc: {listen: "0.0.0.0:9192", tls: {cert: s.pem, key: s.key, client_ca: ca.pem}}
        spool: {file: /var/lib/lectr/calls.jsonl}
        admin: {listen: "127.0.0.1:8089"}
        limits: {request_body_bytes: 2048, inspect_body_bytes: 0, inspect_multipart_bytes: 1024}
        log: {level: debug, calls: false}
        """
    )
    assert settings.gateway == GatewayOptions(
        listen="[::]:20000",
        admin="127.0.0.1:20001",
        profile="portable",
        lectr="unix:/run/lectr.sock",
        lectr_tls=LectrTls(ca="ca.pem", server_name="lectr", cert="c.pem", key="c.key"),
        max_body_bytes=2048,
        message_timeout_s=1.5,
        connect_timeout_s=3,
        stream_idle_timeout_s=60,
        trusted_ca="cas.pem",
        max_heap_bytes=335544320,
        include_directory="include",
        spool="/var/lib/lectr/calls.jsonl",
    )
    assert settings.envoy_directory == "include"
    assert settings.grpc_listen == "0.0.0.0:9192"
    assert settings.grpc_tls == ServerTls(cert="s.pem", key="s.key", client_ca="ca.pem")
    assert settings.snapshot.limits == Limits(max_body_bytes=2048, inspect_body_bytes=0, inspect_multipart_bytes=1024)
    assert (settings.admin_listen, settings.log_level, settings.log_calls) == ("127.0.0.1:8089", "debug", False)


def test_envoy_finds_lectr_where_lectr_listens() -> None:
    assert load("grpc: {listen: unix:/run/lectr.sock}").gateway.lectr == "unix:/run/lectr.sock"


def test_the_file_wins_over_what_the_program_would_choose() -> None:
    defaults = {"grpc": {"listen": "unix:/a.sock"}, "envoy": {"directory": "/include", "listen": "127.0.0.1:1"}}
    assert load("envoy: {listen: '127.0.0.1:2'}", defaults=defaults).gateway.listen == "127.0.0.1:2"
    for blank in ("", "envoy:\ngrpc:\n", "grpc: {listen: }"):
        settings = load(blank, defaults=defaults)
        assert (settings.grpc_listen, settings.envoy_directory) == ("unix:/a.sock", "/include")


# --- mistakes ---------------------------------------------------------------------------------------------------------

ADDRESS = "write it as host:port, for example 127.0.0.1:10000"

VERSION = "write a dated version such as 2024-02-01, or v1 for Azure's /openai/v1/ API"


def test_the_portable_profile_fails_over_where_it_is_told_to() -> None:
    for text, attempts, relays in (
        ("{}", 3, False),
        ("failover: {attempts_max: 2}", 2, False),
        ("envoy: {profile: portable}", 1, False),
        ("{envoy: {profile: portable}, failover: {attempts_max: 2}}", 2, True),
    ):
        settings = load(text)
        assert settings.snapshot.failover is not None
        assert (settings.snapshot.failover.attempts_max, settings.gateway.relays) == (attempts, relays)


def test_how_auto_scores_can_be_changed_in_part() -> None:
    changed = load("""
        auto:
          economy_to: 30
          premium_from: 70
          weights: {code: 30, system: 5}
          steps: {system: [[500, 10], [5000, 40]]}
        """).snapshot.scoring
    usual = load("").snapshot.scoring
    assert usual == Scoring(words=WORDS)
    assert changed == replace(
        usual,
        economy_to=30,
        premium_from=70,
        weights={**usual.weights, "code": 30, "system": 5},
        steps={**usual.steps, "system": ((500, 10), (5000, 40))},
    )


MISTAKES = {
    "two settings with one port": (
        "envoy: {admin: '127.0.0.1:7000'}\nadmin:\n  listen: 0.0.0.0:7000\n  token: env:TOKEN",
        "line 3: admin.listen: envoy.admin has port 7000 already",
    ),
    "the port of a default": (
        "admin: {listen: '127.0.0.1:10000'}",
        "line 1: admin.listen: envoy.listen has port 10000 already",
    ),
    "a port of other digits": ("admin: {listen: '127.0.0.1:8²'}", f"line 1: admin.listen: {ADDRESS}"),
    "a port beyond reason": (f"admin: {{listen: '127.0.0.1:{'9' * 5000}'}}", f"line 1: admin.listen: {ADDRESS}"),
    "a silence beyond what Envoy can count": (
        f"envoy: {{stream_idle_timeout_s: 0x{'f' * 5000}}}",
        "line 1: envoy.stream_idle_timeout_s: Input should be less than or equal to 31536000",
    ),
    "a kind that is a list": (
        "providers: [{id: mine, kind: [vllm], base_url: 'http://h'}]",
        "line 1: providers[0].kind: Input should be a valid string",
    ),
    "an unknown setting": ("orgz: []", "line 1: orgz: there is no such setting"),
    "an unknown setting in a section": ("log:\n  colour: red", "line 2: log.colour: there is no such setting"),
    "a name that is a number": ("1: 2", "line 1: [1]: "),
    "a list for a section": ("envoy: []", "line 1: envoy: write settings under it, such as `name: value`"),
    "a ledger that is a word": ("ledger: memory", "line 1: ledger: write settings under it, such as `url: memory`"),
    "a section for a list": ("orgs: {name: a}", "line 1: orgs: Input should be a valid list"),
    "an org that is a word": ("orgs:\n- acme", "line 2: orgs[0]: write settings under it"),
    "an org without a name": ("orgs:\n- keys: []", "line 2: orgs[0].name: Field required"),
    "an org with an empty name": ("orgs: [{name: ''}]", "line 1: orgs[0].name: String should have at least 1"),
    "a key instead of its digest": (
        "orgs:\n- name: a\n  keys:\n  - sha256: lc_key_x",
        "line 4: orgs[0].keys[0].sha256: String should match",
    ),
    "a digest in upper case": (
        f"orgs: [{{name: a, keys: [{{sha256: {DIGEST.upper()}}}]}}]",
        "line 1: orgs[0].keys[0].sha256: String should match",
    ),
    "an Azure endpoint without a scheme": (
        "orgs:\n- name: a\n  azure:\n    endpoint: x.openai.azure.com",
        "line 4: orgs[0].azure.endpoint: it must start with https:// or http://",
    ),
    "an Azure version that is none": (
        "orgs:\n- name: a\n  azure: {endpoint: 'https://x', api_version: latest}",
        f"line 3: orgs[0].azure.api_version: {VERSION}",
    ),
    "a provider that there is not": (
        "providers:\n- id: opnai\n  observe: stream",
        "line 2: providers[0].id: 'opnai' is not a provider; known are openai, anthropic,",
    ),
    "a kind that there is not": (
        "providers:\n- {id: mine, base_url: https://x}\n- {id: more, kind: mine, base_url: https://x}",
        "line 3: providers[1].kind: 'mine' is not a provider; known are openai, anthropic,",
    ),
    "another kind for a provider that lectr knows": (
        "providers:\n- id: groq\n  kind: custom",
        "line 3: providers[0].kind: lectr knows 'groq': give another provider an id of its own",
    ),
    "a synonym for an id": (
        "providers:\n- id: google\n  base_url: https://x",
        "line 2: providers[0].id: 'google' is another name for 'gemini'",
    ),
    "a word before other models' slash for an id": (
        "providers:\n- {id: models, base_url: https://x}",
        "line 2: providers[0].id: 'models' is another name for 'gemini'",
    ),
    "an id in upper case": (
        "providers:\n- {id: My-vLLM, base_url: https://x}",
        "line 2: providers[0].id: String should match pattern",
    ),
    "a way to carry a key that there is not": (
        "providers:\n- {id: mine, base_url: https://x, auth: cookie}",
        "line 2: providers[0].auth: Input should be 'bearer', 'x-api-key', 'api-key', 'x-goog-api-key' or 'none'",
    ),
    "a model without an id": (
        "providers:\n- id: mine\n  base_url: https://x\n  models:\n  - {input: 1}",
        "line 5: providers[0].models[0].id: Field required",
    ),
    "a model that is a number": (
        "providers:\n- {id: groq, models: [1]}",
        "line 2: providers[0].models[0]: write settings under it",
    ),
    "a model twice": (
        "providers:\n- {id: groq, models: [m, {id: m}]}",
        "line 2: providers[0].models[1]: 'm' belongs to 'groq' already",
    ),
    "a model of two providers": (
        "providers:\n- {id: groq, models: [m]}\n- id: mistral\n  models:\n  - id: m",
        "line 5: providers[1].models[0]: 'm' belongs to 'groq' already",
    ),
    "a window of nothing": (
        "providers:\n- {id: groq, models: [{id: m, context_window: 0}]}",
        "line 2: providers[0].models[0].context_window: Input should be greater than 0",
    ),
    "a region of a provider that has none": (
        "providers:\n- id: openai\n  region: eu-west-1",
        "line 3: providers[0].region: only for bedrock",
    ),
    "signing for a provider that takes no signatures": (
        "providers:\n- {id: mine, base_url: 'https://x', sign: true}",
        "line 2: providers[0].sign: only for bedrock",
    ),
    "a region that is a city": ("providers: [{id: bedrock, region: Frankfurt}]", "line 1: providers[0].region: String"),
    "a second Bedrock that is nowhere": (
        "providers: [{id: bedrock-eu, kind: bedrock}]",
        "line 1: providers[0].id: 'bedrock-eu' is not a provider; known are",
    ),
    "signing for a region that nobody knows": (
        "providers:\n- id: bedrock\n  base_url: https://x\n  sign: true",
        "line 4: providers[0].sign: say the region that is signed for",
    ),
    "signing and a key of the client's": (
        "providers:\n- id: bedrock\n  sign: true\n  auth: bearer",
        "line 4: providers[0].auth: where Envoy signs, no key is passed on",
    ),
    "signing and a key that the gateway holds": (
        "providers: [{id: bedrock, sign: true}]\norgs:\n- name: a\n  credentials: {bedrock: env:KEY}",
        "line 4: orgs[0].credentials.bedrock: Envoy signs calls to 'bedrock': take away this key, or its `sign`",
    ),
    "a word for signing": (
        "providers: [{id: bedrock, sign: aws}]",
        "line 1: providers[0].sign: write settings under it, such as `name: value`",
    ),
    "a profile of no file": (
        "providers: [{id: bedrock, sign: {profile: x}}]",
        "line 1: providers[0].sign: name the credentials_file of the profile",
    ),
    "credentials in a file somewhere": (
        "providers: [{id: bedrock, sign: {credentials_file: aws}}]",
        "line 1: providers[0].sign.credentials_file: String should match",
    ),
    "a provider without an id": ("providers: [{observe: native}]", "line 1: providers[0].id: Field required"),
    "a provider twice": (
        "providers:\n- {id: groq, base_url: https://x}\n- {id: groq, base_url: https://y}",
        "line 3: providers[1].id: 'groq' is above already",
    ),
    "a price list that is neither file nor page": (
        "catalogue:\n  source: ftp://x/prices.json",
        "line 2: catalogue.source: write the path of a file, or a URL such as",
    ),
    "a URL of nowhere": ("catalogue: {source: 'https://'}", "line 1: catalogue.source: write the path of a file"),
    "prices asked for too often": ("catalogue: {every_s: 1}", "line 1: catalogue.every_s: Input should be greater"),
    "two orgs of one name": ("orgs:\n- name: a\n- name: a", "line 3: orgs[1].name: another org is called 'a' too"),
    "one key for two orgs": (
        f"orgs:\n- name: a\n  keys: [{{sha256: {DIGEST}}}]\n- name: b\n  keys:\n  - sha256: {DIGEST}",
        "line 6: orgs[1].keys[0]: this key already belongs to 'a'",
    ),
    "one key twice": (
        f"orgs:\n- name: a\n  keys:\n  - sha256: {DIGEST}\n  - sha256: {DIGEST}",
        "line 5: orgs[0].keys[1]: this key already belongs to 'a'",
    ),
    "a section twice": (
        "log: {level: debug}\n\nlog: {calls: false}",
        "line 3: log: written twice, on line 1 too",
    ),
    "an address without a port": ("envoy: {listen: localhost}", f"line 1: envoy.listen: {ADDRESS}"),
    "an address without a host": ("admin: {listen: ':8088'}", f"line 1: admin.listen: {ADDRESS}"),
    "a port that is a word": ("grpc: {listen: 'localhost:grpc'}", f"line 1: grpc.listen: {ADDRESS}"),
    "a port beyond all ports": ("grpc: {listen: 'localhost:65536'}", f"line 1: grpc.listen: {ADDRESS}"),
    "a socket without a path": ("grpc: {listen: 'unix:lectr.sock'}", f"line 1: grpc.listen: {ADDRESS}"),
    "an admin port on a socket": ("envoy: {admin: 'unix:/x'}", f"line 1: envoy.admin: {ADDRESS}"),
    "a profile there is not": (
        "envoy: {profile: fast}",
        "line 1: envoy.profile: Input should be 'native' or 'portable'",
    ),
    "a timeout of nothing": (
        "envoy: {message_timeout_s: 0}",
        "line 1: envoy.message_timeout_s: Input should be greater",
    ),
    "TLS without its files": ("grpc:\n  tls: {cert: a}", "line 2: grpc.tls.key: Field required"),
    "a size in words": (
        "limits: {request_body_bytes: 1 MB}",
        "line 1: limits.request_body_bytes: Input should be a valid",
    ),
    "a size below any request": (
        "limits: {request_body_bytes: 1}",
        "line 1: limits.request_body_bytes: Input should be",
    ),
    "tiers that overlap": ("auto: {economy_to: 60}", "line 1: auto: economy_to must be below premium_from"),
    "weights that are too much together": (
        "auto: {weights: {code: 60}}",
        "line 1: auto.weights: these are 140 together, with those left out; they must be 100",
    ),
    "a signal there is not": ("auto:\n  weights: {luck: 10}", "line 2: auto.weights.luck"),
    "steps that fall": (
        "auto: {steps: {system: [[100, 30], [500, 20]]}}",
        "line 1: auto.steps.system: steps must rise",
    ),
    "steps without one": ("auto: {steps: {system: []}}", "line 1: auto.steps.system: steps must rise"),
    "a log level there is not": ("log: {level: loud}", "line 1: log.level: Input should be 'debug', 'info',"),
}


@pytest.mark.parametrize(("text", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_line_and_its_name(text: str, problem: str) -> None:
    (told,) = problems(text)
    assert told.startswith(problem)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = f"""
orgs:
- name: a
  keys: [{{sha256: {DIGEST}}}, {{sha256: {DIGEST}}}]
- name: a
- 3
- {{name: b, keys: [x, {{label: y}}]}}
providers:
- {{id: nobody}}
log: {{level: loud}}
envoy:
  profil: native
"""
    told = problems(text)
    assert [line.split(":")[1].strip() for line in told] == [
        "orgs[0].keys[1]",
        "orgs[1].name",
        "orgs[2]",
        "orgs[3].keys[0]",
        "orgs[3].keys[1].sha256",
        "providers[0].id",
        "log.level",
        "envoy.profil",
    ]
    with pytest.raises(ConfigError, match=r"^lectr\.yaml: 8 problems\nline 4: "):
        load(text)
    with pytest.raises(ConfigError, match=r"^lectr\.yaml: 1 problem\nline 1: "):
        load("a: b")


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    text = "providers: [{id: openai, base_url: 'https://u:hunter2@h'}]\norgs: [{name: a, keys: [{sha256: hunter2}]}]"
    assert "hunter2" not in "\n".join(problems(text))


def test_a_mistake_in_what_the_program_chose_has_a_name_and_the_first_line() -> None:
    assert problems("orgs: []", log={"level": "loud"})[0].startswith("line 1: log.level: ")
    assert problems("log: []", log={"level": "info"})[0].startswith("line 1: log: write settings under it")


@pytest.mark.parametrize("command", ["serve", "check", "envoy render", "explain", "run"])
def test_bad_settings_end_every_command_with_64(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lectr.yaml"
    file.write_text("log: {level: loud}\norgz: 1\n")
    assert main([*command.split(), "--config", str(file)]) == EXIT_BAD_SETTINGS == 64
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", f"{file}: 2 problems")


SECTIONS = [json_schema(), *json_schema()["$defs"].values()]

NAMES = st.sampled_from(sorted({name for section in SECTIONS for name in section["properties"]}))

ODD = st.sampled_from(["acme", "openai", "mine", "127.0.0.1:8²", "http://[x", "1e999", DIGEST, "env:X", "v1", "none"])

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.binary(max_size=4) | st.text() | ODD,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), below, max_size=4),
    max_leaves=12,
)

TAGS = ("int", "bool", "float", "timestamp", "set", "binary")

SIGNS = st.sampled_from(list(":-[]{}'\"#&*?>|,!\n ")) | st.sampled_from([f"!!{tag} " for tag in TAGS])

PIECES = st.lists(NAMES | ODD | SIGNS).map("".join)


@given(st.text() | PIECES | st.dictionaries(NAMES, ANYTHING).map(yaml.safe_dump))
def test_whatever_is_in_the_file_it_is_settings_or_a_list_of_problems(text: str) -> None:
    try:
        settings: Settings | None = load(text)
        told = []
    except ConfigError as error:
        settings, told = None, error.problems
    assert bool(settings) is not bool(told)


LEDGERS = {
    "a file": "sqlite:///var/lib/lectr/ledger.db",
    "a server": "postgresql://lectr@db.example:5432/lectr?sslmode=require",
    "memory": "memory",
    "a reference to the environment": "env:LECTR_LEDGER_URL",
    "a reference to a file": "file:/run/secrets/ledger",
}


@pytest.mark.parametrize("url", LEDGERS.values(), ids=LEDGERS)
def test_a_ledger_is_a_file_a_server_memory_or_a_reference(url: str) -> None:
    assert load(f"ledger: {{url: '{url}'}}").ledger == LedgerSettings(url=url, retention_days=30)


NO_LEDGERS = {
    "a password in it": ("postgresql://lectr:hush@db/lectr", "no password in here"),
    "a password behind it": ("postgresql://lectr@db/lectr?password=hush", "no password in here"),
    "another database": ("mysql://db/lectr", "write sqlite:"),
    "a file that depends on where lectr starts": ("sqlite://ledger.db", "write sqlite:"),
    "a reference to nothing": ("env:", "write sqlite:"),
    "a reference to a relative path": ("file:ledger", "write sqlite:"),
}


@pytest.mark.parametrize(("url", "told"), NO_LEDGERS.values(), ids=NO_LEDGERS)
def test_any_other_ledger_is_refused_and_no_password_repeated(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        load(f"ledger: {{url: '{url}'}}")
    assert "hush" not in str(refused.value)


# --- open doors -------------------------------------------------------------------------------------------------------

CERTIFICATE = "tls: {cert: a, key: b"

DOORS = {
    "the defaults": ("{}", []),
    "a socket": ("grpc: {listen: 'unix:/run/lectr.sock'}", []),
    "a port of this machine": ("grpc: {listen: '[::1]:1'}", []),
    "a port for all": ("grpc: {listen: '0.0.0.0:1'}", ["grpc.listen (0.0.0.0:1)"]),
    "a port for all that proves only itself": (
        f"grpc: {{listen: 'lectr.internal:1', {CERTIFICATE}}}}}",
        ["grpc.listen (lectr.internal:1)"],
    ),
    "a port that asks for a certificate": (f"grpc: {{listen: '0.0.0.0:1', {CERTIFICATE}, client_ca: c}}}}", []),
    "an Envoy that everybody may stop": ("envoy: {admin: '0.0.0.0:9901'}", ["envoy.admin (0.0.0.0:9901)"]),
}


@pytest.mark.parametrize(("text", "doors"), DOORS.values(), ids=DOORS)
def test_a_door_that_is_open_to_strangers_is_named(text: str, doors: list[str]) -> None:
    assert [told[: len(door)] for told, door in zip(load(text).open_doors, doors, strict=True)] == doors
