"""The HTTP connection manager: what cannot travel in routes, clusters or filters."""

from collections.abc import Mapping
from textwrap import indent

from lectr_extproc.core.identity import XFCC
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.spool import FORMAT, NATIVE_FORMAT
from lectr_extproc.core.words import NAMESPACE, Shape
from lectr_extproc.gateway.filters import UPGRADE_FILTERS, filters, grpc_service
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.routes import ANTHROPIC_PATHS
from lectr_extproc.gateway.text import fill, quote, seconds

CALL_LOG = "lectr"
ATTEMPT_LOG = "lectr_attempt"


def connection_manager(options: GatewayOptions, *, chain: Mapping[str, str], routes: str) -> str:
    """Its fields. `chain` holds each filter as a list item, by name; `routes` says where the routes come from."""
    router = _router(options)
    return fill(
        """
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: lectr
        # Without it a client tells Envoy, by x-envoy-* headers, to retry its call or to cut it, and x-forwarded-*
        # headers travel on to the provider. Never the prefix x-lectr-: it would take the client's X-Lectr-Key along.
        early_header_mutation_extensions:
        - name: lectr_no_client_control
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
            mutations:
            - {remove_on_match: {key_matcher: {prefix: x-envoy-}}}
            - {remove_on_match: {key_matcher: {prefix: x-forwarded-}}}
        # Without it a client names itself in the log, by x-forwarded-for. Behind a proxy of yours, keep what you have.
        use_remote_address: true
        $client_cert
        skip_xff_append: true  # without it the client's address is written into x-forwarded-for
        preserve_external_request_id: true  # without it the client's own x-request-id is replaced
        # Without it the provider reads `:scheme: http` over HTTP/2, since that is how the client called us.
        scheme_header_transformation: {match_upstream: true}
        # Without it the client reads `server: envoy` in place of the provider's.
        server_header_transformation: PASS_THROUGH
        # Without it `/v1/../x` reaches lectr and the provider as it is, past whatever prefix lectr chose. `%2F` stays:
        # it stands inside model names.
        normalize_path: true
        # Without it a base URL that ends in a slash makes `/v1//chat/completions`, which no provider knows.
        merge_slashes: true
        # Without it a client that sends its headers slowly holds a connection for as long as it likes.
        request_headers_timeout: 30s
        # Without it WebSockets (OpenAI's Realtime API) get 403.
        upgrade_configs:
        - upgrade_type: websocket
          filters:  # their own list: there is no body to read, and a filter that waits for one hangs the upgrade
          $upgrade_filters
          $router
        http_filters:
        $filters
        $router_again
        $routes
        $local_replies
        # Without it there are no records: an entry carries the decision, the usage and all timings of a call.
        access_log:
        $access_log
        """,
        upgrade_filters="".join(chain[name] for name in UPGRADE_FILTERS),
        client_cert=_CLIENT_CERT if options.identity == XFCC else "",
        router=router,
        filters="".join(chain[name] for name in filters(options)),
        router_again=router,
        routes=routes,
        local_replies=local_replies(options),
        access_log=call_log(options),
    )


def call_log(options: GatewayOptions) -> str:
    """The access log that records are made of, as a list of one."""
    return _spool(options.spool, options) if options.spool else _logger(CALL_LOG, options, filter_="")


_CLIENT_CERT = """\
# Without these a client writes its own identity, or has none. Whatever it sends is replaced by its certificate's.
forward_client_cert_details: SANITIZE_SET
set_current_client_cert_details: {uri: true}
"""


def _router(options: GatewayOptions) -> str:
    return fill(
        """
        - name: envoy.filters.http.router
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
            suppress_envoy_headers: true  # without it provider and client get x-envoy-* headers
            upstream_log:  # without it nobody knows why an attempt failed
            $logger
        """,
        logger=_logger(ATTEMPT_LOG, options, filter_=_FAILED),
    )


_FAILED = """\
# One that went well is told by its call, and costs nothing here. A timeout has neither a status nor a flag.
filter:
  or_filter:
    filters:
    - status_code_filter: {comparison: {op: GE, value: {default_value: 400, runtime_key: lectr.attempt_failed}}}
    - status_code_filter: {comparison: {op: EQ, value: {default_value: 0, runtime_key: lectr.attempt_unanswered}}}
    - response_flag_filter: {}
"""


