"""What an API server answers, taken apart as it is needed: the items of a list, the events of a watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import msgspec

from reconciler.cluster.port import (
    ExpiredError,
    NotServedError,
    ResourceType,
    UnavailableError,
    WatchEvent,
)
from reconciler.cluster.refusal import refusal_of
from reconciler.errors import ReconcilerError
from reconciler.objects import Manifest

if TYPE_CHECKING:
    from reconciler.cluster.linestream import LineStream

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def filled(manifest: Manifest, kind: ResourceType) -> Manifest:
    """The manifest with its kind, which servers leave out of lists."""
    if "apiVersion" in manifest and "kind" in manifest:
        return manifest
    return {"apiVersion": kind.api_version, "kind": kind.kind, **manifest}


class ListText(msgspec.Struct):
    """The part of a list that is needed to take it apart."""

    metadata: dict[str, Any] = {}
    items: list[msgspec.Raw] | None = None


class Items(Sequence[Manifest]):
    """The objects of a page, decoded one by one as they are asked for: a page of large ones is no large tree."""

    def __init__(self, raws: Sequence[msgspec.Raw], kind: ResourceType, subject: str) -> None:
        self._raws = raws
        self._kind = kind
        self._subject = subject

    def __len__(self) -> int:
        return len(self._raws)

    @overload
    def __getitem__(self, at: int) -> Manifest: ...
    @overload
    def __getitem__(self, at: slice) -> Items: ...
    def __getitem__(self, at: int | slice) -> Manifest | Items:
        if isinstance(at, slice):
            return Items(self._raws[at], self._kind, self._subject)
        try:
            item = _decode_object(self._raws[at])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnavailableError(f"{self._subject}: an item of the list is no object") from error
        return filled(item, self._kind)


class OpenWatch:
    """The events of a stream of lines."""

    def __init__(self, lines: LineStream, *, kind: ResourceType, subject: str) -> None:
        self._stream = lines
        self._lines = iter(lines)
        self._kind = kind
        self._subject = subject

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> WatchEvent:
        try:
            return event_of(next(self._lines), self._kind, self._subject)
        except ReconcilerError:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        self._stream.close()


def event_of(line: bytes, kind: ResourceType, subject: str) -> WatchEvent:
    """Read a line of a watch.

    Raises:
        ExpiredError: it is an ERROR event that says that the version is too old.
        ReconcilerError: another ERROR event, or no event.
    """
    try:
        event = msgspec.json.decode(line)
        type_, object_ = event["type"], event["object"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UnavailableError(f"{subject}: the stream carries no watch event") from error
    if type_ == "ERROR":
        if object_.get("reason") in ("Expired", "Gone"):
            raise ExpiredError(f"{subject}: the resource version is too old", hint="list again")
        raise refusal_of(subject, code=int(object_.get("code") or 500), status=object_)
    if type_ not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise NotServedError(f"{subject}: unknown event {str(type_)[:32]!r}")
    return WatchEvent(type=type_, object=filled(object_, kind), size_bytes=len(line))
