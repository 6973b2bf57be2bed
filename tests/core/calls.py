"""Snapshots and calls that the tests of decisions share."""

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.outcome import Refuse, Route
from lectr_extproc.core.rules import Arm, Rule, Rules, Terms
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Site
from lectr_extproc.core.upstream import Signing
from tests.core.given import azure_site, held, request, snapshot

EVERYWHERE = snapshot(
    azure_site(),
    addresses={
        name: f"https://{name}.example/v1" for name, row in PROVIDERS.items() if not row.base_url and name != "azure"
    },
)
"Every provider has an address, and acme an Azure resource."

SMALLEST = snapshot()


def refused(facts: Facts, tables: Snapshot | None = None) -> Refuse:
    decision = decide(facts, tables or snapshot())
    assert isinstance(decision, Refuse), decision
    return decision


def signing_snapshot() -> Snapshot:
    plain = snapshot()
    upstream = dataclasses.replace(plain.sites["bedrock"].upstream, signing=Signing(service="bedrock", region="r"))
    return dataclasses.replace(plain, sites={**plain.sites, "bedrock": Site(upstream=upstream)})


INGRESS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "Bearer": ("", [("authorization", "Bearer {}")]),
    "x-api-key": ("", [("x-api-key", "{}")]),
    "api-key": ("", [("api-key", "{}")]),
    "x-goog-api-key": ("", [("x-goog-api-key", "{}")]),
    "the query": ("?key={}", []),
    "every form at once": (
        "?key={}",
        [("x-goog-api-key", "{}"), ("api-key", "{}"), ("x-api-key", "{}"), ("authorization", "Bearer {}")],
    ),
}

EGRESS = {"anthropic": "x-api-key", "azure": "api-key", "ollama": None}

KEY_HEADERS = {"authorization", "x-api-key", "api-key", "x-goog-api-key"}


def holding(everyones: dict[str, str] | None = None, /, **orgs: str) -> Snapshot:
    """Keys held for every org, and for acme."""
    tables = dataclasses.replace(EVERYWHERE, credentials=held(**(everyones or {})))
    return replaced_org(tables, credentials=held(**orgs))


def replaced_org(tables: Snapshot, **changes: Any) -> Snapshot:
    changed = {key: dataclasses.replace(org, **changes) for key, org in tables.orgs_by_key.items()}
    return dataclasses.replace(tables, orgs_by_key=changed)


def keys_out(route: Route) -> dict[str, str]:
    return {name: value for name, value in route.sets.items() if name in KEY_HEADERS}


SHAPED = {
    "sk-ant-theirs": True,
    "gsk_theirs": True,
    "AIza-theirs": True,
    "xai-theirs": True,
    "csk-theirs": True,
    "sk-or-theirs": True,
    "fw_theirs": True,
    "ABSKtheirs": True,
    "sk-theirs": False,
    "sk-proj-theirs": False,
    "theirs": False,
}

NOW = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())

PARTS = 'multipart/form-data; boundary="x y"'

TRANSCRIPTIONS = "/v1/audio/transcriptions"


def in_parts(size: int, path: str = TRANSCRIPTIONS, content_type: str = PARTS, *headers: tuple[str, str]) -> Facts:
    return request(None, ("content-length", str(size)), *headers, path=path, content_type=content_type)


def of_parts(**fields: str) -> bytes:
    parts = (f'--x y\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{v}\r\n' for name, v in fields.items())
    return "".join([*parts, "--x y--\r\n"]).encode()


ANY = st.text(st.characters(), max_size=40)

ODD_PATHS = ANY | st.sampled_from(
    [
        "/v1/models",
        "/v1/models/\udcff%ff",
        "/v1/messages",
        "/openai/deployments/\udcff/chat/completions",
        "/v1beta/models/\udc80%ff:x",
        "/v1/\x00?key=\udcff",
    ]
)

EVERY_KEY = {name: f"held-{name}" for name in PROVIDERS}


def ruled(
    *arms: Arm, when: Terms | None = None, sticky: str | None = None, keys: dict[str, str] | None = None
) -> Snapshot:
    """One rule of acme's, and keys that the gateway holds for it."""
    rules = Rules((Rule(name="ours", when=when or Terms(), arms=arms, sticky=sticky),))
    return replaced_org(holding(**(keys or {})), rules=rules)


def asked(body: dict[str, Any], *headers: tuple[str, str], bearer: str | None = None, **more: Any) -> Facts:
    """A call whose body was seen, at the time that the catalogue is of."""
    read: dict[str, object] = {name: body[name] for name in ("model", "stream", "tier", "prefer") if name in body}
    facts = dataclasses.replace(request(None, *headers, bearer=bearer, metadata=read, **more), at_s=NOW)
    return with_body(facts, json.dumps(body).encode())
