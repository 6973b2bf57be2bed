"""The virtual host: who is turned away at the door, the one route to a provider, and the one for everything else."""

from lectr_extproc.core.credential import HEADERS, Form
from lectr_extproc.core.identity import XFCC
from lectr_extproc.core.refusal import REFUSALS
from lectr_extproc.core.upstream import RELAY
from lectr_extproc.core.words import (
    CLIENT_CERTIFICATE,
    CLUSTER_HEADER,
    KEY_HEADER,
    NAMESPACE,
    ORDER_NAMESPACE,
    RETRY_HEADER,
    UNANSWERED_HEADER,
    Shape,
)
from lectr_extproc.gateway.filters import filters
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.text import fill, quote, seconds

NAME = "lectr"
"Of the route configuration and of its virtual host."

UNROUTED = "lectr_unrouted"
"A cluster without endpoints: where a call goes that lectr has not decided on."

ANTHROPIC_PATHS = "/v1/messages"

_WELL_FORMED = r"lc_key_[\w-]{16,}"
"""Looser than core.decision.WELL_FORMED_KEY, because Envoy 1.36 refuses the larger program of {16,128}."""


def _are_keys(regex: str) -> str:
    # Envoy joins several headers with a comma; whether two keys are one too many is for lectr to say.
    return f"string_match: {{safe_regex: {{regex: {quote(f'({regex},? ?)+')}}}}}"


_ILL_FORMED = f"- {{name: {KEY_HEADER}, {_are_keys(_WELL_FORMED)}, invert_match: true}}\n"
_MISSING = f"- {{name: {KEY_HEADER}, present_match: true, invert_match: true}}\n" + "".join(
    # An absent header matches nothing, not even inverted, unless it counts as empty.
    f"- {{name: {form}, {_are_keys('(?i:bearer) +' * (form is Form.BEARER) + _WELL_FORMED)}, "
    "invert_match: true, treat_missing_header_as_empty: true}\n"
    for form in HEADERS
)
"No X-Lectr-Key, and no key of ours where a client that knows one key only would put it."


_UNKNOWN = {
    XFCC: f"- {{name: {CLIENT_CERTIFICATE}, present_match: true, invert_match: true}}\n",
    "connection.uri_san_peer_certificate": "tls_context: {presented: false}\n",
}
"Nor a client certificate, by who tells of it."


def route_configuration(options: GatewayOptions) -> str:
    """The fields of a RouteConfiguration."""
    doors = (
        _turn_away("missing_lectr_key", _MISSING, "anthropic", options),
        _turn_away("missing_lectr_key", _MISSING, "openai", options),
        _turn_away("invalid_lectr_key", _ILL_FORMED, "anthropic", options),
        _turn_away("invalid_lectr_key", _ILL_FORMED, "openai", options),
    )
    return fill(
        """
        name: $name
        virtual_hosts:
        - name: $name
          domains: ["*"]
          # Prompts with images pass the default of 1 MiB, and json_to_metadata holds the whole body: 413 above this.
          # It counts only where the route a call meets first has a route action: hence the cluster without endpoints.
          request_body_buffer_limit: $max_body_bytes
          routes:
          $attempted
          $chosen
          $routed
          # A gateway is no proxy. No prefix matches a CONNECT, whose body would be held before anyone asks for a key;
          # where a route does, Envoy itself answers 403 to an upgrade that the connection manager does not list.
          - name: lectr_connect
            match: {connect_matcher: {}}
            direct_response: {status: 403}
            typed_per_filter_config:
              $disabled
          $doors
          # Nobody has decided on this call: it waits for lectr's reply, or there was none (503 gateway_unavailable).
          - name: $unrouted
            match: {prefix: /}
            route: {cluster: $unrouted, timeout: 0s}
        """,
        name=NAME,
        max_body_bytes=str(options.max_body_bytes),
        attempted=_routed(
            "lectr_attempted", "attempts", _told(RETRY_HEADER, UNANSWERED_HEADER), _in_turn(options), options
        )
        if options.fails_over
        else "",
        chosen=_routed("lectr_chosen", "chosen", _told(), _once(), options),
        routed=_routed("lectr_routed", "routed", "", _once(), options),
        disabled=_disabled(options),
        doors="".join(doors),
        unrouted=UNROUTED,
    )


_TOLD = {
    "model": "sent",
    "provider": "provider",
    "tier": "tier",
    "auto-tier": "auto_tier",
    "auto-score": "auto_score",
}
"What an answer says of the model that was chosen for it, by the decision's keys."


