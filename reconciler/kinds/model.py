"""What all declarative kinds share: strict models, spans, instants, names, and fields that are not built yet.

Models refuse unknown fields and wrong types. Files use camelCase, Python snake_case. A field that the
design names but this version does not carry out is declared as `Planned`: giving it is refused with
`not supported by this version`, never accepted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from reconciler.clock import format_instant, parse_instant

API_VERSION: Final = "backup.reconciler.dev/v1alpha1"
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

_SPAN_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"(\d{1,9})([smhdw])")


class Model(BaseModel):
    """A value from a file: strict, frozen, camelCase outside."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )


REST: Final = "rest"
"""Context of a validation in which fields are missing because they had faults (`kinds/rest.py`)."""


def agreement(check: Callable[[Any], None]) -> Any:
    """Make a check of a model's fields against each other; it is made of whole models only."""

    def run(self: Any, info: ValidationInfo) -> Any:
        if info.context != REST:
            check(self)
        return self

    return model_validator(mode="after")(run)


def parse_span(text: str) -> timedelta:
    """Read `90s`, `1h30m`, `7d`, `2w`.

    Raises:
        ValueError: it is not of that form.
    """
    parts = _SPAN.findall(text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise ValueError(f"{text!r} is no span of time")
    return timedelta(seconds=sum(int(count) * _SPAN_UNITS[unit] for count, unit in parts))


def format_span(span: timedelta) -> str:
    """Write a span in the largest units that fit it exactly: `1h30m`, `7d`."""
    left, parts = int(span.total_seconds()), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _span(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return parse_span(value)
    except (TypeError, ValueError):
        raise PydanticCustomError("span", "expected a span such as 90s, 30m, 1h30m or 7d") from None


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    try:
        return parse_instant(value)
    except (TypeError, ValueError, IndexError):
        raise PydanticCustomError(
            "instant", "expected an RFC 3339 instant with a zone such as 2026-12-01T18:00:00Z"
        ) from None


def _planned(_value: Any) -> None:
    raise PydanticCustomError("not_supported", "not supported by this version")


Span = Annotated[
    timedelta,
    BeforeValidator(_span),
    PlainSerializer(format_span, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(\d{1,9}[smhdw])+$"}),
]
Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    PlainSerializer(format_instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Planned = Annotated[
    None,
    BeforeValidator(_planned),
    WithJsonSchema({"not": {}, "description": "Not supported by this version."}),
    Field(default=None, exclude=True),
]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
Expression = Annotated[str, Field(min_length=1, max_length=5120)]
"""A CEL expression; compiled when the file is loaded."""


class Metadata(Model):
    """Which manifest this is."""

    name: Name
    """Unique among manifests of its kind in its namespace and source."""
    namespace: Annotated[str, Field(max_length=63, pattern=DNS_LABEL)] | None = None
    """Confines the manifest to this namespace; without it the manifest is the platform's."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Free labels for people and tools."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Free annotations for people and tools."""


class Kind(Model):
    """A manifest of one declarative kind."""

    api_version: Literal["backup.reconciler.dev/v1alpha1"]
    """Always `backup.reconciler.dev/v1alpha1`."""
    metadata: Metadata
    """Name and, for what belongs to a tenant, namespace."""

    platform_only: ClassVar[bool] = False
    """Whether only platform sources may define this kind, without a namespace."""

    @property
    def identity(self) -> str:
        """`Kind/namespace/name` or `Kind/name`, unique in a policy repository."""
        parts = [type(self).__name__, self.metadata.namespace or "", self.metadata.name]
        return "/".join(part for part in parts if part)


class LabelSelector(Model):
    """Labels that must all be present with these values."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    """Label → value."""
    match_expressions: Planned

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether `labels` satisfy this selector; an empty selector matches all."""
        return all(labels.get(key) == value for key, value in self.match_labels.items())
