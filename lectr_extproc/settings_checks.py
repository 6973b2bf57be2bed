"""What no single field of lectr.yaml can see: names given twice, keys that go nowhere, ports shared."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.credential import Credential, Form
from lectr_extproc.core.detect import prefixes
from lectr_extproc.settings_file import MOST_WORKERS, SettingsFile
from lectr_extproc.settings_types import LAST_PORT, PORT, REFERENCE, is_loopback, unknown

Path = tuple[str | int, ...]
"Where a setting is, such as orgs, 0, name."
Problem = tuple[Path, str]


def contradictions(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """What no single field can see. Other mistakes may be in the file too, so nothing is taken for granted."""
    names: set[str] = set()
    digests: dict[str, str] = {}
    for i, org, name in _items(raw, "orgs", "name"):
        if name in names:
            yield ("orgs", i, "name"), f"another org is called {name!r} too"
        names.add(name)
        for j, _, digest in _items(org, "keys", "sha256"):
            if digest in digests:
                yield ("orgs", i, "keys", j), f"this key already belongs to {digests[digest]!r}"
            digests[digest] = name
    ids = dict.fromkeys(PROVIDERS, False)
    words = {word: row.id for row in PROVIDERS.values() for word in prefixes(row)}
    owners: dict[str, str] = {}
    for i, provider, id_ in _items(raw, "providers", "id"):
        if ids.get(id_):
            yield ("providers", i, "id"), f"{id_!r} is above already"
        ids[id_] = True
        kind = _text(provider, "kind")
        if id_ in PROVIDERS:
            if kind not in (None, id_):
                yield ("providers", i, "kind"), f"lectr knows {id_!r}: give another provider an id of its own"
        elif id_ in words:
            yield ("providers", i, "id"), f"{id_!r} is another name for {words[id_]!r}"
        elif provider.get("base_url") is None and not (provider.get("region") and kind in _WITH_REGIONS):
            wanted = "base_url or a region" if kind in _WITH_REGIONS else "base_url"
            yield ("providers", i, "id"), f"{unknown(id_, PROVIDERS)}; a new one needs a {wanted}"
        for name, problem in _regional(provider, kind or id_):
            yield ("providers", i, name), problem
        for j, model in _models(provider):
            if model in owners:
                yield ("providers", i, "models", j), f"{model!r} belongs to {owners[model]!r} already"
            owners[model] = id_
    yield from _workloads(raw)
    yield from _rules(raw, ids)
    yield from _bounds(raw, ids)
    yield from _limited_keys(raw)
    for i, _, id_ in _items(raw, "prices", "provider"):
        if id_ not in ids:
            yield ("prices", i, "provider"), unknown(id_, ids)
    yield from _shared_ports(raw)
    if _workers(raw) > 1 and _mapping(raw, "ledger").get("url") == "memory":
        yield ("ledger", "url"), "each of grpc.workers would have a memory of its own: name a file or a database"
    admin = _mapping(raw, "admin")
    listen = str(admin.get("listen", ""))
    if listen.rpartition(":")[0] and admin.get("token") is None and not is_loopback(listen):
        yield ("admin", "listen"), "off loopback it needs a token: `token: file:/path` (docs/running.md)"


def _workloads(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Workloads of two orgs, and such as nobody tells of."""
    identity, owners = _mapping(raw, "identity"), dict[str, str]()
    for i, org, name in _items(raw, "orgs", "name"):
        for j, workload in enumerate(_list(org, "workloads")):
            if not isinstance(workload, str):
                continue
            if workload in owners:
                yield ("orgs", i, "workloads", j), f"this workload already belongs to {owners[workload]!r}"
            owners[workload] = name
            if not (identity.get("attribute") or identity.get("xfcc")):
                yield ("orgs", i, "workloads", j), "nobody tells of workloads: say who, under `identity` (docs/mesh.md)"


