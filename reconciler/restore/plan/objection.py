"""What it means when a server refuses a dry run: the reason a plan gives, and whether recreating would help.

A server answers in words; which part of it refused (a webhook, a policy, Pod Security, a quota) stands only in the
message, whose forms are those of the API server's own code. An answer that says nothing about the object, such as
a server that is busy or a webhook that takes no dry runs, is no objection: then the write decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.cluster.port import ApiError, ForbiddenError, InvalidError
from reconciler.errors import ReconcilerError, TransientError

UNAVAILABLE = "WebhookUnavailable"
_DOWN = re.compile(r'failed calling webhook "([^"]+)"')
_CONVERSION = re.compile(r"conversion webhook for \S+ Kind=(\S+) failed")
_NO_DRY_RUN = "does not support dry run"


@dataclass(frozen=True)
class Objection:
    """A refusal in a plan's words. `webhook` is the one that did not answer."""

    reason: str
    message: str
    hint: str = ""
    webhook: str = ""


class WebhookUnavailableError(ApiError):
    """A webhook that the server must ask does not answer, so it refuses."""


_FORMS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r'admission webhook "[^"]+" denied the request'),
        "WebhookDenied",
        "change the object with a TransformSet, or mend the webhook's rule",
    ),
    (
        re.compile(r"ValidatingAdmissionPolicy .* denied request"),
        "PolicyDenied",
        "change the object with a TransformSet, or the policy",
    ),
    (
        re.compile(r"violates PodSecurity"),
        "PodSecurity",
        "change the pods with a TransformSet, or the namespace's pod-security labels",
    ),
    (re.compile(r"exceeded quota|failed quota"), "QuotaExceeded", "free or raise the quota"),
    (
        re.compile(r"(maximum|minimum) \S+ usage per|(limit to request|request to limit) ratio"),
        "LimitRange",
        "change the resources with a TransformSet, or the LimitRange",
    ),
    (
        re.compile(r"already allocated|already in use by"),
        "AddressTaken",
        "free it, or take it out with a TransformSet",
    ),
    (
        re.compile(r"(?i)request (entity )?(is )?too large|Too long: may not be more than"),
        "TooLarge",
        "",
    ),
)


def objection_of(error: ReconcilerError) -> Objection | None:
    """Say what a failed dry run means for the object; None when it says nothing about it."""
    if isinstance(error, TransientError):
        down = _DOWN.search(error.message)
        if down or is_conversion_down(error):
            webhook = down.group(1) if down else ""
            return Objection(UNAVAILABLE, error.message, webhook=webhook)
        return None
    if _NO_DRY_RUN in error.message or not isinstance(error, InvalidError | ForbiddenError):
        return None
    for form, reason, hint in _FORMS:
        if form.search(error.message):
            return Objection(reason, error.message, hint)
    return Objection(error.reason, error.message, error.hint)


def is_conversion_down(error: ReconcilerError) -> bool:
    """Whether a kind could not be read or written because its conversion webhook did not answer."""
    return bool(_CONVERSION.search(error.message))
