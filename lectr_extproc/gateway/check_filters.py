"""The HTTP filters of a connection manager, by comparison with those that lectr renders."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from lectr_extproc.gateway.filters import AI_PROTOCOL_MANAGER, EXT_PROC, FALLBACK, JSON_TO_METADATA
from lectr_extproc.gateway.finding import Finding, Severity, error, lines, warning
from lectr_extproc.gateway.found import Config, Found, at, filters_in, includes, name_of

_SEE = "docs/doctor.md#the-filters"

_BREAKS: Mapping[str, str] = {
    JSON_TO_METADATA: "lectr does not know the model",
    FALLBACK: "a `fallback` in the body of a call that pins its model goes to the provider, and nobody else is asked",
    EXT_PROC: "no call is decided",
    AI_PROTOCOL_MANAGER: "Envoy counts no tokens, and lectr relies on it",
}

_FIELDS: Mapping[str, Mapping[str, tuple[Severity, str]]] = {
    EXT_PROC: {
        "grpc_service.envoy_grpc": ("error", "it is not lectr that is asked"),
        "grpc_service.timeout": ("error", "a long answer that lectr reads is cut"),
        "grpc_service.retry_policy": ("warning", "each restart of lectr costs calls"),
        "failure_mode_allow": (
            "error",
            "a lectr that goes down breaks answers on their way, and calls get an empty 500",
        ),
        "processing_mode": (
            "error",
            "calls are held, or lectr does not hear of them, or pays for what it does not need",
        ),
        "allow_mode_override": ("error", "lectr never gets the bodies and answers that it has to read or change"),
        "mutation_rules": ("error", "what lectr writes is dropped in silence: providers get calls for the wrong host"),
        "metadata_options.forwarding_namespaces": ("error", "lectr does not know the model"),
        "metadata_options.receiving_namespaces": (
            "error",
            "what lectr decides is dropped in silence: every call gets 503",
        ),
        "max_message_timeout": ("warning", "a provider's pause within an event lets the usage chunk through"),
        "request_attributes": ("error", "lectr does not know whose certificate a call came with"),
    },
    JSON_TO_METADATA: {
        "request_rules.rules": ("error", "lectr does not know what a call asks for"),
        "request_rules.allow_content_types_regex": ("warning", "`application/json; charset=utf-8` carries no model"),
    },
    FALLBACK: {"default_source_code": ("error", _BREAKS[FALLBACK])},
    AI_PROTOCOL_MANAGER: {
        "response_handling": ("error", _BREAKS[AI_PROTOCOL_MANAGER]),
    },
}
"What a filter must say as lectr renders it, or more."

_NEVER: Mapping[str, Mapping[str, str]] = {
    EXT_PROC: {
        "observability_mode": "no reply of lectr's counts",
        "disable_clear_route_cache": "no call finds its provider",
        "disable_immediate_response": "calls without a good key are not refused by lectr",
        "send_body_without_waiting_for_header_response": "lectr cannot ask for what it needs",
        "allowed_override_modes": "what lectr asks for is ignored in silence where it is not listed",
    },
    AI_PROTOCOL_MANAGER: {"default_llm_protocol": "answers of every other API are read wrong"},
}


def is_shared(manager: Config) -> bool:
    """Whether it serves others' hosts, too, and asks lectr for one of them: then most of what it says is theirs."""
    return any(each.get("name") == EXT_PROC and each.get("disabled") for each in filters_in(manager))


def check_filters(found: Found, manager: Config, wanted: Found, model: Config) -> Iterator[Finding]:
    """Which are missing, in the wrong order, or say something else."""
    where = name_of(manager)
    present = [str(each.get("name")) for each in filters_in(manager)]
    names = [str(each["name"]) for each in filters_in(model)][:-1]  # the last is the router
    for name in names:
        if name not in present:
            do = lines([{"name": name, "typed_config": wanted.filter_of(model, name)}], "http_filters")
            yield error(f"{where}: no filter {name}", _BREAKS[name], do, _SEE)
    if [name for name in present if name in names] != [name for name in names if name in present]:
        why, do = "each uses what the one before it found", f"put them in the order {', '.join(names)}"
        yield error(f"{where}: the filters are in another order", why, do, _SEE)
    for name in names:
        own, right = found.filter_of(manager, name), wanted.filter_of(model, name) or {}
        if own is not None:
            # On a listener that is shared the host stays as it is until the routes were read (gateway/shared.py).
            yield from _fields(where, name, own, right, {"mutation_rules"} if is_shared(manager) else set())
        elif name in present and found.is_running:
            why, do = (
                f"{_BREAKS[name]}: Envoy waits, and drops calls",
                "see why, in Envoy's log: a file is missing or refused",
            )
            yield error(f"{where}: the configuration of filter {name} has not arrived", why, do, _SEE)
    for upgrade in () if is_shared(manager) else manager.get("upgrade_configs") or ():  # there our routes refuse them
        if (
            upgrade.get("upgrade_type") == "websocket"
            and present
            and EXT_PROC not in [each.get("name") for each in upgrade.get("filters") or ()]
        ):
            why = "a filter that waits for a body hangs each WebSocket, and without lectr none has a provider"
            yield warning(
                f"{where}: the websocket upgrade has no filters of its own",
                why,
                "take upgrade_configs from hcm.yaml",
                _SEE,
            )


def _fields(where: str, name: str, own: Config, right: Config, others: AbstractSet[str]) -> Iterator[Finding]:
    for field, (severity, breaks) in _FIELDS[name].items():
        value = at(right, field)
        if field not in others and value is not None and not includes(at(own, field), value):
            what = f"{where}: filter {name}: {field} is {'missing' if at(own, field) is None else 'another'}"
            yield Finding(severity=severity, what=what, why=breaks, do=lines(value, *field.split(".")), see=_SEE)
    for field, breaks in _NEVER.get(name, {}).items():
        if own.get(field):
            yield error(f"{where}: filter {name}: {field} is set", breaks, f"take `{field}` away", _SEE)
    yield from _hasty(where, name, own)


def _hasty(where: str, name: str, own: Config) -> Iterator[Finding]:
    """Its own settings may be stricter than ours, or more patient; only the default is known to break calls."""
    if name == EXT_PROC and own.get("message_timeout") is None:
        why = "the default of 200 ms turns one pause into a failed call"
        yield warning(f"{where}: filter {name}: message_timeout is missing", why, "message_timeout: 2s", _SEE)
