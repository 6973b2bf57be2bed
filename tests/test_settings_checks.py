"""What only several settings together show."""

import re

import pytest

from lectr_extproc.core.rules import Arm, Rule, Rules, Terms
from lectr_extproc.settings import (
    ConfigError,
    load,
)
from tests.test_settings import DIGEST

HELD = f"""
credentials: {{openai: env:OPENAI, groq: file:/run/groq}}
orgs:
- name: acme
  keys: [{{sha256: {DIGEST}}}]
  azure: {{endpoint: https://x.openai.azure.com}}
  credentials: {{azure: file:/run/azure, openai: env:ACME_OPENAI}}
"""


def test_keys_are_held_by_reference_for_every_org_and_for_one() -> None:
    settings = load(HELD, read_reference=lambda reference: f"secret of {reference}")
    snapshot = settings.snapshot
    assert {id_: held.secret for id_, held in snapshot.credentials.items()} == {
        "openai": "secret of env:OPENAI",
        "groq": "secret of file:/run/groq",
    }
    assert {id_: held.secret for id_, held in snapshot.orgs_by_key[DIGEST].credentials.items()} == {
        "azure": "secret of file:/run/azure",
        "openai": "secret of env:ACME_OPENAI",
    }
    assert settings.secret_files == {"/run/groq", "/run/azure"}
    assert "secret of" not in repr(settings)


def test_settings_with_a_new_key_behind_an_old_reference_are_new_settings() -> None:
    assert load(HELD) == load(HELD)
    assert load(HELD) != load(HELD, read_reference=lambda reference: f"{reference}, rotated")


PLAIN = "write where the key is found, env:NAME or file:/path, and never the key itself"
BAD_CREDENTIALS = {
    "a key itself": ("credentials: {openai: sk-hunter2}", f"line 1: credentials.openai: {PLAIN}"),
    "a key itself in an org": (
        "orgs: [{name: a, credentials: {openai: sk-hunter2}}]",
        f"line 1: orgs[0].credentials.openai: {PLAIN}",
    ),
    "a path that depends on where lectr starts": ("credentials: {openai: file:key}", f"credentials.openai: {PLAIN}"),
    "a name that no environment has": ("credentials: {openai: 'env:1 2'}", f"credentials.openai: {PLAIN}"),
    "no name at all": ("credentials: {openai: 'env:'}", f"credentials.openai: {PLAIN}"),
    "a number": ("credentials: {openai: 12345}", "credentials.openai: Input should be a valid string"),
    "a list": ("credentials: [openai]", "credentials: Input should be a valid dictionary"),
    "a provider nobody knows": ("credentials: {opneai: env:X}", "credentials.opneai: 'opneai' is not a provider"),
    "a key for addresses of the orgs": (
        "credentials: {azure: env:X}",
        "credentials.azure: each org has its own address",
    ),
    "a key for who takes none": (
        "providers: [{id: ollama, base_url: 'http://x'}]\ncredentials: {ollama: env:X}",
        "line 2: credentials.ollama: 'ollama' takes no key",
    ),
    "a key where settings say that none is passed on": (
        "providers: [{id: mine, base_url: 'http://x', auth: none}]\norgs: [{name: a, credentials: {mine: env:X}}]",
        "line 2: orgs[0].credentials.mine: 'mine' takes no key",
    ),
    "a key for a second one of a kind that takes none": (
        "providers: [{id: second, kind: ollama, base_url: 'http://x'}]\ncredentials: {second: env:X}",
        "credentials.second: 'second' takes no key",
    ),
    "a key for a provider without an address": (
        "credentials: {custom: env:X}",
        "credentials.custom: 'custom' has no address: give it one in `providers:`",
    ),
    "a key for an org without an Azure resource": (
        "orgs: [{name: a, credentials: {azure: env:X}}]",
        "orgs[0].credentials.azure: this org has no address there: write its `azure: {endpoint: …}` too",
    ),
    "a reference to nothing": ("credentials: {groq: env:GONE}", "credentials.groq: the environment has no GONE"),
}


