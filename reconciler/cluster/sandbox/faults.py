"""What tests may make go wrong, on requests chosen by method, path and count. Safe from any thread.

action             value               the matching request
`answer`           status code         is answered with a Status (`retry_after_s` adds the header)
`delay`            seconds             waits, then is served
`drop`             –                   has its connection cut without an answer
`cut`              bytes               is answered with that much of its body, then the connection is cut
`expire-watch`     events              is a watch that carries a 410 ERROR event after so many events
`exec-cut-stdin`   bytes               is an exec whose command reads end of file after so many bytes, exit code 0
`exec-cut-stdout`  bytes               is an exec that passes on so many bytes only, exit code 0
`exec-early-eof`   –                   is an exec whose stdin ends with its stdout or stderr, as containerd has it
`exec-hang`        –                   is an exec whose command ends and whose stream does not
`exec-kill-pod`    bytes either way    is an exec whose pod is killed once that much was carried
`exec-no-status`   –                   is an exec that closes without a Status frame
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal[
    "answer", "delay", "drop", "cut", "expire-watch",
    "exec-cut-stdin", "exec-cut-stdout", "exec-early-eof", "exec-hang", "exec-kill-pod", "exec-no-status",
]  # fmt: skip


@dataclass(slots=True)
class Fault:
    """One fault that waits for its request; `hits` counts the requests it met."""

    action: Action
    path: str = ""
    value: float = 0
    method: str = ""
    nth: int = 1
    times: int = 1
    retry_after_s: int | None = None
    seen: int = 0
    hits: int = 0


class Faults:
    """The faults that are set."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, action: Action, path: str = "", **how: Any) -> Fault:
        """Set a fault for the `nth` request, and the `times - 1` after it, whose `path?query` has the regex."""
        fault = Fault(action, path, **how)
        self._faults = [*self._faults, fault]
        return fault

    def clear(self) -> None:
        """Take all faults away."""
        self._faults = []

    def take(self, method: str, url: str) -> dict[str, Fault]:
        """Count a request; return the faults that it meets, by action."""
        met: dict[str, Fault] = {}
        for fault in self._faults:
            if fault.method in ("", method) and re.search(fault.path, url):
                fault.seen += 1
                if fault.nth <= fault.seen < fault.nth + fault.times:
                    fault.hits += 1
                    met.setdefault(fault.action, fault)
        return met
