"""What the API server's refusals mean: an HTTP answer or a `Status` object becomes an error of the port.

The `reason` of a Status decides where one code has two meanings (409, 404); a body that is no Status
says nothing beyond its code, because a proxy wrote it. Of a Status only `message` is quoted, cut to 256
characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from reconciler.cluster.port import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    NotServedError,
    UnauthorizedError,
    UnavailableError,
)
from reconciler.errors import ReconcilerError

MESSAGE_LIMIT = 256


class BusyError(UnavailableError):
    """The server itself answered 429 or 5xx, so a read may be repeated."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint, retry_after_s=retry_after_s)
        self.reason = "Unavailable"


_UNCOUNTED = "status unknown for quota"
"""What quota admission says, with 403, until the controller has counted what a new ResourceQuota limits."""
_NO_SUCH_RESOURCE = "the server could not find the requested resource"


def decode_status(body: bytes) -> dict[str, Any]:
    """Read a `Status` object; empty when the body is anything else."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) and value.get("kind") == "Status" else {}


def refusal_of(
    subject: str, *, code: int, status: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> ReconcilerError:
    """Make the error for a refused request. `subject` reads `create Deployment.apps shop/web`."""
    reason = status.get("reason") or ""
    said = " ".join(str(status.get("message") or "").split())[:MESSAGE_LIMIT]
    message = f"{subject}: the API server answered {code}" + (f" {reason}" if reason else "")
    message += f": {said}" if said else ""
    is_uncounted = code == 403 and _UNCOUNTED in said
    if is_uncounted or code in (408, 429, 500, 502, 503, 504):
        family = UnavailableError if code == 408 else BusyError
        return family(
            message,
            hint="try again later; see whether the API server is healthy",
            retry_after_s=retry_after_s(headers or {}),
        )
    match code:
        case 401:
            return UnauthorizedError(message, hint="renew the credentials of this context")
        case 403:
            return ForbiddenError(message, hint="see what is missing with `reconciler doctor`")
        case 404 if is_not_served(status):
            return NotServedError(message, hint="see `kubectl api-resources`")
        case 404:
            return NotFoundError(message)
        case 405 | 501:
            return NotServedError(message, hint="this server does not do this")
        # A quota that changed meanwhile answers a create with 409 Conflict: nothing exists then.
        case 409 if reason == "AlreadyExists":
            return AlreadyExistsError(message)
        case 409:
            return ConflictError(message, hint="read the object again")
        case 410:
            return ExpiredError(message, hint="list again")
        case 400 | 406 | 413 | 415 | 422:
            return InvalidError(message)
    return ApiError(message)


def is_not_served(status: Mapping[str, Any]) -> bool:
    """Tell a 404 about a kind or path from one about an object."""
    details = status.get("details") or {}
    return not status or (
        not details.get("name") and str(status.get("message") or "").startswith(_NO_SUCH_RESOURCE)
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After (RFC 9110 §10.2.3); a date is taken against the answer's own `Date`."""
    value = (headers.get("Retry-After") or "").strip()
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        return max(0.0, (until - parsedate_to_datetime(headers["Date"])).total_seconds())
    except (ValueError, KeyError, TypeError):
        return None