@pytest.mark.parametrize(("text", "told"), BAD_CREDENTIALS.values(), ids=BAD_CREDENTIALS)
def test_a_mistake_about_a_held_key_is_told_without_it(text: str, told: str) -> None:
    def read(reference: str) -> str:
        if reference == "env:GONE":
            raise ValueError("the environment has no GONE")
        return reference

    with pytest.raises(ConfigError) as caught:
        load(text, read_reference=read)
    (problem,) = caught.value.problems
    assert told in problem
    assert "hunter2" not in problem


def test_a_key_for_every_org_may_be_held_where_they_share_an_address() -> None:
    text = "providers: [{id: azure, base_url: 'https://x.openai.azure.com'}]\ncredentials: {azure: env:X}"
    assert load(text).snapshot.credentials.keys() == {"azure"}


HELD_WHERE_IT_CAN_GO = {
    "a second Bedrock": "providers: [{id: eu, kind: bedrock, region: eu-west-1}]\ncredentials: {eu: env:X}",
    "an Ollama behind a door": "providers: [{id: ollama, base_url: 'http://x', auth: bearer}]\n"
    "credentials: {ollama: env:X}",
    "an org's at everyone's Azure": "providers: [{id: azure, base_url: 'https://x'}]\n"
    "orgs: [{name: a, credentials: {azure: env:X}}]",
}


@pytest.mark.parametrize("text", HELD_WHERE_IT_CAN_GO.values(), ids=HELD_WHERE_IT_CAN_GO)
def test_a_key_may_be_held_wherever_it_can_go(text: str) -> None:
    assert load(text).orgs in {(), ("a",)}


def test_a_key_may_be_held_for_a_provider_of_ones_own() -> None:
    text = "providers: [{id: vllm, base_url: 'http://vllm:8000'}]\ncredentials: {vllm: env:X}"
    assert load(text).snapshot.credentials.keys() == {"vllm"}


def test_a_missing_key_is_told_with_every_other_mistake_and_with_the_files_that_may_mend_it() -> None:
    def read(_: str) -> str:
        raise ValueError("gone")

    with pytest.raises(ConfigError) as caught:
        load(f"log: {{level: loud}}\n{HELD}", read_reference=read)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "log.level",
        "credentials.groq",
        "credentials.openai",
        "orgs[0].credentials.azure",
        "orgs[0].credentials.openai",
    ]
    assert caught.value.secret_files == {"/run/groq", "/run/azure"}


def test_ports_on_addresses_of_their_own_and_sockets_are_nobody_elses() -> None:
    text = "envoy: {listen: '127.0.0.2:7000'}\nadmin: {listen: '127.0.0.1:7000'}\ngrpc: {listen: 'unix:/x.sock'}"
    assert load(text).admin_listen == "127.0.0.1:7000"


WORKERS: dict[str, tuple[str, str]] = {
    "on a port that another setting has": (
        "grpc: {listen: '127.0.0.1:8087', workers: 2}",
        "admin.listen: grpc.listen has port 8088 already",
    ),
    "beyond the last port": (
        "grpc: {listen: '127.0.0.1:65535', workers: 2}",
        "grpc.workers: there are not so many ports from 65535 on",
    ),
    "with memories of their own": (
        "grpc: {workers: 2}\nledger: {url: memory}",
        "ledger.url: each of grpc.workers would have a memory of its own: name a file or a database",
    ),
    "without end": ("grpc: {workers: 1000000000}", "grpc.workers: Input should be less than or equal to 64"),
    "of a number that is none": ("grpc: {workers: many}", "grpc.workers: Input should be a valid integer"),
}


