"""Whole files: one static bootstrap, or the include files and a bootstrap that reads them."""

from collections.abc import Iterable
from dataclasses import replace
from textwrap import indent

from lectr_extproc.core.upstream import Upstream
from lectr_extproc.gateway.clusters import clusters
from lectr_extproc.gateway.connection_manager import connection_manager
from lectr_extproc.gateway.filters import TYPES, filters
from lectr_extproc.gateway.options import GatewayOptions, ServerTls
from lectr_extproc.gateway.relay import bootstrap_extensions, relay_listener
from lectr_extproc.gateway.routes import NAME, route_configuration
from lectr_extproc.gateway.text import address, fill, quote

_CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
_ROUTES_TYPE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
_CONNECTIONS_TYPE = (
    "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
)
_FILTER_TYPE = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

_RENDERED = "# Rendered by `lectr envoy render`; change lectr.yaml, not this file.\n"


def render_bootstrap(options: GatewayOptions, upstreams: Iterable[Upstream]) -> str:
    """Everything in one static file: `envoy -c` runs it, `--mode validate` checks it (it skips included files)."""
    chain = {name: _item("typed_config", name, config) for name, config in filters(options).items()}
    routes = "route_config:\n" + indent(route_configuration(options), "  ")
    return _RENDERED + _bootstrap(
        options,
        manager=connection_manager(options, chain=chain, routes=routes),
        clusters="".join(_listed(cluster) for cluster in clusters(options, upstreams)),
    )


def render_includes(options: GatewayOptions, upstreams: Iterable[Upstream]) -> dict[str, str]:
    """File name → text. Envoy reads all but hcm.yaml, and again when they change; hcm.yaml is for people."""
    return {
        "cds.yaml": _resources(_CLUSTER_TYPE, clusters(options, upstreams)),
        "rds.yaml": _resources(_ROUTES_TYPE, [route_configuration(options)]),
        # One file per filter: Envoy refuses a file that holds more than the filter it reads it for.
        **{
            _ecds(name): _resources(_FILTER_TYPE, [f"name: {name}\ntyped_config:\n" + indent(config, "  ")])
            for name, config in filters(options).items()
        },
        "hcm.yaml": _RENDERED + _hcm(options),
    }


def render_include_bootstrap(options: GatewayOptions, directory: str) -> str:
    """A bootstrap that reads the include files from a directory, and again whenever one is replaced."""
    options = replace(options, include_directory=directory)
    return _RENDERED + _bootstrap(options, manager=_including_manager(options), clusters="")


def render_all(options: GatewayOptions, upstreams: Iterable[Upstream]) -> dict[str, str]:
    """Path below `envoy/` → text: everything there is for one profile."""
    upstreams = list(upstreams)
    return {
        f"{options.profile}/bootstrap.yaml": render_bootstrap(options, upstreams),
        f"{options.profile}/include.yaml": render_include_bootstrap(options, options.include_directory),
        **{f"{options.profile}/include/{name}": text for name, text in render_includes(options, upstreams).items()},
    }


def _body_limit(options: GatewayOptions) -> str:
    """The listener's part in letting large bodies through."""
    if options.profile == "native":
        return ""
    return fill(
        """
        # Envoy 1.36 does not look at the virtual host's request_body_buffer_limit: without this, 413 above 1 MiB.
        per_connection_buffer_limit_bytes: $max_body_bytes
        """,
        max_body_bytes=str(options.max_body_bytes),
    )


def _including_manager(options: GatewayOptions) -> str:
    chain = {
        name: _item(
            "config_discovery", name, f"config_source: {_from_file(options, _ecds(name))}\ntype_urls: [{TYPES[name]}]\n"
        )
        for name in filters(options)
    }
    routes = f"rds:\n  route_config_name: {NAME}\n  config_source: {_from_file(options, 'rds.yaml')}\n"
    return connection_manager(options, chain=chain, routes=routes)


def _hcm(options: GatewayOptions) -> str:
    """For people: what the connection manager of an Envoy of their own needs, and breaks without."""
    limit = _body_limit(options)
    listener = f"# For the listener:\n{indent(limit, '# ')}\n" if limit else ""
    return listener + "# For the HTTP connection manager:\n" + _including_manager(options) + _beside(options)


