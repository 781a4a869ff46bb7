"""Certificates of a cluster's own: nobody without them can talk to its scheduler or its workers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from distributed.security import Security

from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from lensflow.engine.slurm.record import Folder

EARLIER = timedelta(hours=1)  # valid from: clocks of nodes differ
NAME = "lensflow-cluster"


def issue(folder: Folder, days: float) -> Security:
    """Make a key and a certificate that are valid for some days, in the cluster's folder; return who may talk.

    Driver, scheduler and workers share them: who has the key is of the cluster, and nobody else is.

    Parameters
    ----------
    folder
        Of the cluster; every node reads the files there, and only their owner can.
    days
        For how long: longer than the cluster lives.

    Raises
    ------
    LensflowError
        If the package that makes certificates is missing.
    """
    try:
        from cryptography import x509  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    except ImportError as error:
        raise LensflowError(
            "a cluster of several hosts needs the package cryptography for its certificates; install lensflow[slurm]"
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_file = str(folder.write_private("tls/key.pem", secret.decode()))
    certificate_file = str(
        folder.write_private("tls/certificate.pem", certificate.public_bytes(serialization.Encoding.PEM).decode())
    )
    return security(certificate_file, key_file)


def security(certificate: str, key: str) -> Security:
    """Return Dask's description of who may talk, from a certificate and its key."""
    roles = ("scheduler", "worker", "client")
    pairs = {f"tls_{role}_{what}": path for role in roles for what, path in (("cert", certificate), ("key", key))}
    return Security(tls_ca_file=certificate, require_encryption=True, **pairs)
