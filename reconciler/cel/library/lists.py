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
_NEW = 10
"""What a new list costs. Sorting and `distinct` cost twice the square of the size, as in cel-go."""


def _walk(frame: Frame, items: list[Any]) -> None:
    """Pay for walking over a list: a unit an item, a tenth for each character of text."""
    texts = sum(len(item) for item in items if type(item) is str)
    others = sum(type(item) is not str for item in items)
    frame.spend(max(0, others + texts // 10 - 1))


def _comparable(name: str, items: list[Any]) -> None:
    kinds = {type(item) for item in items}
    is_one = len(kinds) <= 1 or kinds <= set(_NUMBERS)
    if not is_one or not all(kind in _ORDERED for kind in kinds):
        raise no_overload(name, items)


@LISTS.add("list(A).isSorted() -> bool")
def _(frame: Frame, items: list[Any]) -> bool:
    _walk(frame, items)
    _comparable("isSorted", items)
    return all(one <= other for one, other in pairwise(items))


@LISTS.add("list(A).min() -> A")
def _(frame: Frame, items: list[Any]) -> Any:
    return _extreme(frame, "min", items, min)


@LISTS.add("list(A).max() -> A")
def _(frame: Frame, items: list[Any]) -> Any:
    return _extreme(frame, "max", items, max)


def _extreme(frame: Frame, name: str, items: list[Any], pick: Callable[[list[Any]], Any]) -> Any:
    _walk(frame, items)
    if not items:
        raise Fault(f"{name} of an empty list")
    _comparable(name, items)
    return pick(items)


@LISTS.add("list(A).sum() -> A")
def _(frame: Frame, items: list[Any]) -> Any:
    _walk(frame, items)
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
    _walk(frame, items)
    for at, item in enumerate(items):
        frame.left += 1  # `equal` takes a unit, the walk has paid
        if equal(frame, item, wanted):
            return at
    return -1


@LISTS.add("list(A).lastIndexOf(A) -> int")
def _(frame: Frame, items: list[Any], wanted: Any) -> int:
    _walk(frame, items)
    for at in range(len(items) - 1, -1, -1):
        frame.left += 1
        if equal(frame, items[at], wanted):
            return at
    return -1


@SLICES.add("list(A).slice(int, int) -> list(A)")
def _(frame: Frame, items: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(items):
        raise Fault(f"cannot slice {start}..{end} of a list of {len(items)}")
    frame.fit(end - start)
    frame.spend(_NEW + end - start)
    return items[start:end]


@SLICES.add("list(A).flatten() -> list(dyn)")
def _(frame: Frame, items: list[Any]) -> list[Any]:
    return _flatten(frame, items, 1)


@SLICES.add("list(A).flatten(int) -> list(dyn)")
def _flatten(frame: Frame, items: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise Fault("flatten needs a depth that is not negative")
    frame.spend(_NEW + len(items) * min(depth, 64))
    made = items
    for _ in range(min(depth, 64)):
        deeper: list[Any] = []
        changed = False
        for item in made:
            is_list = type(item) is list
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
    frame.spend(_NEW + max(0, count))
    return list(range(count))


@SLICES.add("list(A).reverse() -> list(A)")
def _(frame: Frame, items: list[Any]) -> list[Any]:
    frame.spend(_NEW + len(items))
    return items[::-1]


@SLICES.add("list(A).distinct() -> list(A)")
def _(frame: Frame, items: list[Any]) -> list[Any]:
    made: list[Any] = []
    texts: set[str] = set()
    frame.spend(_NEW + 2 * len(items) ** 2)
    for item in items:
        if type(item) is str:
            if item not in texts:
                texts.add(item)
                made.append(item)
        elif not any(equal(frame, item, each) for each in made):
            made.append(item)
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
    frame.spend(_NEW + 2 * len(items) ** 2)
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
    frame.spend(len(items) * len(wanted))
    return _covers(frame, items, wanted)


def _covers(frame: Frame, items: list[Any], wanted: list[Any]) -> bool:
    before = frame.left
    found = all(contains(frame, one, items) for one in wanted)
    frame.left = before  # what `contains` took has been paid as a whole
    return found


@SETS.add("sets.equivalent(list(A), list(A)) -> bool")
def _(frame: Frame, left: list[Any], right: list[Any]) -> bool:
    frame.spend(2 * len(left) * len(right))
    return _covers(frame, left, right) and _covers(frame, right, left)


@SETS.add("sets.intersects(list(A), list(A)) -> bool")
def _(frame: Frame, left: list[Any], right: list[Any]) -> bool:
    frame.spend(len(left) * len(right))
    before = frame.left
    found = any(contains(frame, one, left) for one in right)
    frame.left = before
    return found
