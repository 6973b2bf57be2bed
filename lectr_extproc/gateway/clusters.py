"""The clusters: lectr itself, the one that leads nowhere, and one per upstream."""

from collections.abc import Iterable

from lectr_extproc.core.upstream import ATTEMPT_SUFFIX, UPGRADE_SUFFIX, Signing, Upstream
from lectr_extproc.gateway.filters import CLUSTER, attempt_filters
from lectr_extproc.gateway.options import GatewayOptions, LectrTls, worker_address
from lectr_extproc.gateway.relay import relay_cluster
from lectr_extproc.gateway.routes import UNROUTED
from lectr_extproc.gateway.text import address, fill, needs_dns, quote, seconds, without_comments

_STRICT_DNS = fill(
    """
    cluster_type:
      name: envoy.clusters.dns
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
        dns_lookup_family: V4_PREFERRED  # the default takes IPv6 alone where a name has both, as localhost does
    """
)


def clusters(options: GatewayOptions, upstreams: Iterable[Upstream]) -> list[str]:
    """Each cluster's fields, unique by name: upstreams that differ only in their path share one."""
    rendered = [_lectr(options), _unrouted()]
    if options.relays:
        rendered.append(relay_cluster(options))
    by_name = {upstream.cluster: upstream for upstream in upstreams}
    for number, upstream in enumerate(by_name.values()):
        kinds = ("", UPGRADE_SUFFIX, ATTEMPT_SUFFIX) if options.profile == "native" else ("", UPGRADE_SUFFIX)
        of_one = [_provider(upstream, options, kind) for kind in kinds]
        rendered += of_one if number == 0 else map(without_comments, of_one)
    return rendered


ROOM_BYTES = 256 * 1024 * 1024
"What may wait to be sent to lectr. The bodies are in memory anyway: they are held for the attempts."


def _lectr(options: GatewayOptions) -> str:
    host, is_socket = options.lectr.rpartition(":")[0], options.lectr.startswith("unix:")
    return fill(
        """
        name: $name
        $discovery
        connect_timeout: 0.25s  # retried within the message timeout
        typed_extension_protocol_options:
          envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
            "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
            explicit_http_config:  # gRPC
              http2_protocol_options: {initial_stream_window_size: $room, initial_connection_window_size: $room}
        # More than the bodies on their way to lectr. With less (the default is 1 MiB) Envoy tells the call to wait, and
        # where that call has ended or goes on to its next candidate meanwhile, Envoy crashes (1.36 and 1.40).
        per_connection_buffer_limit_bytes: $room
        # The defaults of 1024 refuse decisions long before lectr is busy.
        circuit_breakers:
          thresholds:
          - {max_connections: 50000, max_requests: 50000, max_pending_requests: 50000, max_retries: 50000}
        # Of several lectrs the one that drains gets no new calls. A single one is called even while this says no.
        health_checks:
        - grpc_health_check: {}
          interval: 1s
          no_traffic_interval: 1s  # the default of 60 s finds a restarted lectr late
          timeout: 1s
          unhealthy_threshold: 2
          healthy_threshold: 1
        $tls
        load_assignment:
          cluster_name: $name
          endpoints: [{lb_endpoints: [$endpoints]}]
        """,
        name=CLUSTER,
        room=str(ROOM_BYTES),
        discovery=_STRICT_DNS if not is_socket and needs_dns(host) else "type: STATIC\n",
        tls=_lectr_tls(options.lectr_tls) if options.lectr_tls else "",
        # One for each process: Envoy has few connections to an address, and each ends at one process.
        endpoints=", ".join(
            f"{{endpoint: {{address: {address(worker_address(options.lectr, worker))}}}}}"
            for worker in range(options.workers)
        ),
    )


def _lectr_tls(tls: LectrTls) -> str:
    return fill(
        """
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
            sni: $server_name
            common_tls_context:
              alpn_protocols: [h2]  # a gRPC server refuses TLS without it
              $certificate
              validation_context:
                trusted_ca: {filename: $ca}
                match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: $server_name}}]
        """,
        server_name=quote(tls.server_name),
        ca=quote(tls.ca),
        certificate=(
            f"tls_certificates: [{{certificate_chain: {{filename: {quote(tls.cert)}}},"
            f" private_key: {{filename: {quote(tls.key)}}}}}]\n"
            if tls.cert and tls.key
            else ""
        ),
    )


def _unrouted() -> str:
    return fill(
        """
        name: $name
        type: STATIC
        load_assignment: {cluster_name: $name}  # no endpoints, on purpose
        """,
        name=UNROUTED,
    )