def _logger(name: str, options: GatewayOptions, *, filter_: str) -> str:
    return fill(
        """
        - name: $name
          $filter
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
            common_config:
              log_name: $name
              transport_api_version: V3
              grpc_service:
                $grpc_service
              buffer_flush_interval: $flush
              buffer_size_bytes: 65536  # larger batches: lectr writes each in one transaction
              # Saves some entries of the moment lectr restarts. What is sent while nobody listens is lost all the same:
              # let the new lectr start before the old one stops.
              grpc_stream_retry_policy: {num_retries: 10, retry_back_off: {base_interval: 0.1s, max_interval: 2s}}
            # No additional_request_headers_to_log: lectr reads none, and a credential's would carry the provider's key.
        """,
        name=name,
        filter=filter_,
        grpc_service=grpc_service(),
        flush=seconds(options.access_log_flush_s),
    )


def _spool(file: str, options: GatewayOptions) -> str:
    fields = {**FORMAT, **(NATIVE_FORMAT if options.profile == "native" else {})}
    return fill(
        """
        - name: $name
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
            # One file per Envoy, that lectr reads and keeps small. Start Envoy with --file-flush-interval-msec 500: the
            # default keeps a call from its record for 10 s, and a killed Envoy loses what waits.
            path: $file
            log_format:
              json_format:  # no header with a credential, and no query
                $fields
        """,
        name=CALL_LOG,
        file=quote(file),
        fields="".join(f"{name}: {quote(operator)}\n" for name, operator in fields.items()),
    )


# --- what Envoy answers itself ----------------------------------------------------------------------------------------
# Lectr's own refusals, and any other filter's, come through here too and must match no mapper. A provider's never do.


def _details(words: str) -> str:
    """By Envoy's own words for what happened. A status would not do: lectr's refusals have the same ones."""
    return fill(
        """
        - extension_filter:
            name: envoy.access_loggers.extension_filters.cel
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter
              expression: response.code_details == '$words'
        """,
        words=words,
    )


_TOO_LARGE = _details("request_payload_too_large")
_UNDECIDED = "- or_filter:\n    filters:\n" + indent(
    "- response_flag_filter: {flags: [UH, NC]}\n" + _details("overload"), "    "
)
_TIMED_OUT = "- response_flag_filter: {flags: [UT, SI, DT, UMSDR]}\n"
_UNREACHABLE = "- response_flag_filter: {flags: [UF, UC, UR, LR, UPE, UH, NC, UO, URX, DF]}\n"


def _metadata(key: str, value: str) -> str:
    return (
        f"- metadata_filter: {{matcher: {{filter: {NAMESPACE}, path: [{{key: {key}}}], value: {{{value}}}}},"
        " match_if_key_not_found: false}\n"
    )


def _path(match: str) -> str:
    return f'- header_filter: {{header: {{name: ":path", string_match: {{prefix: {ANTHROPIC_PATHS}}}{match}}}}}\n'


# Before the decision the path says whose SDK is asking; afterwards lectr has said so, and the path may be a provider's.
_BY_PATH: Mapping[Shape, str] = {"anthropic": _path(""), "openai": _path(", invert_match: true")}
_GUARDED = _details("lua_response") + _metadata("attempts", "present_match: true")
_ROUTED = _metadata("routed", "present_match: true")
_BY_DECISION: Mapping[Shape, str] = {
    "anthropic": _ROUTED + _metadata("shape", "string_match: {exact: anthropic}"),
    "openai": _ROUTED,
}


def local_replies(options: GatewayOptions) -> str:
    """Fields of the connection manager: what Envoy answers itself, in words that SDKs understand."""
    return fill(
        """
        # Without it Envoy's own answers are plain text that names connections and certificates; no SDK understands it.
        # The first match counts. No global format: it would wrap lectr's own answers too.
        local_reply_config:
          mappers:
          $mappers
        """,
        mappers="".join(
            _mapper(code, condition + conditions, shape)
            for code, condition, by in (
                ("request_too_large", _TOO_LARGE, _BY_PATH),
                ("provider_timeout", _TIMED_OUT, _BY_DECISION),
                ("provider_unreachable", _UNREACHABLE, _BY_DECISION),
                *[("gateway_unavailable", _GUARDED, _BY_DECISION)][: options.fails_over],
                ("gateway_unavailable", _UNDECIDED, _BY_PATH),
            )
            for shape, conditions in by.items()
        ),
    )


def _mapper(code: str, conditions: str, shape: Shape) -> str:
    refusal = REFUSALS[code]
    return fill(
        """
        - filter:
            and_filter:
              filters:
              $conditions
          status_code: $status
          body_format_override:
            content_type: application/json
            text_format_source: {inline_string: $body}
        """,
        conditions=conditions,
        status=str(refusal.status),
        body=quote(refusal.body(shape).decode()),
    )
