"""Kubernetes' quantities: `100m`, `1Ki`, `1e3`, as `k8s.io/apimachinery/pkg/api/resource` reads and adds them.

A quantity is `mantissa * 10**scale`. `is_fast` says whether Go keeps it as an int64: only those are integers for
`isInteger`, and of them only such with a scale of 0 or more, so `1000m` is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from reconciler.cel.error import Fault
from reconciler.cel.library.table import Table, traversal
from reconciler.cel.values import INT_MAX, INT_MIN, Foreign, Frame

QUANTITIES = Table("quantity", since="1.29")
_TEXT_MAX = 200
_QUANTITY = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?([a-zA-Z]*)([+-]?\d*)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_NANO = -9
_FACTORS_MAX = 18
_EXPONENT_MAX = 400


@dataclass(frozen=True, slots=True, eq=False)
class Quantity(Foreign):
    """An amount; equal when the amounts are."""

    cel_type: ClassVar[str] = "kubernetes.Quantity"
    mantissa: int
    scale: int
    is_fast: bool

    def at(self, scale: int) -> int:
        """The mantissa at a scale that is not above this one's."""
        return self.mantissa * int(10 ** (self.scale - scale))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and compare(self, other) == 0

    def __hash__(self) -> int:
        return hash(Decimal(self.mantissa).scaleb(self.scale).normalize())

    @property
    def integer(self) -> int | None:
        """The int64 that it is for Go, else None."""
        if not self.is_fast or self.scale < 0:
            return None
        value = self.at(0)
        return value if INT_MIN <= value <= INT_MAX else None


def read(text: str) -> Quantity:
    """Read a quantity.

    Raises:
        Fault: it is none.
    """
    found = _QUANTITY.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if found is None or not (found[2] or found[3]):
        raise Fault("this string is no quantity such as 500m or 1Gi")
    sign, whole, fraction, suffix, power = found.groups()
    whole, fraction = whole.lstrip("0") or "0", fraction or ""
    digits = len(whole) + len(fraction)
    mantissa = int(whole + fraction) * (-1 if sign == "-" else 1)
    if suffix in ("e", "E") and power:
        exponent = int(power)
        if abs(exponent) > _EXPONENT_MAX:
            raise Fault("this string is no quantity such as 500m or 1Gi")
    elif power or (suffix not in _DECIMAL and suffix not in _BINARY):
        raise Fault("this string is no quantity such as 500m or 1Gi")
    elif suffix in _BINARY:
        bits = _BINARY[suffix]
        precision = 15 - len(whole) - int(bits * 3 / 10) - 1
        mantissa <<= bits
        is_fast = not fraction and precision >= 0
        amount = _rounded(mantissa, -len(fraction), is_fast=is_fast)
        if not is_fast and abs(amount.mantissa) > INT_MAX * 10**-amount.scale:
            return Quantity(INT_MAX if mantissa > 0 else -INT_MAX, 0, is_fast=False)
        return amount
    else:
        exponent = _DECIMAL[suffix]
    scale = exponent - len(fraction)
    is_fast = digits <= _FACTORS_MAX and scale >= _NANO
    return _rounded(mantissa, scale, is_fast=is_fast)


def _rounded(mantissa: int, scale: int, *, is_fast: bool) -> Quantity:
    """No smaller parts than nano: away from zero."""
    if scale >= _NANO:
        return Quantity(mantissa, scale, is_fast)
    part = int(10 ** (_NANO - scale))
    whole = -(-abs(mantissa) // part)
    return Quantity(-whole if mantissa < 0 else whole, _NANO, is_fast=False)


def compare(left: Quantity, right: Quantity) -> int:
    """-1, 0 or 1."""
    scale = min(left.scale, right.scale)
    one, other = left.at(scale), right.at(scale)
    return (one > other) - (one < other)


def _sum(left: Quantity, right: Quantity, sign: int) -> Quantity:
    scale = min(left.scale, right.scale)
    mantissa = left.at(scale) + sign * right.at(scale)
    fits = all(INT_MIN <= one <= INT_MAX for one in (left.at(scale), right.at(scale), mantissa))
    return Quantity(mantissa, scale, left.is_fast and right.is_fast and fits)


@QUANTITIES.add("quantity(string) -> Quantity")
def _(frame: Frame, text: str) -> Quantity:
    traversal(frame, len(text))
    return read(text)


@QUANTITIES.add("isQuantity(string) -> bool")
def _(frame: Frame, text: str) -> bool:
    traversal(frame, len(text))
    try:
        read(text)
    except Fault:
        return False
    return True


@QUANTITIES.add("Quantity.sign() -> int", "sign(Quantity) -> int")
def _(frame: Frame, value: Quantity) -> int:
    return (value.mantissa > 0) - (value.mantissa < 0)


@QUANTITIES.add("Quantity.isInteger() -> bool")
def _(frame: Frame, value: Quantity) -> bool:
    return value.integer is not None


@QUANTITIES.add("Quantity.asInteger() -> int")
def _(frame: Frame, value: Quantity) -> int:
    if value.integer is None:
        raise Fault("this quantity is no integer of 64 bits")
    return value.integer


@QUANTITIES.add("Quantity.asApproximateFloat() -> double")
def _(frame: Frame, value: Quantity) -> float:
    try:
        return float(Decimal(value.mantissa).scaleb(value.scale))
    except OverflowError:
        return float("inf") if value.mantissa > 0 else float("-inf")


@QUANTITIES.add("Quantity.isGreaterThan(Quantity) -> bool")
def _(frame: Frame, left: Quantity, right: Quantity) -> bool:
    return compare(left, right) > 0


@QUANTITIES.add("Quantity.isLessThan(Quantity) -> bool")
def _(frame: Frame, left: Quantity, right: Quantity) -> bool:
    return compare(left, right) < 0


@QUANTITIES.add("Quantity.compareTo(Quantity) -> int")
def _(frame: Frame, left: Quantity, right: Quantity) -> int:
    return compare(left, right)


@QUANTITIES.add("Quantity.add(Quantity) -> Quantity")
def _(frame: Frame, left: Quantity, right: Quantity) -> Quantity:
    return _sum(left, right, 1)


@QUANTITIES.add("Quantity.add(int) -> Quantity")
def _(frame: Frame, left: Quantity, right: int) -> Quantity:
    return _sum(left, Quantity(right, 0, is_fast=True), 1)


@QUANTITIES.add("Quantity.sub(Quantity) -> Quantity")
def _(frame: Frame, left: Quantity, right: Quantity) -> Quantity:
    return _sum(left, right, -1)


@QUANTITIES.add("Quantity.sub(int) -> Quantity")
def _(frame: Frame, left: Quantity, right: int) -> Quantity:
    return _sum(left, Quantity(right, 0, is_fast=True), -1)
