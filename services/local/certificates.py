"""The certificate by which the parts of one installation know each other.

It is made with the installation and signed by an authority whose key is thrown away at once: no
second certificate is ever trusted. Knows files, not what they open.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.local.state import State

ADDRESS = "127.0.0.1"
FROM = datetime(2020, 1, 1, tzinfo=UTC)
"""Long ago: a clock that is set back does not close the installation."""
UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""No end (RFC 5280, 4.1.2.5): only processes of this folder ever use it."""


@dataclass(frozen=True)
class Certificate:
    """Files of one certificate: the authority that it is checked against, itself, and its key."""

    authority: Path
    certificate: Path
    key: Path


def certificate(state: State, name: str) -> Certificate:
    """The certificate kept under this name, made when first asked for.

    It serves both ends of a connection between processes of this machine.
    """
    authority, leaf, key = (
        state.secrets / f"{name}.{part}.pem" for part in ("authority", "certificate", "key")
    )
    if not key.exists():  # written last: an interrupted start begins again
        made = _make(name)
        for file, text in zip((authority, leaf, key), made, strict=True):
            state.write(file, text)
    return Certificate(authority, leaf, key)


def _make(name: str) -> tuple[str, str, str]:
    """Authority, certificate and key as PEM."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _named(f"{name} authority")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    address = x509.IPAddress(ipaddress.ip_address(ADDRESS))
    leaf = (
        _builder(_named(name), authority_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([address, x509.DNSName("localhost")]), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (
        authority.public_bytes(Encoding.PEM).decode(),
        leaf.public_bytes(Encoding.PEM).decode(),
        private.decode(),
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
