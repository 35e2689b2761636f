"""cel-go's math library. Kubernetes 1.36 does not have it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from reconciler.cel.error import Fault
from reconciler.cel.library.table import OURS, Table
from reconciler.cel.values import UINT_MAX, Frame, Uint, no_overload, whole

MATH = Table("math", since=OURS)
_NUMBERS = (int, Uint, float)
_COUNT_MAX = 8
"""`math.greatest` takes so many numbers, or a list."""


def _pick(name: str, is_better: Callable[[Any, Any], bool]) -> None:
    def run(frame: Frame, *values: Any) -> Any:
        items = values[0] if len(values) == 1 and type(values[0]) is list else values
        frame.spend(len(items))
        if not items:
            raise Fault(f"math.{name} of an empty list")
        best = items[0]
        for item in items:
            if type(item) not in _NUMBERS:
                raise no_overload(f"math.{name}", item)
            best = item if is_better(item, best) else best
        return best

    for kind in ("int", "uint", "double"):
        MATH.add(f"math.{name}({kind}) -> {kind}", f"math.{name}(list({kind})) -> {kind}")(run)
        MATH.add(f"math.{name}({kind}, {kind}) -> {kind}")(run)
    for count in range(2, _COUNT_MAX + 1):
        MATH.add(f"math.{name}({', '.join(['dyn'] * count)}) -> dyn")(run)


_pick("greatest", lambda one, other: one > other)
_pick("least", lambda one, other: one < other)


def _rounding(name: str, round_one: Callable[[float], float]) -> None:
    @MATH.add(f"math.{name}(double) -> double")
    def run(frame: Frame, value: float) -> float:
        return float(round_one(value)) if math.isfinite(value) else value


_rounding("ceil", math.ceil)
_rounding("floor", math.floor)
_rounding("trunc", math.trunc)
_rounding("round", lambda value: math.copysign(math.floor(abs(value) + 0.5), value))


@MATH.add("math.isInf(double) -> bool")
def _(frame: Frame, value: float) -> bool:
    return math.isinf(value)


@MATH.add("math.isNaN(double) -> bool")
def _(frame: Frame, value: float) -> bool:
    return math.isnan(value)


@MATH.add("math.isFinite(double) -> bool")
def _(frame: Frame, value: float) -> bool:
    return math.isfinite(value)


@MATH.add("math.abs(int) -> int")
def _(frame: Frame, value: int) -> int:
    return whole(abs(value))


@MATH.add("math.abs(uint) -> uint")
def _(frame: Frame, value: Uint) -> Uint:
    return value


@MATH.add("math.abs(double) -> double")
def _(frame: Frame, value: float) -> float:
    return abs(value)


@MATH.add("math.sign(int) -> int")
def _(frame: Frame, value: int) -> int:
    return (value > 0) - (value < 0)


@MATH.add("math.sign(uint) -> uint")
def _(frame: Frame, value: Uint) -> Uint:
    return Uint(value > 0)


@MATH.add("math.sign(double) -> double")
def _(frame: Frame, value: float) -> float:
    return value if math.isnan(value) or value == 0 else math.copysign(1.0, value)


@MATH.add("math.sqrt(int) -> double", "math.sqrt(uint) -> double", "math.sqrt(double) -> double")
def _(frame: Frame, value: Any) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


def _bits(name: str, combine: Callable[[int, int], int]) -> None:
    @MATH.add(f"math.{name}(int, int) -> int")
    def signed(frame: Frame, left: int, right: int) -> int:
        return combine(left, right)

    @MATH.add(f"math.{name}(uint, uint) -> uint")
    def unsigned(frame: Frame, left: Uint, right: Uint) -> Uint:
        return Uint(combine(int(left), int(right)))


_bits("bitAnd", lambda left, right: left & right)
_bits("bitOr", lambda left, right: left | right)
_bits("bitXor", lambda left, right: left ^ right)


@MATH.add("math.bitNot(int) -> int")
def _(frame: Frame, value: int) -> int:
    return ~value


@MATH.add("math.bitNot(uint) -> uint")
def _(frame: Frame, value: Uint) -> Uint:
    return Uint(~int(value) & UINT_MAX)


def _signed(value: int) -> int:
    value &= UINT_MAX
    return value - 2**64 if value >= 2**63 else value


def _shift(name: str, move: Callable[[int, int], int]) -> None:
    def checked(value: int, count: int) -> int:
        if count < 0:
            raise Fault(f"math.{name} by a negative count")
        return 0 if count > 63 else move(value & UINT_MAX, count)

    @MATH.add(f"math.{name}(int, int) -> int")
    def signed(frame: Frame, value: int, count: int) -> int:
        return _signed(checked(value, count))

    @MATH.add(f"math.{name}(uint, int) -> uint")
    def unsigned(frame: Frame, value: Uint, count: int) -> Uint:
        return Uint(checked(int(value), count) & UINT_MAX)


_shift("bitShiftLeft", lambda value, count: value << count)
_shift("bitShiftRight", lambda value, count: value >> count)
