"""Lists: Kubernetes' own library, cel-go's (version 3, since Kubernetes 1.34), and sets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from reconciler.cel.error import Fault
from reconciler.cel.library.table import Table
from reconciler.cel.moments import Duration, Timestamp, duration
from reconciler.cel.operators import contains, equal
from reconciler.cel.values import NONE as NOTHING
from reconciler.cel.values import Frame, Optional, Uint, no_overload, unsigned, whole

LISTS = Table("lists", since="1.23")
SLICES = Table("cel-go lists", since="1.34")
SETS = Table("sets", since="1.29")
_ORDERED = (int, Uint, float, bool, str, bytes, Timestamp, Duration)
_NUMBERS = (int, Uint, float)


def _comparable(name: str, items: list[Any]) -> None:
    kinds = {type(item) for item in items}
    is_one = len(kinds) <= 1 or kinds <= set(_NUMBERS)
    if not is_one or not all(kind in _ORDERED for kind in kinds):
        raise no_overload(name, items)


@LISTS.add("list(A).isSorted() -> bool")
def _(frame: Frame, items: list[Any]) -> bool:
    frame.spend(len(items))
    _comparable("isSorted", items)
    return all(one <= other for one, other in pairwise(items))


@LISTS.add("list(A).min() -> A")
def _(frame: Frame, items: list[Any]) -> Any:
    return _extreme(frame, "min", items, min)


@LISTS.add("list(A).max() -> A")
def _(frame: Frame, items: list[Any]) -> Any:
    return _extreme(frame, "max", items, max)


def _extreme(frame: Frame, name: str, items: list[Any], pick: Callable[[list[Any]], Any]) -> Any:
    frame.spend(len(items))
    if not items:
        raise Fault(f"{name} of an empty list")
    _comparable(name, items)
    return pick(items)


@LISTS.add("list(A).sum() -> A")
def _(frame: Frame, items: list[Any]) -> Any:
    frame.spend(len(items))
    if not items:
        return 0
    kinds = {type(item) for item in items}
    kind = kinds.pop()
    if kinds or kind not in (*_NUMBERS, Duration):
        raise no_overload("sum", items)
    if kind is Duration:
        total = 0
        for item in items:
            total = duration(total + item.nanos).nanos
        return Duration(total)
    if kind is float:
        added = 0.0
        for item in items:
            added += item
        return added
    check = whole if kind is int else unsigned
    count = 0
    for item in items:
        count = check(count + int(item))
    return check(count)


@LISTS.add("list(A).indexOf(A) -> int")
def _(frame: Frame, items: list[Any], wanted: Any) -> int:
    for at, item in enumerate(items):
        frame.spend(1)
        if equal(frame, item, wanted):
            return at
    return -1


@LISTS.add("list(A).lastIndexOf(A) -> int")
def _(frame: Frame, items: list[Any], wanted: Any) -> int:
    for at in range(len(items) - 1, -1, -1):
        frame.spend(1)
        if equal(frame, items[at], wanted):
            return at
    return -1


@SLICES.add("list(A).slice(int, int) -> list(A)")
def _(frame: Frame, items: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(items):
        raise Fault(f"cannot slice {start}..{end} of a list of {len(items)}")
    frame.fit(end - start)
    return items[start:end]


@SLICES.add("list(A).flatten() -> list(dyn)")
def _(frame: Frame, items: list[Any]) -> list[Any]:
    return _flatten(frame, items, 1)


@SLICES.add("list(A).flatten(int) -> list(dyn)")
def _flatten(frame: Frame, items: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise Fault("flatten needs a depth that is not negative")
    made = items
    for _ in range(min(depth, 64)):
        deeper: list[Any] = []
        changed = False
        for item in made:
            is_list = type(item) is list
            frame.spend(1 + (len(item) if is_list else 0))
            changed = changed or is_list
            deeper.extend(item if is_list else (item,))
        made = deeper
        frame.fit(len(made))
        if not changed:
            break
    return list(made)


@SLICES.add("lists.range(int) -> list(int)")
def _(frame: Frame, count: int) -> list[int]:
    frame.fit(max(0, count))
    frame.spend(max(0, count))
    return list(range(count))


@SLICES.add("list(A).reverse() -> list(A)")
def _(frame: Frame, items: list[Any]) -> list[Any]:
    frame.spend(len(items))
    return items[::-1]


@SLICES.add("list(A).distinct() -> list(A)")
def _(frame: Frame, items: list[Any]) -> list[Any]:
    made: list[Any] = []
    texts: set[str] = set()
    for item in items:
        frame.spend(1)
        if type(item) is str:
            if item not in texts:
                texts.add(item)
                made.append(item)
        elif not any(equal(frame, item, each) for each in made):
            made.append(item)
            frame.spend(len(made))
    return made


def ordered(
    frame: Frame, items: list[Any], *, key: Callable[[Any], Any] = lambda item: item
) -> list[Any]:
    """Items in ascending order of their keys, which must be of one type.

    Raises:
        Fault: they are not, or have no order.
    """
    keys = [key(item) for item in items]
    if len({type(one) for one in keys}) > 1 or not all(type(one) in _ORDERED for one in keys):
        raise no_overload("sort", keys)
    frame.spend(len(items) * max(1, len(items).bit_length()))
    return sorted(items, key=key)


@SLICES.add("list(A).sort() -> list(A)")
def _(frame: Frame, items: list[Any]) -> list[Any]:
    return ordered(frame, items)


@SLICES.add("list(A).first() -> optional(A)")
def _(frame: Frame, items: list[Any]) -> Optional:
    return Optional(items[0]) if items else NOTHING


@SLICES.add("list(A).last() -> optional(A)")
def _(frame: Frame, items: list[Any]) -> Optional:
    return Optional(items[-1]) if items else NOTHING


@SETS.add("sets.contains(list(A), list(A)) -> bool")
def _contains(frame: Frame, items: list[Any], wanted: list[Any]) -> bool:
    frame.spend(len(items) * len(wanted) // 4)
    return all(contains(frame, one, items) for one in wanted)


@SETS.add("sets.equivalent(list(A), list(A)) -> bool")
def _(frame: Frame, left: list[Any], right: list[Any]) -> bool:
    return _contains(frame, left, right) and _contains(frame, right, left)


@SETS.add("sets.intersects(list(A), list(A)) -> bool")
def _(frame: Frame, left: list[Any], right: list[Any]) -> bool:
    frame.spend(len(left) * len(right) // 4)
    return any(contains(frame, one, left) for one in right)
