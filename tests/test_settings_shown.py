"""Settings as a browser may show them."""

import json

from lectr_extproc.settings import load
from lectr_extproc.settings_shown import MOST_ORGS, shown

TEXT = """
orgs:
- name: acme
  keys: [{sha256: "01234567%s", label: web}]
  credentials: {openai: "env:OPENAI_KEY"}
  limits: {daily_usd: 5, narrower: [{for: {key: web}, daily_usd: 1}]}
admin: {token: "file:/run/secrets/token"}
webhook: {url: "https://hooks.example/services/T0/hush?key=hush", secret: "env:HOOK"}
ledger: {url: "postgresql://hush@db.example:5432/lectr?sslmode=require"}
catalogue: {source: "https://hush:hush@prices.example/data.json?sig=hush"}
prices: [{provider: openai, model: gpt-4o, input: 1, from: 2026-01-01}]
"""


def test_all_settings_are_shown_with_their_defaults_and_as_the_file_names_them() -> None:
    found = shown(load(TEXT % ("a" * 56)))
    assert found["orgs"][0]["limits"]["narrower"][0]["for"]["key"] == "web"
    assert found["prices"][0]["from"] == "2026-01-01"
    assert (found["log"]["level"], found["recommend"]["days"]) == ("info", 30)
    assert json.loads(json.dumps(found)) == found


def test_nothing_secret_is_shown() -> None:
    found = shown(load(TEXT % ("a" * 56)))
    assert "hush" not in json.dumps(found)
    (key,) = found["orgs"][0]["keys"]
    assert (key["sha256"], key["label"]) == ("01234567", "web")
    assert found["orgs"][0]["credentials"] == {"openai": "env:OPENAI_KEY"}
    assert found["webhook"] == {"url": "hooks.example", "secret": "env:HOOK"}
    assert found["ledger"]["url"] == "postgresql://db.example:5432/lectr"
    assert found["catalogue"]["source"] == "https://prices.example/data.json"


def test_what_was_in_force_where_the_file_says_nothing_is_shown_too() -> None:
    found = shown(load("log: {level: debug}", defaults={"grpc": {"listen": "unix:/run/lectr.sock"}}))
    assert (found["log"]["level"], found["grpc"]["listen"]) == ("debug", "unix:/run/lectr.sock")
    assert shown(load(""))["orgs_more"] == 0


def test_of_very_many_orgs_the_first_are_shown() -> None:
    orgs = "".join(f"\n- {{name: o{n}, keys: [{{sha256: '{n:064x}'}}]}}" for n in range(MOST_ORGS + 2))
    found = shown(load(f"orgs:{orgs}"))
    assert (len(found["orgs"]), found["orgs_more"]) == (MOST_ORGS, 2)
