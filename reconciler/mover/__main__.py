"""`python -m reconciler.mover`: waits for an order, carries it out, says what came of it.

    python -m reconciler.mover FOLDER [RESULT]

FOLDER is kept in memory: `order` appears there (renamed into place) and is removed once read, `status` says where the
work stands. RESULT, the container's termination log, gets the last status. Exit code 0: something was saved, or all
was loaded.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.errors import ReconcilerError
from reconciler.mover.order import Fault, Order, Status, encode, read_order
from reconciler.mover.work import Work

ORDER_WITHIN_S = 600.0
ORDER_BYTES_MAX = 1 << 20
STATUS_EVERY_S = 0.5
_POLL_S = 0.05
EXIT_FAILED = 6


def main(arguments: list[str]) -> int:
    """Run one order."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write("usage: python -m reconciler.mover FOLDER [RESULT]\n")
        return 2
    folder, result = Path(arguments[0]), Path(arguments[-1]) if len(arguments) == 2 else None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _tell(folder, Status("waiting"))
    try:
        order = _take(folder, stop)
        status = _carry_out(order, folder, stop)
    except ReconcilerError as error:
        status = Status("failed", faults={"": Fault(error.reason, error.message[:256])})
    _tell(folder, status)
    if result is not None:
        result.write_bytes(encode(status))
    return 0 if status.phase == "done" else EXIT_FAILED


def _take(folder: Path, stop: threading.Event) -> Order:
    """Wait for the order, and leave nothing of it behind."""
    path = folder / "order"
    ends_at = time.monotonic() + ORDER_WITHIN_S
    while not path.exists():
        if stop.wait(_POLL_S) or time.monotonic() > ends_at:
            raise NoOrderError("wait for order: none came", hint="whoever started this has gone")
    try:
        with path.open("rb") as file:
            return read_order(file.read(ORDER_BYTES_MAX + 1))
    finally:
        path.unlink()


class NoOrderError(ReconcilerError):
    """Nobody said what to do."""


def _carry_out(order: Order, folder: Path, stop: threading.Event) -> Status:
    work = Work(order, clock=SystemClock(), stop=stop)
    over = threading.Event()

    def tell() -> None:
        while not over.wait(STATUS_EVERY_S):
            _tell(folder, work.status())

    teller = threading.Thread(target=tell, name="status", daemon=True)
    teller.start()
    try:
        return work.run()
    finally:
        over.set()
        teller.join()


def _tell(folder: Path, status: Status) -> None:
    unfinished = folder / ".status"
    unfinished.write_bytes(encode(status))
    unfinished.replace(folder / "status")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