def _rules(raw: Mapping[str, Any], known: Mapping[str, bool]) -> Iterator[Problem]:
    """Rules of one name in one org, and providers that are none or have no address there."""
    sections = {id_: section for _, section, id_ in _items(raw, "providers", "id")}
    for i, org in enumerate(_list(raw, "orgs")):
        names: set[str] = set()
        for j, rule in enumerate(_list(org, "rules") if isinstance(org, dict) else []):
            if not isinstance(rule, dict):
                continue
            place = ("orgs", i, "rules", j)
            name = _text(rule, "name")
            if name in names:
                yield (*place, "name"), f"another rule of this org is called {name!r} too"
            names |= {name} if name else set()
            if (asked := _text(_mapping(rule, "when"), "provider")) and asked not in known:
                yield (*place, "when", "provider"), unknown(asked, known)
            arms: dict[Path, Any] = {("then",): rule.get("then")}
            arms |= {("split", k): arm for k, arm in enumerate(_list(rule, "split"))}
            for below, arm in arms.items():
                id_ = _text(arm, "provider") if isinstance(arm, dict) else None
                if id_ and (problem := _without_address(id_, org, sections)):
                    yield (*place, *below, "provider"), problem


def _bounds(raw: Mapping[str, Any], known: Mapping[str, bool]) -> Iterator[Problem]:
    for i, org in enumerate(_list(raw, "orgs")):
        keys = [(("keys", j), key) for j, key in enumerate(_list(org, "keys"))] if isinstance(org, dict) else []
        for place, bounded in [((), org), *keys]:
            for name in ("blocked", "allowed") if isinstance(bounded, dict) else ():
                for j, id_ in enumerate(_list(_mapping(bounded, name), "providers")):
                    if isinstance(id_, str) and id_ not in known:
                        yield ("orgs", i, *place, name, "providers", j), unknown(id_, known)


def _limited_keys(raw: Mapping[str, Any]) -> Iterator[Problem]:
    for i, org in enumerate(_list(raw, "orgs")):
        if not isinstance(org, dict):
            continue
        labels = {label for _, _, label in _items(org, "keys", "label")}
        for j, row in enumerate(_list(_mapping(org, "limits"), "narrower")):
            key = _text(_mapping(row, "for"), "key") if isinstance(row, dict) else None
            if key is not None and key not in labels:
                yield ("orgs", i, "limits", "narrower", j, "for", "key"), f"no key of this org has the label {key!r}"


