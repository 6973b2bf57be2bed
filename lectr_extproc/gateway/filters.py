"""The HTTP filters of a call, in its order: read the model, ask lectr, and on the way back read the usage."""

from collections.abc import Mapping

from lectr_extproc.core.identity import XFCC
from lectr_extproc.core.words import (
    ATTEMPT_NAMESPACE,
    LONGEST_EVENT_S,
    NAMESPACE,
    ORDER_NAMESPACE,
    REQUEST_NAMESPACE,
    REWRITTEN_HEADER,
    UNANSWERED_HEADER,
    USAGE_NAMESPACE,
)
from lectr_extproc.gateway.options import GatewayOptions
from lectr_extproc.gateway.text import fill, seconds

CLUSTER = "lectr"
"The Envoy cluster of lectr itself."

JSON_TO_METADATA = "lectr_json_to_metadata"
FALLBACK = "lectr_fallback"
EXT_PROC = "lectr"
AI_PROTOCOL_MANAGER = "lectr_ai_protocol_manager"

ATTEMPT_ATTRIBUTES = ("xds.cluster_name", "upstream.request_attempt_count")
"What Envoy says of an attempt; no other filter of ours sends these, by which lectr tells them apart."

UPGRADE_FILTERS = (EXT_PROC,)
"What an upgraded call passes: it has no body to read, and a filter that waited for one would hang it."

TYPES: Mapping[str, str] = {
    JSON_TO_METADATA: "type.googleapis.com/envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
    FALLBACK: "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
    EXT_PROC: "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
    AI_PROTOCOL_MANAGER: "type.googleapis.com/envoy.extensions.filters.http.ai_protocol_manager.v3.AiProtocolManager",
}


def filters(options: GatewayOptions) -> dict[str, str]:
    """Name → typed_config, in chain order, without the router."""
    chain = {JSON_TO_METADATA: _json_to_metadata(), FALLBACK: _fallback(), EXT_PROC: _ext_proc(options)}
    if options.profile == "native":
        # After ext_proc: answers run through the chain backwards, so it reads a usage chunk before lectr removes it.
        chain[AI_PROTOCOL_MANAGER] = _ai_protocol_manager()
    return chain


def grpc_service() -> str:
    """How Envoy calls lectr: the one place that names its cluster."""
    return f"envoy_grpc: {{cluster_name: {CLUSTER}}}\n"


def _json_to_metadata() -> str:
    return fill(
        """
        "@type": $type
        request_rules:
          # The default is the exact string application/json: `application/json; charset=utf-8` would carry no model.
          allow_content_types_regex: {regex: "(?i)application/json([ ;].*)?"}
          rules:
          - {selectors: [{key: model}], on_present: {metadata_namespace: $namespace, key: model}}
          - {selectors: [{key: stream}], on_present: {metadata_namespace: $namespace, key: stream}}
          - {selectors: [{key: tier}], on_present: {metadata_namespace: $namespace, key: tier}}
          - {selectors: [{key: prefer}], on_present: {metadata_namespace: $namespace, key: prefer}}
          - selectors: [{key: stream_options}, {key: include_usage}]
            on_present: {metadata_namespace: $namespace, key: include_usage}
          # How long the answer may be, which limits hold money for: a body has one of these at most.
          - {selectors: [{key: max_tokens}], on_present: {metadata_namespace: $namespace, key: max_output}}
          - {selectors: [{key: max_completion_tokens}], on_present: {metadata_namespace: $namespace, key: max_output}}
          - {selectors: [{key: max_output_tokens}], on_present: {metadata_namespace: $namespace, key: max_output}}
        """,
        type=TYPES[JSON_TO_METADATA],
        namespace=REQUEST_NAMESPACE,
    )


def _fallback() -> str:
    return fill(
        """
        "@type": $type
        default_source_code:
          # json_to_metadata tells no list, and of a fixed value in its place not whether there is one (1.40). So the
          # bytes that it holds already are searched for the name; where that stands lectr asks for the body, and
          # knows better. In pieces, each with the beginning of the next: Lua copies what it looks into, and four times
          # as much at once, beyond the processor's nearest memory, took it twice as long.
          inline_string: |
            local NAME, PIECE = '"$name"', 16384
            function envoy_on_request(call)
              local kind = call:headers():get("content-type") or ""
              if not (kind:lower() .. ";"):find("^application/json[ ;]") then return end
              local body = call:body(true)
              for at = 0, body:length() - 1, PIECE do
                local piece = body:getBytes(at, math.min(PIECE + #NAME, body:length() - at))
                if piece:find(NAME, 1, true) then
                  call:streamInfo():dynamicMetadata():set("$namespace", "$name", true)
                  return
                end
              end
            end
        """,
        type=TYPES[FALLBACK],
        name="fallback",
        namespace=REQUEST_NAMESPACE,
    )