@pytest.mark.parametrize(("text", "told"), WORKERS.values(), ids=WORKERS)
def test_workers_that_cannot_be_are_a_mistake(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        load(text)


def test_one_worker_may_have_a_ledger_in_memory_and_several_a_file() -> None:
    assert load("ledger: {url: memory}").workers == 1
    assert load("grpc: {workers: 2}").gateway.workers == 2


# --- the admin port's token -------------------------------------------------------------------------------------------

TOKEN_WANTED = "admin.listen: off loopback it needs a token"
OPEN_ADMIN = {
    "every address": "0.0.0.0:8088",
    "every address of IPv6": "[::]:8088",
    "an address": "10.1.2.3:8088",
    "a name": "lectr.internal:8088",
}


@pytest.mark.parametrize("listen", OPEN_ADMIN.values(), ids=OPEN_ADMIN)
def test_an_admin_port_that_others_reach_needs_a_token(listen: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(f"admin:\n  listen: '{listen}'")
    (problem,) = error.value.problems
    assert problem.startswith(f"line 2: {TOKEN_WANTED}")
    load(f"admin: {{listen: '{listen}', token: env:TOKEN}}")


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "::1:1"])
def test_an_admin_port_on_loopback_needs_none(listen: str) -> None:
    assert load(f"admin: {{listen: '{listen}'}}").admin_token is None


def test_the_token_is_found_where_its_reference_says_and_is_shown_nowhere() -> None:
    settings = load("admin: {token: file:/run/token}", read_reference=lambda reference: f"the token in {reference}")
    assert settings.admin_token == "the token in file:/run/token"
    assert settings.secret_files == {"/run/token"}
    assert "the token in" not in repr(settings)
    assert settings != load("admin: {token: file:/run/token}", read_reference=lambda _: "another one, longer")


BAD_TOKENS = {
    "itself": ("hunter2hunter2hunter2", PLAIN),
    "too short": ("env:TOKEN", "what it names has less than 16 characters"),
}


