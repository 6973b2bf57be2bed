"""An Envoy's configuration as rules read it, whether it stands in files or was told by an Envoy that runs."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lectr_extproc.gateway.filters import EXT_PROC

Config = Mapping[str, Any]
"A message of Envoy's API as JSON or YAML has it."

_TYPE = "type.googleapis.com/envoy."
MANAGER = _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTES = _TYPE + "config.route.v3.RouteConfiguration"
_CLUSTER = _TYPE + "config.cluster.v3.Cluster"
_FILTER = _TYPE + "config.core.v3.TypedExtensionConfig"

_ENVOY_GATEWAYS = re.compile(r"envoy\.filters\.http\.ext_proc/envoyextensionpolicy/[^/]+/lectr/.*")
"What Envoy Gateway calls the filter that it makes of the policy `lectr`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The parts that rules look at. What is delivered from elsewhere, and is not here, cannot be judged."""

    bootstrap: Config
    "Empty where there is none, as in a file with a listener alone."
    listeners: Sequence[Config]
    managers: Sequence[Config]
    "Every HTTP connection manager."
    clusters: Mapping[str, Config]
    routes: Mapping[str, Config]
    "Configurations that are delivered by name."
    filters: Mapping[str, Config]
    "What is delivered of filters, by name."
    is_running: bool = False
    "An Envoy that runs has told all there is: what is not here has not arrived."

    def routes_of(self, manager: Config) -> Config | None:
        """Its routes, wherever they come from."""
        by_name = self.routes.get(at(manager, "rds.route_config_name") or "")
        found: Config | None = manager.get("route_config") or by_name
        return found

    def filter_of(self, manager: Config, name: str) -> Config | None:
        """The configuration of one of its filters, wherever it comes from."""
        own = next((each for each in filters_in(manager) if each.get("name") == name), {})
        found: Config | None = own.get("typed_config") or self.filters.get(name)
        return found


def found_in_files(documents: Iterable[Any]) -> Found:
    """What stands in a bootstrap and the files it names, each as YAML has it."""
    first, *included = list(documents)
    everything = [first, *included]
    is_bootstrap = isinstance(first, dict) and ("static_resources" in first or "dynamic_resources" in first)
    static = first.get("static_resources") or {} if is_bootstrap else {}
    return Found(
        bootstrap=first if is_bootstrap else {},
        listeners=[each for each in mappings(everything) if "filter_chains" in each],
        managers=list(of_type(everything, MANAGER)),
        clusters=_by_name([*(static.get("clusters") or ()), *of_type(everything, _CLUSTER)]),
        routes=_by_name(of_type(included, _ROUTES)),
        filters=_delivered(of_type(included, _FILTER)),
    )


def found_in_dump(dump: Any) -> Found:
    """What an Envoy has in force, as `/config_dump` tells it."""
    bootstrap: Config = next((each["bootstrap"] for each in mappings(dump) if "bootstrap" in each), {})
    listeners = [*_told(dump, "static_listeners", "listener"), *_told(dump, "dynamic_listeners", "listener")]
    return Found(
        bootstrap=bootstrap,
        listeners=listeners,
        managers=list(of_type(listeners, MANAGER)),
        clusters=_by_name(
            [*_told(dump, "static_clusters", "cluster"), *_told(dump, "dynamic_active_clusters", "cluster")]
        ),
        routes=_by_name(_told(dump, "dynamic_route_configs", "route_config")),
        filters=_delivered(_told(dump, "ecds_filters", "ecds_filter")),
        is_running=True,
    )


def _told(dump: Any, several: str, one: str) -> Iterator[Config]:
    """Of a dump's lists what is in force: no listener that warms up, or has been refused."""
    for section in dump.get("configs", ()):
        for entry in section.get(several, ()):
            in_force = entry.get("active_state", entry)
            if one in in_force:
                yield in_force[one]


def _by_name(found: Iterable[Config]) -> dict[str, Config]:
    return {str(each.get("name")): each for each in found}


def _delivered(found: Iterable[Config]) -> dict[str, Config]:
    return {name: each.get("typed_config") or {} for name, each in _by_name(found).items()}


def files_named(document: object) -> list[str]:
    """The files that a configuration has Envoy read, too."""
    named = (each["path_config_source"].get("path") for each in mappings(document) if "path_config_source" in each)
    return list(dict.fromkeys(str(path) for path in named))


def name_of(manager: Config) -> str:
    """Which of several connection managers it is."""
    return f"connection manager {manager.get('stat_prefix', '')}"


def filters_in(manager: Config) -> list[Config]:
    """The entries of a connection manager's chain, each by the name that lectr has for it."""
    chain = [each for each in manager.get("http_filters") or [] if isinstance(each, dict)]
    return [{**each, "name": EXT_PROC} if _ENVOY_GATEWAYS.fullmatch(str(each.get("name"))) else each for each in chain]


def of_type(value: object, type_url: str) -> Iterator[Config]:
    """Every message of a type, at any depth."""
    return (mapping for mapping in mappings(value) if mapping.get("@type") == type_url)


def mappings(value: object) -> Iterator[Config]:
    """Every mapping in a document, at any depth."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from mappings(item)


def at(value: Any, path: str) -> Any:
    """What is below some names, or None."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def includes(have: object, want: object) -> bool:
    """Whether a configuration says all that is wanted of it, and perhaps more, however it is written down."""
    if isinstance(want, dict):
        return isinstance(have, dict) and all(includes(have.get(name), value) for name, value in want.items())
    if isinstance(want, list):
        return isinstance(have, list) and all(any(includes(one, each) for one in have) for each in want)
    return plain(have) == plain(want) or (have is None and want in _UNSAID)


_UNSAID = (False, "NONE")
"What Envoy leaves out when it tells its configuration, because it is the default."


def plain(value: object) -> object:
    """`0.050s` is 0.05 and `"33554432"` is a number: Envoy tells its configuration in other words than it reads."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)s?", value)):
        return float(found[1])
    return value
