"""The one versioned dictionary: every write gets the next resourceVersion and goes to a bounded log.

Only the server's event loop touches it. A stored manifest is never changed, only replaced, so that a
snapshot of a list is a list of entries and a page is a join of texts already encoded.
"""

from __future__ import annotations

import re
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from reconciler.cluster.sandbox.catalog import Bucket
from reconciler.cluster.sandbox.status import StatusError
from reconciler.objects import Manifest
from reconciler.objects import field as follow

Match = Callable[[Manifest], bool]
_LOG_EVENTS = 20_000
_TOKENS = 100
_TERM = r"\s*(!?)\s*([\w./-]+)\s*(?:(==?|!=)\s*([\w.-]*)|(in|notin)\s*\(([^)]*)\))?\s*"
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One state of one object, with its texts by apiVersion."""

    bucket: Bucket
    manifest: Manifest
    texts: dict[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        metadata = self.manifest["metadata"]
        return metadata.get("namespace", ""), metadata["name"]

    @property
    def uid(self) -> str:
        """The object's uid."""
        return str(self.manifest["metadata"]["uid"])

    @property
    def owners(self) -> list[Manifest]:
        """Its owner references."""
        return self.manifest["metadata"].get("ownerReferences") or []

    @property
    def is_ending(self) -> bool:
        """Whether it was deleted and something holds it."""
        return "deletionTimestamp" in self.manifest["metadata"]

    def thaw(self) -> Manifest:
        """A copy that may be changed."""
        copy: Manifest = msgspec.json.decode(encode(self.manifest))
        return copy

    def text(self, api_version: str) -> bytes:
        """The object as JSON at one of its versions: apiVersion is rewritten, nothing else."""
        if (text := self.texts.get(api_version)) is None:
            text = self.texts[api_version] = encode(self.manifest | {"apiVersion": api_version})
        return text


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One line of the log; `before` is the object's previous state."""

    version: int
    entry: Entry
    before: Entry | None
    removed: bool = False

    def seen_by(self, match: Match) -> str | None:
        """What a watch with a selector is told: ADDED, MODIFIED, DELETED or nothing."""
        was = self.before is not None and match(self.before.manifest)
        now = not self.removed and match(self.entry.manifest)
        return {(0, 1): "ADDED", (1, 1): "MODIFIED", (1, 0): "DELETED"}.get((was, now))


class State:
    """All objects, their log, and the snapshots that continue tokens point into."""

    def __init__(self) -> None:
        self.version = self.oldest = 1
        self.log: deque[Event] = deque(maxlen=_LOG_EVENTS)
        self.listeners: list[Callable[[Event], None]] = []
        self.by_uid: dict[str, Entry] = {}
        self.dependents: dict[str, dict[str, None]] = {}
        self._snapshots: dict[str, tuple[list[Entry], int]] = {}
        self._buckets: dict[Bucket, dict[tuple[str, str], Entry]] = {}

    def get(self, bucket: Bucket, namespace: str, name: str) -> Entry | None:
        """One object's present state."""
        return self._buckets.get(bucket, {}).get((namespace, name))

    def select(
        self, bucket: Bucket, namespace: str = "", match: Match | None = None
    ) -> list[Entry]:
        """The objects of a bucket (and namespace), sorted by key."""
        everything = self._buckets.get(bucket, {})
        entries = [everything[k] for k in sorted(everything) if namespace in ("", k[0])]
        return [e for e in entries if match(e.manifest)] if match else entries

    def everywhere(self, namespace: str) -> Iterator[Entry]:
        """Every namespaced object of a namespace."""
        for bucket in list(self._buckets):
            yield from self.select(bucket, namespace)

    def put(self, bucket: Bucket, manifest: Manifest) -> Entry:
        """Store a manifest, which from now on belongs to the state."""
        entry = self._next(bucket, manifest)
        before = self._buckets.setdefault(bucket, {}).get(entry.key)
        self._buckets[bucket][entry.key] = self.by_uid[entry.uid] = entry
        self._tell(Event(self.version, entry, before))
        return entry

    def remove(self, entry: Entry) -> Manifest:
        """Take an object away; returns its last state, with the version of its end."""
        last = self._next(entry.bucket, entry.thaw())
        del self._buckets[entry.bucket][entry.key]
        del self.by_uid[entry.uid]
        self._tell(Event(self.version, last, entry, removed=True))
        return last.manifest

    def _next(self, bucket: Bucket, manifest: Manifest) -> Entry:
        self.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.version)
        return Entry(bucket, manifest)

    def _tell(self, event: Event) -> None:
        uid = event.entry.uid
        for owner in event.before.owners if event.before else ():
            self.dependents.get(owner["uid"], {}).pop(uid, None)
        for owner in () if event.removed else event.entry.owners:
            self.dependents.setdefault(owner["uid"], {})[uid] = None
        if len(self.log) == _LOG_EVENTS:
            self.oldest = self.log[0].version
        self.log.append(event)
        for listener in list(self.listeners):
            listener(event)

    def compact(self) -> None:
        """Forget the log and all continue tokens, as etcd's compaction does."""
        self.oldest = self.version
        self.log.clear()
        self._snapshots.clear()

    def page(
        self, bucket: Bucket, namespace: str, match: Match | None, *, limit: int, token: str
    ) -> tuple[list[Entry], int, str, int]:
        """A page of a list (or 410): entries, the list's version, the next token, how many remain."""
        number, _, text = token.partition(".")
        start = int(text or 0)
        if not token:
            number = uuid.uuid4().hex
            entries, version = self.select(bucket, namespace, match), self.version
        elif number in self._snapshots:
            entries, version = self._snapshots[number]
        else:
            raise StatusError(410, "The provided continue parameter is too old to display a list")
        end = start + limit if limit else len(entries)
        if end >= len(entries):
            return entries[start:], version, "", 0
        self._snapshots[number] = entries, version
        while len(self._snapshots) > _TOKENS:
            del self._snapshots[next(iter(self._snapshots))]
        return entries[start:end], version, f"{number}.{end}", len(entries) - end


def selector(labels: str, fields: str) -> Match | None:
    """Read a labelSelector and a fieldSelector, or raise a 400."""
    tests = [_test(t, "labels") for t in re.split(r",(?![^(]*\))", labels) if t.strip()]
    tests += [_test(term, "") for term in fields.split(",") if term]
    return (lambda manifest: all(test(manifest) for test in tests)) if tests else None


def _test(term: str, where: str) -> Match:
    found = re.fullmatch(_TERM, term)
    absent, key, sign, value, word, listed = found.groups() if found else (None,) * 6
    is_comparison = bool(sign or word)
    if key is None or (bool(absent) and is_comparison) or not (where or sign):
        raise StatusError(400, f"unable to parse requirement: {term!r}")
    values = {v.strip() for v in listed.split(",")} if listed is not None else {value}
    wanted = not absent and sign != "!=" and word != "notin"

    def test(manifest: Manifest) -> bool:
        if not where:
            return (str(follow(manifest, *key.split("."), default="")) in values) is wanted
        has = manifest["metadata"].get("labels") or {}
        return (has.get(key) in values if is_comparison else key in has) is wanted

    return test
