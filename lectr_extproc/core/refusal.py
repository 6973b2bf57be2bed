"""The answers lectr gives itself, in the shape the client's SDK understands. Routing never refuses; these few do."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import orjson

from lectr_extproc.core.words import Shape


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer of ours: what the client reads, and nothing about how we work."""

    status: int
    code: str
    type: str
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    def body(self, shape: Shape) -> bytes:
        """The JSON document, as OpenAI's or Anthropic's SDK expects an error."""
        if shape == "anthropic":
            text = f"{self.code}: {self.message}"
            return orjson.dumps(
                {"type": "error", "error": {"type": self.type, "message": text, "code": self.code}, "request_id": None}
            )
        return orjson.dumps({"error": {"message": self.message, "type": self.type, "param": None, "code": self.code}})


_ALL = (
    Refusal(
        401,
        "missing_lectr_key",
        "authentication_error",
        "No key of this gateway. Send the key of your organisation (lc_key_...) as X-Lectr-Key, or in the place of the "
        "provider's key, as `Authorization: Bearer` or x-api-key; `lectr keys new` makes one.",
    ),
    Refusal(
        401,
        "invalid_lectr_key",
        "authentication_error",
        "This is not a key of this gateway. It may be mistyped or revoked, or the call carries two that differ.",
    ),
    Refusal(
        401,
        "unknown_workload",
        "authentication_error",
        "The client certificate of this call belongs to no organisation here, and the call carries no key. Add the "
        "certificate's URI to the `workloads` of an organisation, or send a key (lc_key_...) as X-Lectr-Key.",
    ),
    Refusal(
        401,
        "identity_mismatch",
        "authentication_error",
        "The key and the client certificate of this call belong to different organisations. Send one of them.",
    ),
    Refusal(401, "org_disabled", "authentication_error", "The organisation of this key is disabled."),
    Refusal(
        400,
        "azure_config_missing",
        "invalid_request_error",
        "This organisation has no Azure OpenAI endpoint. Add `azure: {endpoint: https://….openai.azure.com}` to it.",
    ),
    Refusal(
        403,
        "model_not_allowed",
        "permission_error",
        "This model, or its provider, may not be used with this key.",
    ),
    Refusal(
        404,
        "model_not_found",
        "not_found_error",
        "This model is not listed here. GET /v1/models has those that are; X-Lectr-Provider asks a provider itself.",
    ),
    Refusal(
        503,
        "limits_unavailable",
        "service_unavailable",
        "What this organisation has used cannot be looked up now, so that it may use nothing. Try again shortly.",
    ),
    Refusal(413, "request_too_large", "invalid_request_error", "The request body is larger than this gateway allows."),
    Refusal(503, "gateway_unavailable", "service_unavailable", "The gateway is not available. Try again shortly."),
    Refusal(503, "provider_unreachable", "service_unavailable", "The provider could not be reached."),
    Refusal(504, "provider_timeout", "service_unavailable", "The provider did not answer in time."),
)

REFUSALS: Mapping[str, Refusal] = MappingProxyType({refusal.code: refusal for refusal in _ALL})
"By code. Envoy gives the last four itself, from its configuration; the others come from a decision."