def _provider(upstream: Upstream, options: GatewayOptions, kind: str) -> str:
    by_alpn = upstream.scheme == "https" and kind != UPGRADE_SUFFIX
    return fill(
        """
        name: $name
        $discovery
        connect_timeout: $connect_timeout
        # The defaults of 1024 (retries: 3) refuse calls in a crowd; the listener's connection and heap limits bound us.
        circuit_breakers:
          thresholds:
          - {max_connections: 50000, max_requests: 50000, max_pending_requests: 50000, max_retries: 50000}
        # A model may think for minutes without a byte: a NAT or firewall on the way must not forget the connection.
        upstream_connection_options: {tcp_keepalive: {keepalive_time: 30, keepalive_interval: 10, keepalive_probes: 3}}
        typed_extension_protocol_options:
          envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
            "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
            # Ours to close, before the provider does (load balancers: 60 s and more): a call sent on a connection that
            # is being closed fails, and is not sent again.
            common_http_protocol_options: {idle_timeout: 55s}
            $protocol
            $filters
        load_assignment:
          cluster_name: $name
          endpoints: [{lb_endpoints: [{endpoint: {address: $address}}]}]
        $tls
        """,
        name=quote(upstream.cluster + kind),
        discovery=_discovery(upstream),
        connect_timeout=seconds(options.connect_timeout_s),
        protocol=_by_alpn() if by_alpn else _h1(),
        filters=_filters(upstream, options, kind),
        address=f"{{socket_address: {{address: {quote(upstream.host)}, port_value: {upstream.port}}}}}",
        tls=_provider_tls(upstream, options) if upstream.scheme == "https" else "",
    )


def _discovery(upstream: Upstream) -> str:
    if not needs_dns(upstream.host):
        return "type: STATIC\n"
    return fill(
        """
        cluster_type:
          name: envoy.clusters.dns
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster
            # Providers answer each lookup with other addresses: kept apart, each change would close connections.
            all_addresses_in_single_endpoint: true
            dns_lookup_family: ALL  # happy eyeballs; the default takes IPv6 alone where a name has both
            respect_dns_ttl: true  # the default asks every 5 s
        """
    )


def _by_alpn() -> str:
    return fill(
        """
        auto_config:  # HTTP/2 where the provider speaks it: a call finds a warm connection instead of a TLS handshake
          http_protocol_options: {}
          http2_protocol_options:
            connection_keepalive: {interval: 30s, timeout: 10s}  # many calls share a connection: find a dead one soon
        """
    )


def _h1() -> str:
    return "explicit_http_config: {http_protocol_options: {}}\n"


def _filters(upstream: Upstream, options: GatewayOptions, kind: str) -> str:
    """What each attempt at a call passes, below the router."""
    chain = attempt_filters(options) if kind == ATTEMPT_SUFFIX else ""
    # It would wait for the end of a body, which an upgraded connection does not have.
    chain += _signing(upstream.signing) if upstream.signing and kind != UPGRADE_SUFFIX else ""
    return chain and fill(
        """
        http_filters:
        $chain
        - name: envoy.filters.http.upstream_codec
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec
        """,
        chain=chain,
    )


def _signing(signing: Signing) -> str:
    return fill(
        """
        # Of the cluster, not of the listener: what is signed is the request as it leaves, after lectr's changes. It
        # holds each body for its hash, within the limit that bodies have anyway. Without credentials calls go unsigned.
        - name: envoy.filters.http.aws_request_signing
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.aws_request_signing.v3.AwsRequestSigning
            service_name: $service
            region: $region
            $credentials
        """,
        service=quote(signing.service),
        region=quote(signing.region),
        credentials=_credentials(signing.credentials_file, signing.profile) if signing.credentials_file else "",
    )


def _credentials(file: str, profile: str | None) -> str:
    return fill(
        """
        credential_provider:
          custom_credential_provider_chain: true  # these or none: a missing file must not bring in anyone else's
          credentials_file_provider:
            credentials_data_source: {filename: $file, watched_directory: {path: $directory}}
            $profile
        """,
        file=quote(file),
        directory=quote(file.rpartition("/")[0] or "/"),
        profile=f"profile: {quote(profile)}\n" if profile else "",
    )


def _provider_tls(upstream: Upstream, options: GatewayOptions) -> str:
    san = "DNS" if needs_dns(upstream.host) else "IP_ADDRESS"
    return fill(
        """
        transport_socket:
          name: envoy.transport_sockets.tls
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
            $sni
            common_tls_context:
              validation_context:
                trusted_ca: {filename: $ca}
                # Without it any certificate of any trusted CA would do, and get the key.
                match_typed_subject_alt_names: [{san_type: $san, matcher: {exact: $host}}]
        """,
        sni=f"sni: {quote(upstream.host)}\n" if san == "DNS" else "",
        ca=quote(options.trusted_ca),
        san=san,
        host=quote(upstream.host),
    )