def _shared_ports(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """The second would fail, or share the port by SO_REUSEPORT and take half of the connections."""
    taken: dict[int, tuple[str, str]] = {}
    for section, name in (("envoy", "listen"), ("envoy", "admin"), ("grpc", "listen"), ("admin", "listen")):
        written = raw.get(section)
        default = getattr(SettingsFile.model_fields[section].default, name)
        address = str(written.get(name, default) if isinstance(written, dict) else default)
        host, _, port = address.rpartition(":")
        if not PORT.fullmatch(port) or not int(port):  # a Unix socket, or any free port
            continue
        for each in range(int(port), int(port) + (_workers(raw) if section == "grpc" else 1)):
            other, setting = taken.setdefault(each, (host, f"{section}.{name}"))
            if setting != f"{section}.{name}" and (host == other or {host, other} & {"0.0.0.0", "[::]"}):
                yield (section, name), f"{setting} has port {each} already"
            if each > LAST_PORT >= int(port):
                yield (section, "workers"), f"there are not so many ports from {port} on"
                break


def _workers(raw: Mapping[str, Any]) -> int:
    workers = _mapping(raw, "grpc").get("workers")
    return max(1, min(workers, MOST_WORKERS)) if isinstance(workers, int) else 1


_WITH_REGIONS = frozenset(row.id for row in PROVIDERS.values() if row.region)


def _regional(provider: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    if kind not in _WITH_REGIONS:
        yield from ((name, f"only for {', '.join(_WITH_REGIONS)}") for name in ("region", "sign") if provider.get(name))
    elif provider.get("sign") and provider.get("auth") not in (None, "none"):
        yield "auth", "where Envoy signs, no key is passed on: take away `auth` or `sign`"
    elif provider.get("sign") and provider.get("base_url") and not provider.get("region"):
        yield "sign", "say the region that is signed for: it cannot be told from a base_url"


def _models(provider: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for i, model in enumerate(_list(provider, "models")):
        name = model.get("id") if isinstance(model, dict) else model
        if isinstance(name, str):
            yield i, name


def references(raw: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Where the settings say a key, a token or a secret is found. Other mistakes may be in the file too."""
    if isinstance(token := _mapping(raw, "admin").get("token"), str):
        yield ("admin", "token"), token
    if isinstance(secret := _mapping(raw, "webhook").get("secret"), str):
        yield ("webhook", "secret"), secret
    for above, section in (((), raw), *((("orgs", i), org) for i, org in enumerate(_list(raw, "orgs")))):
        held = section.get("credentials") if isinstance(section, dict) else None
        for id_, reference in held.items() if isinstance(held, dict) else ():
            if isinstance(id_, str) and isinstance(reference, str):
                yield (*above, "credentials", id_), reference


MIN_TOKEN = 16
"What nobody guesses at the pace of a port."


def held_keys(raw: Mapping[str, Any], read: Callable[[str], str]) -> tuple[dict[str, Credential], list[Problem]]:
    """The keys behind the references, and what is wrong with those. One may be a key itself: it is never repeated."""
    keys: dict[str, Credential] = {}
    problems: list[Problem] = []
    sections = {id_: section for _, section, id_ in _items(raw, "providers", "id")}
    for path, reference in references(raw):
        above = raw["orgs"][path[1]] if path[0] == "orgs" else None
        if path[-2] == "credentials" and (problem := _cannot_go(str(path[-1]), above, sections)):
            problems.append((path, problem))
        elif not REFERENCE.fullmatch(reference):
            problems.append((path, "write where the key is found, env:NAME or file:/path, and never the key itself"))
        else:
            try:
                keys[reference] = Credential(Form.NONE, key := read(reference))
            except ValueError as error:
                problems.append((path, str(error)))
            else:
                if path[0] in {"admin", "webhook"} and reference != key and len(key) < MIN_TOKEN:
                    problems.append(
                        (path, f"what it names has less than {MIN_TOKEN} characters: anybody could guess it")
                    )
    return keys, problems


def _cannot_go(id_: str, org: Mapping[str, Any] | None, sections: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why a key that is held for a provider, for one org or for all, would never be sent."""
    section = sections.get(id_, {})
    row = PROVIDERS.get(id_) or PROVIDERS.get(str(section.get("kind")), PROVIDERS["custom"])
    if section.get("sign"):
        return f"Envoy signs calls to {id_!r}: take away this key, or its `sign`"
    if (section.get("auth") or row.key_form) in ("none", Form.NONE):
        return f"{id_!r} takes no key: take this one away"
    return _without_address(id_, org, sections)


def _without_address(id_: str, org: Mapping[str, Any] | None, sections: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why no call of an org, or of any, can go to a provider."""
    section = sections.get(id_, {})
    row = PROVIDERS.get(id_) or PROVIDERS.get(str(section.get("kind")), PROVIDERS["custom"])
    if id_ not in {*PROVIDERS, *sections}:
        return unknown(id_, {**PROVIDERS, **sections})
    if section.get("base_url") or row.base_url:
        return None
    if row.id != id_ or not row.sited_per_org:
        return f"{id_!r} has no address: give it one in `providers:`"
    if org is None:
        return "each org has its own address: write it in the orgs that this key is for"
    return None if org.get(id_) else f"this org has no address there: write its `{id_}: {{endpoint: …}}` too"


def _text(section: Mapping[str, Any], name: str) -> str | None:
    value = section.get(name)
    return value if isinstance(value, str) else None


def _items(section: Mapping[str, Any], name: str, key: str) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    """The entries of a list that have a text under `key`, each with it."""
    for i, item in enumerate(_list(section, name)):
        if isinstance(item, dict) and isinstance(item.get(key), str):
            yield i, item, item[key]


def _mapping(section: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = section.get(name)
    return found if isinstance(found, dict) else {}


def _list(section: Mapping[str, Any], name: str) -> list[Any]:
    items = section.get(name)
    return items if isinstance(items, list) else []
