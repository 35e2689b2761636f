"""Fields and indices: `m.name`, `m.?name`, `has(m.name)`, `l[0]`, `m[?"key"]`.

Selecting from an optional gives an optional; a missing key is a fault, unless it was asked for with `?`.
"""

from __future__ import annotations

from typing import Any

from reconciler.cel.error import Fault, Interrupt
from reconciler.cel.part import Place, Run
from reconciler.cel.values import (
    NONE,
    Frame,
    Optional,
    Uint,
    find,
    no_overload,
    shown_type,
)

_MISSING = object()


def field(operand: Run, name: str, place: Place) -> Run:
    """`operand.name`."""

    def run(frame: Frame) -> Any:
        container = operand(frame)
        frame.left -= 1
        try:
            if type(container) is dict:
                return container[name]
            return _field(container, name)
        except KeyError:
            raise _at(place, Fault(f"no such key: {name!r}")) from None
        except Interrupt as error:
            raise _at(place, error) from None

    return run


def _at(place: Place, error: Interrupt) -> Interrupt:
    if error.place is None:
        error.place = place
    return error


def _field(container: Any, name: str) -> Any:
    if isinstance(container, dict):
        return container[name]
    if type(container) is Optional:
        return maybe_field(container, name)
    raise Fault(f"no field {name!r} in a value of type {shown_type(container)}")


def maybe_field(container: Any, name: str) -> Optional:
    """`container.?name`: the optional of what is there.

    Raises:
        Fault: a value of this type has no fields.
    """
    if type(container) is Optional:
        return maybe_field(container.value, name) if container.is_present else NONE
    if not isinstance(container, dict):
        raise Fault(f"no field {name!r} in a value of type {shown_type(container)}")
    value = container.get(name, _MISSING)
    return NONE if value is _MISSING else Optional(value)


def has_field(container: Any, name: str) -> bool:
    """`has(container.name)`; null is a value.

    Raises:
        Fault: a value of this type has no fields.
    """
    if type(container) is Optional:
        return container.is_present and has_field(container.value, name)
    if not isinstance(container, dict):
        raise Fault(f"no field {name!r} in a value of type {shown_type(container)}")
    return name in container


def item(container: Any, key: Any, *, shown: str = "") -> Any:
    """`container[key]`. A key is named in a fault only as `shown`: one that was computed may be secret.

    Raises:
        Fault: there is no such item, or nothing of this type has items.
    """
    kind = type(container)
    if isinstance(container, dict):
        if type(key) is str:
            value = container.get(key, _MISSING)
        else:
            value = find(container, key, _MISSING)
        if value is _MISSING:
            raise Fault(f"no such key: {shown}" if shown else "no such key")
        return value
    if kind is list:
        at = _position(container, key)
        if not 0 <= at < len(container):
            raise Fault(f"index {at} is out of range for a list of {len(container)}")
        return container[at]
    if kind is Optional:
        return maybe_item(container, key)
    raise no_overload("[]", container, key)


def maybe_item(container: Any, key: Any) -> Optional:
    """`container[?key]`: the optional of what is there.

    Raises:
        Fault: nothing of this type has items, or a key of this type.
    """
    if type(container) is Optional:
        return maybe_item(container.value, key) if container.is_present else NONE
    if isinstance(container, dict):
        value = find(container, key, _MISSING)
        return NONE if value is _MISSING else Optional(value)
    if type(container) is list:
        at = _position(container, key)
        return Optional(container[at]) if 0 <= at < len(container) else NONE
    raise no_overload("[?]", container, key)


def _position(container: Any, key: Any) -> int:
    kind = type(key)
    if kind is int or kind is Uint:
        return int(key)
    if kind is float and key.is_integer():
        return int(key)
    raise no_overload("[]", container, key)
