"""Kubernetes' named formats: `format.dns1123Label().validate(name)` gives what is wrong, or nothing.

Rules and words are those of `k8s.io/apimachinery/pkg/api/validate/content` and of kube-openapi's `strfmt`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import ClassVar

from reconciler.cel.error import Fault
from reconciler.cel.library import urls
from reconciler.cel.library.table import Table
from reconciler.cel.values import NONE, Foreign, Frame, Optional

FORMATS = Table("format", since="1.31")
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_UUID = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE | re.ASCII
)
_CLOCK = re.compile(
    r"([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))", re.ASCII
)
_COST_TEXT_MAX = 4096
_COSTS = {"dns1123Label": 8, "dns1035Label": 8, "dns1123LabelPrefix": 8, "dns1035LabelPrefix": 8, "labelValue": 10,
          "dns1123Subdomain": 15, "dns1123SubdomainPrefix": 15, "qualifiedName": 15, "uri": 300}  # fmt: skip
"""A quarter of the length of the regular expression that Kubernetes charges for."""
Check = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Format(Foreign):
    """A named format."""

    cel_type: ClassVar[str] = "kubernetes.NamedFormat"
    name: str


def _matches(pattern: str, text: str) -> bool:
    # The patterns nest a repetition; of a text of bounded length (they are checked first) re takes linear time.
    return re.fullmatch(pattern, text, re.ASCII) is not None


def _wrong(message: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{one}', " for one in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


def _too_long(text: str, most: int, unit: str = "characters") -> list[str]:
    size = len(text.encode("utf-8", "surrogatepass"))
    return [f"must be no more than {most} {unit}"] if size > most else []


def _label(text: str) -> list[str]:
    errors = _too_long(text, 63)
    if errors and len(text) > 253:
        return errors
    if not _matches(_LABEL, text):
        if _matches(_SUBDOMAIN, text):
            return [*errors, "must not contain dots"]
        errors.append(
            _wrong(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
                "start and end with an alphanumeric character",
                _LABEL,
                "my-name",
                "123-abc",
            )
        )
    return errors


def _subdomain(text: str) -> list[str]:
    errors = _too_long(text, 253)
    if not errors and not _matches(_SUBDOMAIN, text):
        errors.append(
            _wrong(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and "
                "must start and end with an alphanumeric character",
                _SUBDOMAIN,
                "example.com",
            )
        )
    return errors


def _label_1035(text: str) -> list[str]:
    errors = _too_long(text, 63)
    if not errors and not _matches(_LABEL_1035, text):
        errors.append(
            _wrong(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
                "alphabetic character, and end with an alphanumeric character",
                _LABEL_1035,
                "my-name",
                "abc-123",
            )
        )
    return errors


def _qualified(text: str) -> list[str]:
    rule = (
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character"
    )
    examples = ("MyName", "my.name", "123-abc")
    parts = text.split("/")
    if len(parts) > 2:
        wrong = _wrong(rule, _NAME, *examples)
        return [
            f"a valid label key {wrong} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    errors: list[str] = []
    if len(parts) == 2:
        if not parts[0]:
            errors.append("prefix part must be non-empty")
        else:
            errors += [f"prefix part {one}" for one in _subdomain(parts[0])]
    name = parts[-1]
    errors += (
        ["name part must be non-empty"]
        if not name
        else [f"name part {one}" for one in _too_long(name, 63, "bytes")]
    )
    if len(name) <= _COST_TEXT_MAX and not _matches(_NAME, name):
        errors.append(f"name part {_wrong(rule, _NAME, *examples)}")
    return errors


def _label_value(text: str) -> list[str]:
    pattern = f"({_NAME})?"
    errors = _too_long(text, 63, "bytes")
    if not errors and not _matches(pattern, text):
        errors.append(
            _wrong(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
                "must start and end with an alphanumeric character",
                pattern,
                "MyValue",
                "my_value",
                "12345",
            )
        )
    return errors


def _prefix(check: Check) -> Check:
    """A name that a generated suffix will follow: a dash at its end is no error."""
    return lambda text: check(f"{text[:-2]}a" if len(text) > 1 and text.endswith("-") else text)


def _uri(text: str) -> list[str]:
    try:
        urls.read(text)
    except Fault:
        return ["invalid URI for request"]
    return []


def _simple(test: Callable[[str], bool], message: str) -> Check:
    return lambda text: [] if test(text) else [message]


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return bool(text)


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _is_datetime(text: str) -> bool:
    day, _, clock = text[:100].lower().partition("t")
    found = _CLOCK.fullmatch(clock)
    in_range = found and found[1] <= "23" and found[2] <= "59" and found[3] <= "59"
    return bool(in_range) and _is_date(day)


CHECKS: dict[str, Check] = {
    "dns1123Label": _label,
    "dns1123Subdomain": _subdomain,
    "dns1035Label": _label_1035,
    "qualifiedName": _qualified,
    "dns1123LabelPrefix": _prefix(_label),
    "dns1123SubdomainPrefix": _prefix(_subdomain),
    "dns1035LabelPrefix": _prefix(_label_1035),
    "labelValue": _label_value,
    "uri": _uri,
    "uuid": _simple(lambda text: bool(_UUID.fullmatch(text)), "does not match the UUID format"),
    "byte": _simple(_is_base64, "invalid base64"),
    "date": _simple(_is_date, "invalid date"),
    "datetime": _simple(_is_datetime, "invalid datetime"),
}


def _named(name: str) -> None:
    @FORMATS.add(f"format.{name}() -> Format")
    def make(frame: Frame) -> Format:
        return Format(name)


for _name in CHECKS:
    _named(_name)


@FORMATS.add("format.named(string) -> optional(Format)")
def _(frame: Frame, name: str) -> Optional:
    return Optional(Format(name)) if name in CHECKS else NONE


@FORMATS.add("Format.validate(string) -> optional(list(string))")
def _(frame: Frame, wanted: Format, text: str) -> Optional:
    frame.spend(((len(text) + 10) // 10) * _COSTS.get(wanted.name, 18) - 1)
    errors = CHECKS[wanted.name](text)
    return Optional(errors) if errors else NONE
