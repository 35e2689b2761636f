"""Poll one policy repository, and say what of it is in force.

One fetch of one ref. A tip that does not descend from the revision that was adopted last is refused: the branch
was rolled back, or its history rewritten. What was adopted last is known from the ledger's `AdoptionRecord`, so
that an empty disk knows it too; files in force are read by their blob id, parsed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

from reconciler.clock import Clock
from reconciler.errors import TransientError
from reconciler.git.clone import BareClone, BlobTooLargeError, DamagedCloneError
from reconciler.git.remote import Remote, RemoteUnreachableError
from reconciler.kinds.finding import Finding
from reconciler.kinds.model import Metadata
from reconciler.kinds.record import AdoptedManifest, AdoptionRecord, AdoptionRecordSpec
from reconciler.source.adopt import Adopted, Adoption, SourceSettings, decide, form_of, keep
from reconciler.source.tree import FileCache, printable, read_tree

__all__ = ["Source", "SourceSettings"]

FAULTS_MAX = 50
FAULT_CHARACTERS_MAX = 300
HISTORY_MAX = 1_000


class Source:
    """A policy repository and its bare clone under `directory`, which may be empty. For one thread."""

    def __init__(
        self, settings: SourceSettings, *, directory: Path, remote: Remote | None = None
    ) -> None:
        """Open the clone; nothing is fetched yet."""
        self.settings = settings
        self._clone = BareClone(directory / "source.git", url=settings.url, remote=remote)
        self._cache = FileCache()
        self._since: dict[tuple[str, str, str], str] = {}

    def poll(
        self,
        adopted: AdoptionRecord | None,
        *,
        clock: Clock,
        cluster: str,
        known: Sequence[Adoption] = (),
    ) -> Adoption:
        """Fetch, and decide what is in force.

        Args:
            adopted: what the ledger says was in force.
            clock: for holds that end, and the record's time.
            cluster: the record's cluster.
            known: other sources polled before, whose manifests these may refer to and may not define again.
        """
        try:
            return self._poll(adopted, clock=clock, cluster=cluster, known=known)
        except DamagedCloneError:
            # The next fetch puts a fresh clone in its place; once is enough.
            return self._poll(adopted, clock=clock, cluster=cluster, known=known)

    def _poll(
        self,
        adopted: AdoptionRecord | None,
        *,
        clock: Clock,
        cluster: str,
        known: Sequence[Adoption],
    ) -> Adoption:
        try:
            tip = self._clone.fetch(self.settings.ref)
            refused = self._refusal(adopted, tip)
        except RemoteUnreachableError as error:
            tip, refused = None, error.message
        self._clone.tidy()
        former, lost = self._former(adopted)
        if tip is None or refused:
            revision = adopted.spec.revision if adopted else None
            kept = keep(former, settings=self.settings)
            return Adoption(self.settings, revision, kept, tuple(lost), refused=refused)
        files, unread = read_tree(self._clone, tip, paths=self.settings.paths, cache=self._cache)
        decision = decide(
            files,
            former=former,
            settings=self.settings,
            revision=tip,
            now=clock.now(),
            known=[one.located for other in known for one in other.manifests],
        )
        findings = _ordered([*unread, *decision.findings])
        record = self._record(
            adopted, tip, decision.manifests, findings, at=clock.now(), cluster=cluster
        )
        return Adoption(self.settings, tip, decision.manifests, findings, record)

    def _refusal(self, adopted: AdoptionRecord | None, tip: str | None) -> str:
        place = f"{self.settings.ref} of {self.settings.url}"
        if tip is None:
            return f"poll {place}: there is no such branch"
        if adopted is None or (adopted.spec.url, adopted.spec.ref) != (
            self.settings.url,
            self.settings.ref,
        ):
            return ""
        revision = adopted.spec.revision
        if self._clone.has(revision) and self._clone.is_ancestor(revision, tip):
            return ""
        return (
            f"poll {place}: rolled back: {tip[:12]} does not descend from {revision[:12]}, which was adopted "
            "before; the adopted state stays in force"
        )

    def _former(self, adopted: AdoptionRecord | None) -> tuple[list[Adopted], list[Finding]]:
        """Read the forms that were in force; a finding for each that can no longer be read."""
        forms: list[Adopted] = []
        lost: list[Finding] = []
        if adopted is None:
            return forms, lost
        self._fetch_lost(adopted)
        for ref in adopted.spec.manifests:
            form = self._form(ref, adopted.spec.revision)
            if form is not None:
                forms.append(form)
            else:
                message = f"the form of {ref.identity} that was in force can no longer be read"
                lost.append(Finding(ref.path, 1, 1, "", message, rule="lost"))
        return forms, lost

    def _fetch_lost(self, adopted: AdoptionRecord) -> None:
        """After a roll-back an empty disk lacks the adopted files; the remote may still have them."""
        if all(self._clone.has(ref.blob) for ref in adopted.spec.manifests):
            return
        try:
            self._clone.fetch_commit(adopted.spec.revision)
        except TransientError:
            return

    def _form(self, ref: AdoptedManifest, revision: str) -> Adopted | None:
        if not self._clone.has(ref.blob):
            return None
        try:
            loaded = self._cache.load(self._clone, ref.path, ref.blob)
        except BlobTooLargeError:
            return None
        for one in loaded.manifests:
            if one.index == ref.index and one.kind.identity == ref.identity:
                since = self._revision_with(ref, revision) if ref.stale else revision
                return form_of(one, blob=ref.blob, revision=since, stale=ref.stale)
        return None

    def _revision_with(self, ref: AdoptedManifest, revision: str) -> str:
        """The newest commit, from `revision` back, that has a file in this form; empty when none is found."""
        key = (revision, ref.path, ref.blob)
        if key not in self._since:
            self._since[key] = ""
            if self._clone.has(revision):
                for commit in islice(self._clone.history(revision), HISTORY_MAX):
                    entry = self._clone.lookup(commit.id, ref.path)
                    if entry is not None and entry.id == ref.blob:
                        self._since[key] = commit.id
                        break
        return self._since[key]

    def _record(
        self,
        adopted: AdoptionRecord | None,
        revision: str,
        manifests: Sequence[Adopted],
        findings: Sequence[Finding],
        *,
        at: datetime,
        cluster: str,
    ) -> AdoptionRecord | None:
        faults = [str(finding)[:FAULT_CHARACTERS_MAX] for finding in findings if finding.is_error]
        spec = AdoptionRecordSpec(
            cluster=cluster,
            source=self.settings.name,
            url=self.settings.url,
            ref=self.settings.ref,
            revision=revision,
            adopted_at=at,
            manifests=[one.ref for one in manifests],
            faults=[printable(fault) for fault in faults[:FAULTS_MAX]],
        )
        if adopted is not None:
            same = {"chain": adopted.spec.chain, "adopted_at": adopted.spec.adopted_at}
            if spec.model_copy(update=same) == adopted.spec:
                return None
        name = f"{self.settings.name}-{revision[:12]}"
        return AdoptionRecord(
            api_version="backup.reconciler.dev/v1alpha1", metadata=Metadata(name=name), spec=spec
        )


def _ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda one: (not one.is_error, one.path, one.line, one.column)))
