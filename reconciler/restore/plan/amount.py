"""Kubernetes quantities, such as `500m` or `10Gi`, as exact numbers.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{letter}i": power for power, letter in enumerate("KMGTPE", start=1)}


def amount(quantity: Any) -> Decimal:
    """Read a quantity; 0 for what is none, because a server has checked what was captured."""
    found = _FORM.fullmatch(str(quantity).strip())
    if found is None:
        return Decimal(0)
    number, exponent, suffix = found.groups()
    value = Decimal(number + (exponent or ""))
    if suffix in _BINARY:
        return value * Decimal(1024) ** _BINARY[suffix]
    return value.scaleb(_DECIMAL[suffix]) if suffix else value


def written(value: Decimal, like: str) -> str:
    """Write a sum for people: bytes as `1.5Gi` when `like` is a binary quantity, else as a plain number."""
    if like.endswith("i"):
        for suffix, power in reversed(_BINARY.items()):
            if abs(value) >= 1024**power:
                return f"{round(value / 1024**power, 2).normalize():f}{suffix}"
    return f"{value.normalize():f}"
