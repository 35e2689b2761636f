"""`Status` objects, and the exceptions that become them: how the sandbox says no."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from reconciler.objects import Manifest

_REASONS = {410: "Expired", 422: "Invalid", 500: "InternalError", 504: "Timeout"}


class StatusError(Exception):
    """A request that fails; `body` is the Status object that says why."""

    def __init__(self, code: int, message: str, *, reason: str = "", **details: Any) -> None:
        super().__init__(message)
        self.code = code
        reason = reason or _REASONS.get(code) or HTTPStatus(code).phrase.replace(" ", "")
        self.body: Manifest = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
        self.body |= {"status": "Failure", "message": message, "reason": reason, "code": code}
        self.body |= {"details": details} if details else {}


def success(**details: Any) -> Manifest:
    """The Status of a delete that is done."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return body | {"details": details}


def invalid(kind: str, name: str, field: str, why: str) -> StatusError:
    """422 because of one field."""
    causes = [{"reason": "FieldValueInvalid", "message": why, "field": field}]
    message = f'{kind} "{name}" is invalid: {field}: {why}'
    return StatusError(422, message, name=name, kind=kind, causes=causes)


def not_built(what: str) -> StatusError:
    """501: a real server does this, the sandbox does not."""
    return StatusError(501, f"the sandbox does not do this: {what}")
