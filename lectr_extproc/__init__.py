"""An Envoy external processor that turns any Envoy into an LLM gateway."""
