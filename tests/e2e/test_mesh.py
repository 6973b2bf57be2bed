"""Callers that a mesh knows by their certificates: real mutual TLS, and what a client may write to be somebody else."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from tests.e2e.calls import CHAT, asking, new_id
from tests.e2e.conftest import Launch, once
from tests.e2e.scene import OPENAI_KEY, ORG, ORG_KEY, Providers, org, settings_for
from tests.e2e.tls import Authority

WEB, BATCH = "spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/batch/sa/nightly"
STRANGER = "spiffe://cluster.local/ns/other/sa/x"
KEY, OWN = {"X-Lectr-Key": ORG_KEY}, {"Authorization": f"Bearer {OPENAI_KEY}"}
FORGED = {
    "X-Forwarded-Client-Cert": f"Hash=00;URI={BATCH}",
    "connection.uri_san_peer_certificate": BATCH,
    "X-Lectr-Workload": BATCH,
    "X-Forwarded-For": "127.0.0.1",
}


NOTHING: Mapping[str, str] = {}


class Mesh:
    """A gateway that verifies its clients' certificates, and clients that show some."""

    def __init__(self, launch: Launch, providers: Providers, directory: Path, identity: dict[str, Any]) -> None:
        self._authority = Authority(directory / "ours")
        held = directory / "openai.key"
        held.write_text(OPENAI_KEY)
        pem, ca = str(self._authority.pem("gateway", x509.DNSName("localhost"))), str(self._authority.bundle)
        orgs = [
            org(ORG, ORG_KEY),
            {"name": "shop", "workloads": [WEB], "credentials": {"openai": f"file:{held}"}},
            {"name": "batch", "workloads": ["spiffe://cluster.local/ns/batch/*"]},
        ]
        tls = {"tls": {"cert": pem, "key": pem, "client_ca": ca}}
        self.gateway = launch({**settings_for(providers), "orgs": orgs, "identity": identity, "envoy": tls})

    def call(
        self, uri: str | None = None, headers: Mapping[str, str] = NOTHING, by: Authority | None = None
    ) -> tuple[int, str | None]:
        """One call: its status, and the org of its record or the code of its refusal."""
        context = ssl.create_default_context(cafile=str(self._authority.bundle))
        context.check_hostname = False
        if uri:
            name = x509.UniformResourceIdentifier(uri)
            context.load_cert_chain((by or self._authority).pem("client", name))
        call_id = new_id()
        sent = {"Content-Type": "application/json", "x-request-id": call_id, **headers}
        with httpx.Client(verify=context, trust_env=False) as client:
            answer = client.post(f"https://localhost:{self.gateway.port}{CHAT}", headers=sent, content=asking())
        record = self.gateway.record(call_id)
        return answer.status_code, record["org"] if answer.is_success else answer.json()["error"]["code"]


def known_by_certificates_alone(mesh: Mesh, providers: Providers, theirs: Authority) -> None:
    requests = providers["openai"].requests
    # Whose certificate it is, is who calls; the gateway's key for it goes out, and nothing of its certificate.
    assert mesh.call(WEB) == (200, "shop")
    assert mesh.call(BATCH, OWN) == (200, "batch")
    for received in requests:
        assert received.values("authorization") == [f"Bearer {OPENAI_KEY}"]
        assert not received.values("x-forwarded-client-cert")
    assert mesh.call(WEB) == (200, "shop"), "as the one before"
    assert mesh.call(WEB, {"Content-Type": "application/x-www-form-urlencoded"}) == (200, "shop"), "its body read"
    assert mesh.call(WEB, {"X-Lectr-Fallback": "gpt-4.1"}) == (200, "shop"), "with candidates"
    # A key as well, or in its place.
    assert mesh.call(None, {**KEY, **OWN}) == (200, ORG)
    assert mesh.call(STRANGER, {**KEY, **OWN}) == (200, ORG)
    asked = len(requests)
    assert mesh.call(WEB, KEY) == (401, "identity_mismatch")
    assert mesh.call(WEB, {"X-Lectr-Key": "lc_key_0123456789abcdefghij"}) == (401, "invalid_lectr_key")
    assert mesh.call(STRANGER) == (401, "unknown_workload")
    assert mesh.call() == (401, "missing_lectr_key")
    # What a client writes, or signs.
    assert mesh.call(None, FORGED) == (401, "missing_lectr_key")
    assert mesh.call(STRANGER, FORGED) == (401, "unknown_workload")
    with pytest.raises(httpx.TransportError):
        mesh.call(WEB, by=theirs)
    assert len(requests) == asked
    assert mesh.call(WEB, FORGED) == (200, "shop")
    assert "nothing is wrong" in mesh.gateway.ask("doctor")


def test_a_workload_is_known_by_its_certificate_and_by_nothing_that_it_writes(
    launch: Launch, providers: Providers, tmp_path: Path
) -> None:
    mesh = Mesh(launch, providers, tmp_path, {"attribute": "connection.uri_san_peer_certificate"})
    known_by_certificates_alone(mesh, providers, Authority(tmp_path / "theirs"))


@once
def test_the_header_of_certificates_is_envoys_own_where_it_counts(
    launch: Launch, providers: Providers, tmp_path: Path
) -> None:
    mesh = Mesh(launch, providers, tmp_path, {"xfcc": True})
    known_by_certificates_alone(mesh, providers, Authority(tmp_path / "theirs"))
