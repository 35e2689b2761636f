"""Read a source once and give it to several readers at the same time.

Each reader runs in its own thread behind a short queue, so memory is bounded whatever the length, and the slowest
sets the pace. A reader that fails drops out and the others go on; a source that fails fails in every reader.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

from reconciler.errors import ReconcilerError

T = TypeVar("T")
Reader = Callable[[Iterator[bytes]], T]
DEPTH = 8
_POLL_S = 0.2


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class _Feed(Generic[T]):
    """One reader with its queue and its thread."""

    def __init__(self, reader: Reader[T]) -> None:
        self._reader = reader
        self._queue: Queue[bytes | _End] = Queue(DEPTH)
        self._over = threading.Event()
        self.outcome: T | BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fanout", daemon=True)
        self._thread.start()

    def put(self, item: bytes | _End) -> bool:
        """Hand on a piece; False once the reader is over."""
        while not self._over.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except Full:
                continue
            return True
        return False

    def wait(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            self.outcome = self._reader(self._pieces())
        except BaseException as error:  # noqa: BLE001  handed to the caller as the reader's outcome
            self.outcome = error
        finally:
            self._over.set()

    def _pieces(self) -> Iterator[bytes]:
        while True:
            try:
                item = self._queue.get(timeout=_POLL_S)
            except Empty:
                continue
            if isinstance(item, _End):
                if item.error:
                    raise item.error
                return
            yield item


def fan_out(source: Iterator[bytes], readers: Sequence[Reader[T]]) -> list[T | ReconcilerError]:
    """Feed `source` to all readers; give back each one's result or its expected error, in their order.

    The source is closed, when it can be, also if nobody read it to its end.

    Raises:
        ReconcilerError: the source failed.
    """
    try:
        return [_alone(source, readers[0])] if len(readers) == 1 else _together(source, readers)
    finally:
        if isinstance(source, Generator):
            source.close()


def _together(source: Iterator[bytes], readers: Sequence[Reader[T]]) -> list[T | ReconcilerError]:
    feeds = [_Feed(reader) for reader in readers]
    failure: BaseException | None = None
    try:
        for piece in source:
            is_taken = [feed.put(piece) for feed in feeds]
            if not any(is_taken):
                break
    except BaseException as error:  # noqa: BLE001  raised again below, when the readers have ended
        failure = error
    for feed in feeds:
        feed.put(_End(failure))
    for feed in feeds:
        feed.wait()
    if failure:
        raise failure
    return [_expected(feed.outcome) for feed in feeds]


def _expected(outcome: T | BaseException | None) -> T | ReconcilerError:
    if isinstance(outcome, BaseException) and not isinstance(outcome, ReconcilerError):
        raise outcome
    return outcome  # type: ignore[return-value]


class _SourceFailedError(Exception):
    """Carries a failure of the source past the reader."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


def _alone(source: Iterator[bytes], reader: Reader[T]) -> T | ReconcilerError:
    def guarded() -> Iterator[bytes]:
        try:
            yield from source
        except ReconcilerError as error:
            raise _SourceFailedError(error) from error

    try:
        return reader(guarded())
    except _SourceFailedError as failed:
        raise failed.cause from None
    except ReconcilerError as error:
        return error