@pytest.mark.parametrize(("token", "problem"), BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_bad_token_is_a_mistake_that_does_not_repeat_it(token: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(f"admin: {{token: {token}}}", read_reference=lambda _: "hunter2")
    (told,) = error.value.problems
    assert told.startswith(f"line 1: admin.token: {problem}")
    assert "hunter2" not in told


# --- rules ------------------------------------------------------------------------------------------------------------

RULES = f"""
providers: [{{id: mine, base_url: 'http://x'}}]
orgs:
- name: acme
  keys: [{{sha256: {DIGEST}}}]
  rules:
  - {{name: last, then: {{model: m}}, priority: -1}}
  - name: split
    when: {{feature: ' a\u00e5 ', task: Summarization, provider: mine, model: gpt-4o}}
    split: [{{weight: 1}}, {{weight: 0, provider: mine}}]
    sticky: X-User
  - {{name: asleep, then: {{provider: groq}}, enabled: false}}
  - {{name: first, when: {{}}, then: {{model: m, provider: groq}}, priority: 2}}
"""


def test_rules_arrive_in_the_order_of_their_priorities() -> None:
    rules = load(RULES).snapshot.orgs_by_key[DIGEST].rules
    assert rules == Rules(
        (
            Rule(name="first", arms=(Arm("m", "groq"),)),
            Rule(
                name="split",
                when=Terms("aå", "summarisation", "mine", "gpt-4o"),
                arms=(Arm(weight=1), Arm(None, "mine", 0)),
                sticky="x-user",
            ),
            Rule(name="asleep", arms=(Arm(None, "groq"),), enabled=False),
            Rule(name="last", arms=(Arm("m"),)),
        )
    )
    assert load(RULES).snapshot.sticky_headers == {"x-user"}
    assert (
        load(f"orgs: [{{name: a, rules: [], keys: [{{sha256: {DIGEST}}}]}}]").snapshot.orgs_by_key[DIGEST].rules is None
    )


BAD_RULES = {
    "no name": ("{then: {model: m}}", "[0].name: Field required"),
    "a name of blanks": ("{name: ' ', then: {model: m}}", "[0].name: String should match"),
    "nothing to do": ("{name: a}", "[0]: write `then` or `split`, one of them"),
    "two things to do": (
        "{name: a, then: {model: m}, split: [{weight: 1}, {weight: 1, model: m}]}",
        "[0]: write `then` or `split`, one of them",
    ),
    "an empty thing to do": ("{name: a, then: {}}", "[0]: say a model, a tier or a provider under `then`"),
    "a split in one": ("{name: a, split: [{weight: 1}]}", "[0].split: List should have at least 2 items"),
    "a split without weights": (
        "{name: a, split: [{weight: 0}, {weight: 0, model: m}]}",
        "[0]: all weights are 0: `enabled: false` turns the rule off",
    ),
    "a part without a weight": ("{name: a, split: [{model: m}, {weight: 1}]}", "[0].split[0].weight: Field required"),
    "a negative weight": (
        "{name: a, split: [{weight: -1}, {weight: 1, model: m}]}",
        "[0].split[0].weight: Input should be greater",
    ),
    "two parts that are the same": (
        "{name: a, split: [{weight: 1, model: m}, {weight: 2, model: m}]}",
        "[0]: two parts of `split` are the same, 'm': add up their weights",
    ),
    "sticky without a split": ("{name: a, then: {model: m}, sticky: x-user}", "[0]: `sticky` goes with `split`"),
    "a key as what sticks": (
        "{name: a, split: [{weight: 1}, {weight: 1, model: m}], sticky: Authorization}",
        "[0].sticky: write the name of a header that is not a key's",
    ),
    "no header": (
        "{name: a, split: [{weight: 1}, {weight: 1, model: m}], sticky: 'x user'}",
        "[0].sticky: write the name of a header",
    ),
    "a tier there is not": ("{name: a, then: {tier: best}}", "[0].then.tier: Input should be 'economy', 'standard'"),
    "a model and a tier": ("{name: a, then: {tier: economy, model: m}}", "[0].then: say a model or a tier, not both"),
    "a task that is none": ("{name: a, when: {task: poetry}, then: {model: m}}", "[0].when.task: write one of class"),
    "a feature of nothing": ("{name: a, when: {feature: ' '}, then: {model: m}}", "[0].when.feature: there is nothing"),
    "a condition that is none": ("{name: a, when: {user: ann}, then: {model: m}}", "[0].when.user: there is no such"),
    "an unknown provider asked for": (
        "{name: a, when: {provider: opneai}, then: {model: m}}",
        "[0].when.provider: 'opneai' is not a provider",
    ),
    "an unknown provider": ("{name: a, then: {provider: opneai}}", "[0].then.provider: 'opneai' is not a provider"),
    "an unknown provider in a split": (
        "{name: a, split: [{weight: 1}, {weight: 1, provider: opneai}]}",
        "[0].split[1].provider: 'opneai' is not a provider",
    ),
    "a provider without an address": (
        "{name: a, then: {provider: ollama}}",
        "[0].then.provider: 'ollama' has no address: give it one in `providers:`",
    ),
    "Azure, of an org without a resource there": (
        "{name: a, then: {provider: azure}}",
        "[0].then.provider: this org has no address there: write its `azure: {endpoint: …}` too",
    ),
    "two of one name": (
        "{name: a, then: {model: m}}, {name: a, then: {model: n}}",
        "[1].name: another rule of this org is called 'a' too",
    ),
    "no rule": ("[]", "[0]: write settings under it"),
}


@pytest.mark.parametrize(("rules", "told"), BAD_RULES.values(), ids=BAD_RULES)
def test_a_rule_that_cannot_be_meant_is_told_with_its_place(rules: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"orgs:\n- name: acme\n  rules: [{rules}]")
    (problem,) = caught.value.problems
    assert problem.startswith(f"line 3: orgs[0].rules{told}")


def test_rules_of_two_orgs_may_have_one_name_and_each_org_its_own_azure() -> None:
    rule = "rules: [{name: a, then: {provider: azure}}]"
    other = "{name: b, rules: [{name: a, then: {model: m}}]}"
    assert load(f"orgs: [{{name: a, {rule}, azure: {{endpoint: 'http://x'}}}}, {other}]").orgs == ("a", "b")
    everyones = f"providers: [{{id: azure, base_url: 'https://x.openai.azure.com'}}]\norgs: [{{name: a, {rule}}}]"
    assert load(everyones).orgs == ("a",)


def test_a_rule_that_an_earlier_one_leaves_nothing_is_a_warning_and_no_mistake() -> None:
    rules = "[{name: all, then: {model: m}}, {name: idle, when: {feature: f}, then: {model: n}}]"
    settings = load(f"orgs: [{{name: acme, keys: [{{sha256: {DIGEST}}}], rules: {rules}}}]")
    (warning,) = settings.warnings
    assert warning == "orgs: acme: rule 'idle' never matches: 'all' comes first, and takes all of its calls"
    assert load(RULES).warnings == [
        f"orgs: acme: rule '{name}' never matches: 'first' comes first, and takes all of its calls"
        for name in ("split", "last")
    ]


BAD_CHOICES = {
    "an alias of a word": ("aliases: {auto: gpt-4o}", ": aliases: 'auto' is a word of its own"),
    "an alias of an alias": ("aliases: {a: b, b: gpt-4o}", ": aliases: 'b' is an alias, too; name what it stands for"),
    "a tier among models": ("aliases: {a: [economy, gpt-4o]}", ": aliases: 'a': a tier stands alone"),
    "an alias of nothing": ("aliases: {a: []}", ".aliases.a: List should have at least 1 item"),
    "an allowed provider that is none": ("allowed: {providers: [opanai]}", ".allowed.providers[0]: 'opanai' is not a"),
    "a provider that is none, blocked for a key": (
        "keys: [{sha256: '%s', blocked: {providers: [opanai]}}]" % ("0" * 64),
        ".keys[0].blocked.providers[0]: 'opanai' is not a",
    ),
    "a blocked provider that is none": ("blocked: {providers: [opanai]}", ".blocked.providers[0]: 'opanai' is not a"),
}


@pytest.mark.parametrize(("setting", "told"), BAD_CHOICES.values(), ids=BAD_CHOICES)
def test_a_choice_that_cannot_be_made_is_told_with_its_place(setting: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"orgs:\n- name: acme\n  {setting}")
    (problem,) = caught.value.problems
    assert problem.partition("orgs[0]")[2].startswith(told)


def test_aliases_stand_beside_those_of_every_org_or_in_their_place() -> None:
    text = """
        orgs:
        - name: acme
          keys: [{sha256: '%s'}]
          aliases: {chat: economy, embed-small: [mine, theirs]}
          blocked: {providers: [groq], models: [gpt-4.1]}
          allowed: {providers: [openai], models: [gpt-4o]}
        """ % ("0" * 64)
    (org,) = load(text).snapshot.orgs_by_key.values()
    assert org.aliases["chat"] == ("economy",)
    assert org.aliases["embed-small"] == ("mine", "theirs")
    assert org.aliases["embed-large"] == ("text-embedding-3-large",)
    assert org.blocked == {"groq", "gpt-4.1"}
    assert org.allowed_providers == {"openai"}
    assert org.allowed_models == {"gpt-4o"}


def test_a_part_of_a_split_may_be_a_tier() -> None:
    text = """
        orgs:
        - name: acme
          keys: [{sha256: '%s'}]
          rules: [{name: a, split: [{weight: 1}, {weight: 2, tier: economy, provider: groq}]}]
        """ % ("0" * 64)
    (org,) = load(text).snapshot.orgs_by_key.values()
    assert org.rules is not None
    assert str(org.rules.ordered[0].arms[1]) == "groq/economy"


# --- workloads --------------------------------------------------------------------------------------------------------

MESHED = "orgs: [{name: a, workloads: [spiffe://m/a, 5]}, {name: b, workloads: [spiffe://m/%s]}]\n"


def test_a_workload_belongs_to_one_org() -> None:
    with pytest.raises(ConfigError) as error:
        load(MESHED % "a" + "identity: {xfcc: true}")
    assert "line 1: orgs[1].workloads[0]: this workload already belongs to 'a'" in error.value.problems


def test_workloads_are_told_by_somebody_and_by_one() -> None:
    with pytest.raises(ConfigError) as error:
        load(MESHED % "b")
    nobody = "nobody tells of workloads: say who, under `identity` (docs/mesh.md)"
    assert [f"line 1: orgs[{i}].workloads[0]: {nobody}" in error.value.problems for i in (0, 1)] == [True, True]
    with pytest.raises(ConfigError, match="identity: say `attribute` or `xfcc`, one of them"):
        load("identity: {xfcc: true, attribute: connection.uri_san_peer_certificate}")