def _told(*gone: str) -> str:
    """Headers of answers. Envoy leaves out those without metadata; a provider's own never pass for them."""
    names = {f"x-model-router-{name}": key for name, key in _TOLD.items()}
    return f"response_headers_to_remove: [{', '.join((*gone, *names))}]\nresponse_headers_to_add:\n" + "".join(
        f"- {{header: {{key: {name}, value: '%DYNAMIC_METADATA({NAMESPACE}:{key})%'}}, "
        "append_action: OVERWRITE_IF_EXISTS_OR_ADD}\n"
        for name, key in names.items()
    )


def _once() -> str:
    return fill(
        """
        cluster_header: $cluster_header
        # No retry_policy: a call whose model the client chose is sent once.
        """,
        cluster_header=CLUSTER_HEADER,
    )


def _in_turn(options: GatewayOptions) -> str:
    is_native = options.profile == "native"
    return fill(
        """
        $clusters
        retry_policy:
          # Whatever comes before the first byte of an answer, and what lectr declares to be worth another candidate.
          retry_on: 5xx,reset,connect-failure,refused-stream,retriable-status-codes,retriable-headers
          retriable_status_codes: [408, 429]
          retriable_headers: [{name: $retry, present_match: true}]
          num_retries: 0  # and the time for an attempt: lectr's reply says both
          $refresh
          retry_back_off: {base_interval: 0.001s, max_interval: 0.01s}  # it is another provider's turn: no need to wait
        """,
        clusters=_clusters_in_turn() if is_native else f"cluster: {RELAY}  # and lectr says where from there\n",
        refresh="refresh_cluster_on_retry: true\n" if is_native else "",
        retry=RETRY_HEADER,
    )


def _clusters_in_turn() -> str:
    return fill(
        """
        # Each attempt goes to the next of the clusters that lectr's metadata names. Without it there is none.
        inline_cluster_specifier_plugin:
          extension:
            name: envoy.router.cluster_specifier_plugin.priority_group
            typed_config:
              "@type": $priority_group
              override_metadata_namespace: $order
              priority_groups: [{name: none, clusters: [{cluster_name: $unrouted, weight: 1}]}]
        """,
        priority_group=_PRIORITY_GROUP,
        order=ORDER_NAMESPACE,
        unrouted=UNROUTED,
    )


_PRIORITY_GROUP = (
    "type.googleapis.com/envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier"
)


def _routed(name: str, key: str, told: str, to: str, options: GatewayOptions) -> str:
    return fill(
        """
        # The only ways to a provider come first, because lectr removes the key and then the routes are read again.
        # They ask for metadata, which a client cannot write: a client's own x-lectr-cluster leads nowhere.
        - name: $name
          match:
            prefix: /
            dynamic_metadata: [{filter: $namespace, path: [{key: $key}], value: {present_match: true}}]
          $told
          route:
            $to
            timeout: 0s  # the default cuts every answer after 15 s
            idle_timeout: $idle  # the default of 300 s cuts models that think in silence
          # Ours, and what proxies add: not the provider's business.
          request_headers_to_remove:
          - $cluster_header
          - x-forwarded-for
          - x-forwarded-proto
          - x-forwarded-host
          - x-forwarded-port
          - x-forwarded-client-cert
          - x-envoy-external-address
          - x-envoy-internal
          - x-envoy-expected-rq-timeout-ms
        """,
        name=name,
        key=key,
        told=told,
        to=to,
        namespace=NAMESPACE,
        cluster_header=CLUSTER_HEADER,
        idle=seconds(options.stream_idle_timeout_s),
    )


def _turn_away(code: str, key: str, shape: Shape, options: GatewayOptions) -> str:
    """One way to answer 401 before any filter runs, so that a stranger's body is never held."""
    refusal = REFUSALS[code]
    is_anthropic = shape == "anthropic"
    return fill(
        """
        - name: $name
          match:
            prefix: $prefix
            headers:
            $key
            $unknown
          direct_response:
            status: $status
            body: {inline_string: $body}
          response_headers_to_add:
          - {header: {key: content-type, value: application/json}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
          typed_per_filter_config:
            $disabled
        """,
        name=f"lectr_{code.replace('_lectr', '')}{'_anthropic' if is_anthropic else ''}",
        prefix=ANTHROPIC_PATHS if is_anthropic else "/",
        key=key,
        unknown=_UNKNOWN.get(options.identity or "", "") if code == "missing_lectr_key" else "",
        status=str(refusal.status),
        body=quote(refusal.body(shape).decode()),
        disabled=_disabled(options),
    )


def _disabled(options: GatewayOptions) -> str:
    return "".join(
        f'{name}: {{"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}\n'
        for name in filters(options)
    )
