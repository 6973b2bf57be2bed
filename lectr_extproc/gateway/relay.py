"""How a call goes from one candidate to the next in an Envoy before 1.40, which takes no order of clusters with it.

All attempts go to one cluster, whose only endpoint is a listener inside Envoy: no socket, no port. That sends each on
to the cluster that lectr named when it made the attempt ready, with its TLS, its pools, its signing.
"""

from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.upstream import RELAY
from lectr_extproc.core.words import (
    CLUSTER_HEADER,
    RETRY_HEADER,
    SHAPE_HEADER,
    UNANSWERED_HEADER,
    Shape,
)
from lectr_extproc.gateway.filters import attempt_filters
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.text import fill, quote

_SHAPES: tuple[Shape, ...] = ("anthropic", "openai")


def relay_cluster(options: GatewayOptions) -> str:
    """The cluster that every attempt goes to first."""
    return fill(
        """
        name: $name
        type: STATIC
        # As of the providers' clusters.
        circuit_breakers:
          thresholds:
          - {max_connections: 50000, max_requests: 50000, max_pending_requests: 50000, max_retries: 50000}
        typed_extension_protocol_options:
          envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
            "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
            explicit_http_config: {http_protocol_options: {}}
            http_filters:
            $filters
            - name: envoy.filters.http.upstream_codec
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec
        load_assignment:
          cluster_name: $name
          endpoints: [{lb_endpoints: [{endpoint: {address: {envoy_internal_address: {server_listener_name: $name}}}}]}]
        """,
        name=RELAY,
        filters=attempt_filters(options),
    )


def relay_listener(options: GatewayOptions) -> str:
    """The listener inside Envoy, as an item of a list."""
    return fill(
        """
        # Inside Envoy, where nobody else can call it: each attempt at a call with several candidates passes here, on
        # its way to the cluster that lectr wrote into its header.
        - name: $name
          internal_listener: {}
          ignore_global_conn_limit: true  # these calls have been let in already
          per_connection_buffer_limit_bytes: $max_body_bytes
          filter_chains:
          - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/$manager
                stat_prefix: $name
                # What a request and an answer are is settled by the first pass: the second changes nothing of them.
                skip_xff_append: true
                scheme_header_transformation: {match_upstream: true}
                server_header_transformation: PASS_THROUGH
                max_request_headers_kb: 96  # 60 of the client's, and the provider's key
                stream_idle_timeout: 0s  # the first pass bounds the wait, as all others do
                delayed_close_timeout: 0s  # an answer that breaks off is told at once, and not after a second
                http_filters:
                - name: envoy.filters.http.router
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                    suppress_envoy_headers: true
                route_config:
                  name: $name
                  virtual_hosts:
                  - name: $name
                    domains: ["*"]
                    routes:
                    $routes
                # A provider that cannot be asked is another candidate's turn. What the last one's client reads is this.
                local_reply_config:
                  mappers:
                  $mappers
        """,
        name=RELAY,
        manager="envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        max_body_bytes=str(options.max_body_bytes),
        routes="".join(map(_route, _SHAPES)),
        mappers="".join(map(_mapper, _SHAPES)),
    )


def bootstrap_extensions() -> str:
    """What a bootstrap has to have for it."""
    return fill(
        """
        bootstrap_extensions:  # without it no listener is inside Envoy
        - name: envoy.bootstrap.internal_listener
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener
        """
    )


def _route(shape: Shape) -> str:
    """Its name says whose SDK asks: when Envoy answers itself, the header that said so is gone."""
    return fill(
        """
        - name: $name
          match: {prefix: /, headers: [{name: $shape_header, string_match: {exact: $shape}}]}
          route: {cluster_header: $cluster, timeout: 0s, idle_timeout: 0s}
          request_headers_to_remove: [$cluster, $shape_header, x-forwarded-proto]
          response_headers_to_remove: [$unanswered, $retry]  # a provider has no say in them
        """,
        name=f"{RELAY}_{shape}",
        shape=shape,
        shape_header=SHAPE_HEADER,
        cluster=CLUSTER_HEADER,
        unanswered=UNANSWERED_HEADER,
        retry=RETRY_HEADER,
    )


def _mapper(shape: Shape) -> str:
    refusal = REFUSALS["provider_unreachable"]
    return fill(
        """
        - filter:
            extension_filter:
              name: envoy.access_loggers.extension_filters.cel
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter
                expression: xds.route_name == '$route'
          status_code: $status
          headers_to_add: [{header: {key: $unanswered, value: "1"}}]
          body_format_override:
            content_type: application/json
            text_format_source: {inline_string: $body}
        """,
        route=f"{RELAY}_{shape}",
        unanswered=UNANSWERED_HEADER,
        status=str(refusal.status),
        body=quote(refusal.body(shape).decode()),
    )
