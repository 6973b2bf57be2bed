"""The official SDKs as clients of a gateway, who read no list of authorities: it takes them longer than a call."""

import anthropic
import openai

from tests.e2e.gateway import Gateway
from tests.e2e.scene import ANTHROPIC_KEY, OPENAI_KEY, ORG_KEY


def openai_client(gateway: Gateway, key: str = OPENAI_KEY, *, org: str = ORG_KEY, **headers: str) -> openai.OpenAI:
    ours = {"X-Lectr-Key": org, **headers}
    http = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=key, default_headers=ours, max_retries=0, http_client=http
    )


def anthropic_client(gateway: Gateway) -> anthropic.Anthropic:
    ours = {"X-Lectr-Key": ORG_KEY}
    http = anthropic.DefaultHttpxClient(verify=False)
    return anthropic.Anthropic(
        base_url=gateway.url, api_key=ANTHROPIC_KEY, default_headers=ours, max_retries=0, http_client=http
    )