def _beside(options: GatewayOptions) -> str:
    """What a bootstrap of their own needs besides."""
    if not options.relays:
        return ""
    return (
        "# For the list of listeners, without which calls with several candidates get 503:\n"
        + indent(relay_listener(options), "# ", lambda _: True)
        + "# For the bootstrap:\n"
        + indent(bootstrap_extensions(), "# ")
    )


def _bootstrap(options: GatewayOptions, *, manager: str, clusters: str) -> str:
    return fill(
        """
        node: {id: lectr, cluster: lectr}  # Envoy asks for both as soon as it reads a file that can change
        admin:
          address: $admin
        # Envoy serves once it has looked up every name. Where no answer comes it gives up after a minute by default,
        # and every other provider waits with it. With this it gives up after six seconds, and asks again every five.
        typed_dns_resolver_config:
          name: envoy.network.dns_resolver.cares
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
            query_timeout_seconds: 1
            query_tries: 3
        static_resources:
          listeners:
          - name: lectr
            address: $listen
            $body_limit
            filter_chains:
            - filters:
              - name: envoy.filters.network.http_connection_manager
                typed_config:
                  $manager
              $tls
          $relay
          $clusters
        $dynamic
        $extensions
        overload_manager:
          resource_monitors:
          # Each call may hold a body of $max_body_bytes bytes before its key is checked: refuse before memory ends.
          - name: envoy.resource_monitors.fixed_heap
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig
              max_heap_size_bytes: $max_heap_bytes
          - name: envoy.resource_monitors.global_downstream_max_connections
            typed_config:
              "@type": $connections_type
              max_active_downstream_connections: $max_connections
          actions:
          - name: envoy.overload_actions.shrink_heap
            triggers: [{name: envoy.resource_monitors.fixed_heap, threshold: {value: 0.9}}]
          - name: envoy.overload_actions.stop_accepting_requests
            triggers: [{name: envoy.resource_monitors.fixed_heap, threshold: {value: 0.95}}]
        """,
        admin=address(options.admin),
        connections_type=_CONNECTIONS_TYPE,
        listen=address(options.listen),
        body_limit=_body_limit(options),
        tls=_tls(options.tls) if options.tls else "",
        manager=manager,
        relay=relay_listener(options) if options.relays else "",
        extensions=bootstrap_extensions() if options.relays else "",
        clusters="clusters:\n" + clusters if clusters else "",
        dynamic="" if clusters else f"dynamic_resources:\n  cds_config: {_from_file(options, 'cds.yaml')}\n",
        max_body_bytes=str(options.max_body_bytes),
        max_heap_bytes=str(options.max_heap_bytes),
        max_connections=str(options.max_connections),
    )


def _tls(tls: ServerTls) -> str:
    return fill(
        """
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
            common_tls_context:
              alpn_protocols: [h2, http/1.1]
              tls_certificates: [{certificate_chain: {filename: $cert}, private_key: {filename: $key}}]
              $validation
        """,
        cert=quote(tls.cert),
        key=quote(tls.key),
        validation="# A client may show a certificate, which must be good then; one that shows none needs a key.\n"
        f"validation_context: {{trusted_ca: {{filename: {quote(tls.client_ca)}}}}}\n"
        if tls.client_ca
        else "",
    )


def _resources(type_url: str, resources: Iterable[str]) -> str:
    return _RENDERED + "resources:\n" + "".join(_listed(f'"@type": {type_url}\n{resource}') for resource in resources)


def _listed(block: str) -> str:
    """A mapping as the item of a list."""
    return "- " + indent(block, "  ").removeprefix("  ")


def _item(kind: str, name: str, config: str) -> str:
    return f"- name: {name}\n  {kind}:\n" + indent(config, "    ")


def _ecds(name: str) -> str:
    return f"ecds-{name}.yaml"


def _from_file(options: GatewayOptions, name: str) -> str:
    directory = options.include_directory
    return (
        f"{{resource_api_version: V3, path_config_source: {{path: {quote(f'{directory}/{name}')},"
        f" watched_directory: {{path: {quote(directory)}}}}}}}"
    )