def _ext_proc(options: GatewayOptions) -> str:
    return fill(
        """
        "@type": $type
        grpc_service:
          $calls
        message_timeout: $message_timeout  # the default of 200 ms turns one pause into a failed call
        max_message_timeout: $longest_event  # for a provider that pauses within an event that lectr may take out
        # Safe only because a call without lectr's metadata meets the 503 route: a lectr that is down lets nothing
        # through, and one that goes down does not break answers that are on their way.
        failure_mode_allow: true
        # One message, one reply: with everything else off, Envoy closes the gRPC stream after the header reply, and a
        # call in flight costs lectr nothing. The reply may ask for more, for that call only.
        processing_mode:
          {request_header_mode: SEND, request_body_mode: NONE, response_header_mode: SKIP, response_body_mode: NONE}
        allow_mode_override: true
        mutation_rules:
          allow_all_routing: true  # without it a new :authority is dropped in silence
          disallow_expression: {regex: "^(:method|:scheme)$$"}
          # How often, and after how long, the router goes on to the next candidate: it reads these and removes them.
          allow_expression: {regex: "^x-envoy-(max-retries|upstream-rq-per-try-timeout-ms)$$"}
        metadata_options:
          forwarding_namespaces: {untyped: [$request_namespace, $attempt]}
          receiving_namespaces: {untyped: [$namespace, $usage, $order]}  # others are dropped in silence
        $identity
        """,
        type=TYPES[EXT_PROC],
        calls=_calls(),
        message_timeout=seconds(options.message_timeout_s),
        longest_event=seconds(LONGEST_EVENT_S),
        request_namespace=REQUEST_NAMESPACE,
        namespace=NAMESPACE,
        usage=USAGE_NAMESPACE,
        identity=f"request_attributes: [{options.identity}]  # of the client's certificate, which it cannot write\n"
        if options.identity not in (None, XFCC)
        else "",
        order=ORDER_NAMESPACE,
        attempt=ATTEMPT_NAMESPACE,
    )


def _calls() -> str:
    return fill(
        """
        $grpc_service
        timeout: 0s  # message_timeout below bounds the wait; a long streamed answer must not be cut
        retry_policy:  # a lectr that restarts: the default back-off of 25 ms and more would eat the message timeout
          num_retries: 3
          retry_on: connect-failure,refused-stream,unavailable,reset,cancelled
          retry_back_off: {base_interval: 0.005s, max_interval: 0.05s}
        """,
        grpc_service=grpc_service(),
    )


def attempt_filters(options: GatewayOptions) -> str:
    """Of a cluster for calls with several candidates, below the router: lectr makes each attempt ready."""
    return fill(
        """
        - name: lectr_attempt
          typed_config:
            "@type": $type
            grpc_service:
              $calls
            message_timeout: $message_timeout
            # A lectr that goes while the provider answers breaks no answer. Before, the next filter stops the attempt.
            failure_mode_allow: true
            $answer
            mutation_rules:
              allow_all_routing: true
              disallow_expression: {regex: "^(x-envoy-.*|:method|:scheme)$$"}
            request_attributes: [$attributes]
            metadata_options:
              forwarding_namespaces: {untyped: [$namespace, $order]}
              receiving_namespaces: {untyped: [$namespace, $order, $attempt]}
            stat_prefix: attempt
        # What lectr has not made ready carries the request of the attempt before, or of none: it must not leave,
        # whatever the reason. The mark is taken off each attempt, so that the next one needs its own.
        - name: lectr_attempt_guard
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            default_source_code:
              inline_string: |
                function envoy_on_request(call)
                  if call:headers():get("$mark") then
                    call:headers():remove("$mark")
                  else
                    call:respond({[":status"] = "503"}, "")
                  end
                end
                $on_answer
        """,
        type=TYPES[EXT_PROC],
        calls=_calls(),
        answer=_judged() if options.profile == "native" else _unseen(),
        on_answer="" if options.profile == "native" else _told(),
        message_timeout=seconds(options.message_timeout_s),
        attributes=", ".join(ATTEMPT_ATTRIBUTES),
        namespace=NAMESPACE,
        order=ORDER_NAMESPACE,
        attempt=ATTEMPT_NAMESPACE,
        mark=REWRITTEN_HEADER,
    )


def _judged() -> str:
    return fill(
        """
        # Of the answer its head, and where that is a refusal which may be worth another candidate, its document.
        # Never FULL_DUPLEX_STREAMED: Envoy 1.40 crashes.
        processing_mode: {request_header_mode: SEND, request_body_mode: BUFFERED, response_header_mode: SEND}
        allow_mode_override: true
        """
    )


def _unseen() -> str:
    return fill(
        """
        # Nothing of the answer: Envoy 1.36 crashes where a filter here holds one that is followed by another attempt
        # (envoyproxy/envoy#41879).
        processing_mode: {request_header_mode: SEND, request_body_mode: BUFFERED, response_header_mode: SKIP}
        """
    )


def _told() -> str:
    return fill(
        """
        -- What came of this attempt, for the next one and for the record: lectr does not see it.
        function envoy_on_response(call)
          local status = call:headers():get("$unanswered") and "none" or call:headers():get(":status")
          call:streamInfo():dynamicMetadata():set("$namespace", "answered", status)
        end
        """,
        namespace=NAMESPACE,
        unanswered=UNANSWERED_HEADER,
    )


def _ai_protocol_manager() -> str:
    return fill(
        """
        "@type": $type
        # The response side only, and without llm_protocol: it recognises the dialect from the answer and changes no
        # byte. Its request side would re-serialise the answer and refuse what is not JSON (Envoy 1.40).
        response_handling:
          token_usage: {include_unconfigured_routes: true}
        """,
        type=TYPES[AI_PROTOCOL_MANAGER],
    )
