"""A certificate authority for one test run, so that TLS to scripted providers is really verified."""

import datetime as dt
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID_FOR = dt.timedelta(days=1)


class Authority:
    """Signs server certificates; `bundle` is the PEM file that clients trust."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign("scripted providers", self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.bundle = directory / "ca.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """A server-side context with one certificate that is good for these host names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem(hosts[0], *map(x509.DNSName, hosts)))
        return context

    def pem(self, name: str, *names: x509.GeneralName) -> Path:
        """A file with a key and a certificate that is good for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = self._directory / f"{name}.pem"
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + self._sign(name, key, x509.SubjectAlternativeName(names)).public_bytes(serialization.Encoding.PEM)
        )
        return pem

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = self._certificate.subject if hasattr(self, "_certificate") else subject
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - VALID_FOR)
            .not_valid_after(now + VALID_FOR)
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )
