"""Optional values; `optMap` and `optFlatMap` are macros."""

from __future__ import annotations

from typing import Any

from reconciler.cel.error import Fault
from reconciler.cel.library.table import Table
from reconciler.cel.moments import Duration, Timestamp
from reconciler.cel.values import NONE, Frame, Optional

OPTIONALS = Table("optionals", since="1.28")


@OPTIONALS.add("optional.of(A) -> optional(A)")
def _(frame: Frame, value: Any) -> Optional:
    return Optional(value)


@OPTIONALS.add("optional.none() -> optional(A)")
def _(frame: Frame) -> Optional:
    return NONE


@OPTIONALS.add("optional.ofNonZeroValue(A) -> optional(A)")
def _(frame: Frame, value: Any) -> Optional:
    if isinstance(value, Duration):
        return Optional(value) if value.nanos else NONE
    if isinstance(value, Timestamp):
        return Optional(value)
    if isinstance(value, Optional):
        return Optional(value) if value.is_present else NONE
    is_plain = value is None or isinstance(value, (bool, int, float, str, bytes, list, dict))
    return Optional(value) if not is_plain or value else NONE


@OPTIONALS.add("optional(A).hasValue() -> bool")
def _(frame: Frame, value: Optional) -> bool:
    return value.is_present


@OPTIONALS.add("optional(A).value() -> A")
def _(frame: Frame, value: Optional) -> Any:
    if not value.is_present:
        raise Fault("value() of an optional that holds nothing")
    return value.value


@OPTIONALS.add("optional(A).or(optional(A)) -> optional(A)")
def _(frame: Frame, value: Optional, other: Optional) -> Optional:
    return value if value.is_present else other


@OPTIONALS.add("optional(A).orValue(A) -> A")
def _(frame: Frame, value: Optional, other: Any) -> Any:
    return value.value if value.is_present else other


@OPTIONALS.add("optional.unwrap(list(optional(A))) -> list(A)", since="1.32")
@OPTIONALS.add("list(optional(A)).unwrapOpt() -> list(A)", since="1.32")
def _(frame: Frame, items: list[Any]) -> list[Any]:
    frame.spend(len(items))
    if not all(type(item) is Optional for item in items):
        raise Fault("unwrap needs a list of optionals")
    return [item.value for item in items if item.is_present]
