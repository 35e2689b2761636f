"""cel-go's encoders library. Kubernetes 1.36 does not have it; values of Secrets need it."""

from __future__ import annotations

import base64
import binascii

from reconciler.cel.error import Fault
from reconciler.cel.library.table import OURS, Table, traversal
from reconciler.cel.values import Frame

ENCODERS = Table("encoders", since=OURS)


@ENCODERS.add("base64.encode(bytes) -> string")
def _(frame: Frame, value: bytes) -> str:
    traversal(frame, len(value))
    frame.fit(len(value) * 4 // 3 + 4)
    return base64.b64encode(value).decode()


@ENCODERS.add("base64.decode(string) -> bytes")
def _(frame: Frame, text: str) -> bytes:
    traversal(frame, len(text))
    frame.fit(len(text))
    bare = text.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(
            bare.rstrip("=") + "=" * (-len(bare.rstrip("=")) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        raise Fault("this string is no base64") from None
