"""What was typed, read: names of applications, and options that become part of a manifest. Faults are wrong usage."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.kinds.effective import Application
    from reconciler.kinds.model import Model

    M = TypeVar("M", bound=Model)
else:
    M = TypeVar("M")

NAMESPACE_MAX = 63
VALID_FOR = timedelta(hours=4)
"""How long a request made on the command line may be started."""
EXIT_CODES = {
    "Succeeded": 0,
    "Partial": 3,
    "Failed": 6,
    "Refused": 4,
    "Cancelled": 6,
    "Waiting": 7,
    "Changed": 1,
}
"""How a restore that ended so ends the command."""


def parse_application(text: str) -> Application:
    """Read `namespace` or `namespace/application`.

    Raises:
        UsageError: it is neither.
    """
    from reconciler.kinds.effective import Application

    try:
        found = Application.parse(text)
    except ValueError as error:
        raise UsageError(
            f"read application: {error}", hint="for example shop, or shop/web"
        ) from error
    check_namespace(found.namespace)
    return found


def check_namespace(name: str, *, option: str = "namespace") -> None:
    """Check that a name can be that of a namespace; `option` is where it was typed.

    Raises:
        UsageError: it cannot.
    """
    from reconciler.kinds.model import DNS_LABEL

    if len(name) > NAMESPACE_MAX or re.fullmatch(DNS_LABEL, name) is None:
        raise UsageError(
            f"read {option} {name[:80]!r}: not a name of a namespace",
            hint="use lower-case letters, digits and '-', as Kubernetes does",
        )


def as_manifest(model: type[M], values: dict[str, Any], *, verb: str) -> M:
    """Make a manifest, or a part of one, of what was typed.

    Raises:
        UsageError: an option has a value that the manifest may not have.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise UsageError(f"{verb}: {faults}", hint=f"see `reconciler {verb} --help`") from error
