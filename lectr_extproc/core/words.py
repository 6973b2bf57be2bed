"""The names that cross our borders, each spelled once: headers, metadata namespaces, and the closed vocabularies."""

from typing import Literal

KEY_HEADER = "x-lectr-key"
PROVIDER_HEADER = "x-lectr-provider"
FEATURE_HEADER = "x-lectr-feature"
TASK_HEADER = "x-lectr-task"
FALLBACK_HEADER = "x-lectr-fallback"
CLUSTER_HEADER = "x-lectr-cluster"
"Written by lectr together with the `routed` metadata, read by Envoy's route, removed before the provider."
REWRITTEN_HEADER = "x-lectr-rewritten"
"Written by lectr on each attempt that it made ready; Envoy takes it off, and lets no attempt pass without it."
RETRY_HEADER = "x-lectr-retry"
"On an answer after which Envoy is to go on to the next candidate."
SHAPE_HEADER = "x-lectr-shape"
"On an attempt that passes through Envoy twice: whose error format the client's SDK understands."
UNANSWERED_HEADER = "x-lectr-unanswered"
"On what such an attempt comes back with where its provider could not be asked."
OWN_PREFIX = "x-lectr-"

CLIENT_CERTIFICATE = "x-forwarded-client-cert"
"What Envoy tells of the certificates on a call's way. It counts only where settings say that Envoy alone writes it."

REQUEST_NAMESPACE = "lectr.request"
"Where json_to_metadata puts what it read from the body."
NAMESPACE = "lectr"
"Where the decision travels."

ORDER_NAMESPACE = "lectr.route"
"Where Envoy reads to which clusters the attempts at a call go, in order."

ATTEMPT_NAMESPACE = "lectr.attempt"
"Where an attempt says which it is, for whoever reads the answer."

USAGE_NAMESPACE = "lectr.usage"
"Where what an answer said travels."

KEY_PREFIX = "lc_key_"
LABEL_LIMIT = 100
"Longest feature or task kept on the record."
MODEL_LIMIT = 256
"Longest model name kept on the record; the request itself is never cut."

REQUEST_ID_LIMIT = 256
"Longest `x-request-id` kept, of a call and its attempts alike: they are joined by it."
PATH_LIMIT = 512
"Longest client path kept on the record."

LONGEST_EVENT_S = 30
"How long an event that lectr may take out of a stream can stay incomplete; then Envoy passes on what came, unread."

TASKS = ("classification", "summarisation", "extraction", "generation", "reasoning")

Shape = Literal["openai", "anthropic"]
"Whose error format the client's SDK understands."

CredentialSource = Literal["client", "gateway", "none"]
"Whose key goes to the provider."

ProviderSource = Literal["header", "path", "registry", "exact", "prefix", "rule", "chosen", "credential", "default"]

Wanted = Literal["economy", "standard", "premium", "auto"]
WANTED: tuple[Wanted, ...] = ("economy", "standard", "premium", "auto")
"The words for which the gateway chooses a model."

Prefer = Literal["cheap", "fast", "balanced", "quality", "coding"]
PREFERENCES: tuple[Prefer, ...] = ("cheap", "fast", "balanced", "quality", "coding")
"What may count most in the choice."
