"""Certificates that ran out while they lay in a restore point.

A Secret of type `kubernetes.io/tls` is judged by the first certificate of `tls.crt`, against the `now` of the plan. One
that cannot be read is restored and said, never taken for expired. cert-manager's CertificateRequest, Order and
Challenge are steps of an issue that is over: brought back, they occupy the names of the next one, so they
are always left out.
"""

from __future__ import annotations

import base64
from datetime import datetime

from reconciler.clock import format_instant
from reconciler.kinds.transformset import Certificates
from reconciler.objects import Manifest, annotations_of, group_of, metadata_of
from reconciler.transform.change import Change, Dismissed

BY = "certificates"
ANNOTATION = "backup.reconciler.dev/expired-certificate"
_MANAGED = "cert-manager.io/certificate-name"
_EPHEMERAL = frozenset(
    (
        ("cert-manager.io", "CertificateRequest"),
        ("acme.cert-manager.io", "Order"),
        ("acme.cert-manager.io", "Challenge"),
    )
)


def dismiss_ephemeral(manifest: Manifest) -> None:
    """Leave out what cert-manager makes anew.

    Raises:
        Dismissed: it is such an object.
    """
    kind = str(manifest.get("kind", ""))
    if (group_of(str(manifest.get("apiVersion", ""))), kind) in _EPHEMERAL:
        message = f"cert-manager makes a new {kind} when it needs one"
        raise Dismissed("skip", reason="Ephemeral", message=message)


def check_certificate(manifest: Manifest, *, settings: Certificates, now: datetime) -> list[Change]:
    """Deal with an expired TLS Secret, in place.

    Raises:
        Dismissed: the settings say that it is left out or refused.
    """
    if manifest.get("kind") != "Secret" or manifest.get("apiVersion") != "v1":
        return []
    if manifest.get("type") != "kubernetes.io/tls":
        return []
    expires_at = _expires_at(manifest)
    if expires_at is None:
        return [Change(BY, "certificate could not be read", warning=True)]
    if expires_at > now:
        return []
    expired = format_instant(expires_at)
    managed = _MANAGED in annotations_of(manifest)
    match settings.managed if managed else settings.unmanaged:
        case "Skip":
            then = "; cert-manager issues it again" if managed else ""
            message = f"the certificate expired at {expired}{then}"
            raise Dismissed("skip", reason="CertificateExpired", message=message)
        case "Fail":
            message = f"the certificate expired at {expired}"
            raise Dismissed("fail", reason="CertificateExpired", message=message)
    metadata = metadata_of(manifest)
    metadata["annotations"] = {**annotations_of(manifest), ANNOTATION: expired}
    return [Change(BY, f"metadata.annotations: added {ANNOTATION}: {expired}")]


def _expires_at(manifest: Manifest) -> datetime | None:
    from cryptography import x509

    data = manifest.get("data")
    encoded = data.get("tls.crt") if isinstance(data, dict) else None
    if not isinstance(encoded, str):
        return None
    try:
        chain = x509.load_pem_x509_certificates(base64.b64decode(encoded, validate=True))
        return chain[0].not_valid_after_utc
    except (ValueError, IndexError):
        return None
