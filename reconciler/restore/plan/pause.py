"""One thing that stands still while a restore goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reconciler.objects import ObjectKey


@dataclass(frozen=True, order=True)
class Pause:
    """A CronJob that is suspended (no `replicas`), or a workload that is scaled to zero."""

    key: ObjectKey
    replicas: int | None = None
    """How many it has, and gets back."""
    note: str = ""

    @property
    def item(self) -> str:
        """What an outcome calls it."""
        return f"pause/{self.key.path}"

    @property
    def how(self) -> str:
        """What is done to it, for people."""
        if self.replicas is None:
            return "suspended"
        return f"scaled from {self.replicas} to 0"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        shown = {"object": self.key.path, "how": self.how}
        return {**shown, "note": self.note} if self.note else shown
