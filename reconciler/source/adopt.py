"""Decide which form of each manifest is in force: the newest, an earlier one that was good, or none.

Pure: files of the newest revision and the forms in force before go in, forms in force and findings come out.
Trust is judged per revision, validity per manifest with what it refers to. Every manifest starts in its newest
form; while some fail their checks, those go back to their last good form, then what they mention goes back to
its own, and what is left failing without any good form is out. Each step only goes back, so it ends.

A manifest that was in force and only fails a guardrail that came after it, or a check that this version is the
first to make, stays: a stricter rule must not switch protection off. A Hold whose file is gone stays until it is
released or over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.finding import Finding
from reconciler.kinds.loader import Loaded
from reconciler.kinds.model import Kind
from reconciler.kinds.platform import Cluster, Location
from reconciler.kinds.policy import PolicyPreset
from reconciler.kinds.record import AdoptedManifest, AdoptionRecord
from reconciler.kinds.request import Hold
from reconciler.kinds.transformset import TransformSet
from reconciler.source.check import check, check_remnants
from reconciler.source.expressions import RULE_RESULT
from reconciler.source.located import Located
from reconciler.source.tree import ReadFile, faulty_in, remnants_of

HOLD_REMOVED = "hold-removed"
"""The rule of the finding that names a Hold whose file is gone: no file has this fault."""
REFERRED = (Blueprint, Cluster, Location, PolicyPreset, TransformSet)
"""What other manifests name. A policy, hold or request that somebody took away is never brought back for another."""

BORNE = frozenset({"guardrail", RULE_RESULT})
"""Faults that do not take out of force what is in force already."""


@dataclass(frozen=True)
class SourceSettings:
    """A policy repository of the operator's configuration; without `namespaces` it is the platform's."""

    name: str
    url: str
    ref: str = "main"
    paths: tuple[str, ...] = ("",)
    kinds: tuple[str, ...] | None = None
    namespaces: tuple[str, ...] | None = None

    @property
    def is_platform(self) -> bool:
        """Whether it may define everything."""
        return self.namespaces is None


@dataclass(frozen=True)
class Adopted:
    """A manifest in force: its form, where that is recorded, and a commit that has it."""

    kind: Kind
    ref: AdoptedManifest
    revision: str
    located: Located = field(compare=False, repr=False)


@dataclass(frozen=True)
class Adoption:
    """What is in force of a source after a poll.

    `record` is there when something changed and must be written; `refused` says why the newest revision was
    not taken in, and is empty when it was.
    """

    settings: SourceSettings
    revision: str | None
    manifests: tuple[Adopted, ...] = ()
    findings: tuple[Finding, ...] = ()
    record: AdoptionRecord | None = None
    refused: str = ""


def form_of(loaded: Loaded, *, blob: str, revision: str, stale: bool = False) -> Adopted:
    """A form of a manifest, as it could be in force."""
    ref = AdoptedManifest(
        path=loaded.path,
        identity=loaded.kind.identity,
        blob=blob,
        index=loaded.index,
        stale=stale,
    )
    return Adopted(loaded.kind, ref, revision, Located.of(loaded))


@dataclass(frozen=True)
class Decision:
    """The forms in force, by identity, and what is wrong."""

    manifests: tuple[Adopted, ...]
    findings: tuple[Finding, ...]


def decide(
    files: Sequence[ReadFile],
    *,
    former: Sequence[Adopted],
    settings: SourceSettings,
    revision: str,
    now: datetime,
    known: Sequence[Located] = (),
) -> Decision:
    """Decide over the files of `revision`; `former` were in force before, `known` are of other sources."""
    findings = [finding for file in files for finding in file.loaded.findings]
    allowed = Scope(settings, known)
    before = {one.ref.identity: one for one in former if not allowed.refusal(one.located)}
    fresh = _fresh(files, before, revision=revision, allowed=allowed, findings=findings)
    wanted = dict(fresh)
    for one in _kept(files, fresh, before, now=now, findings=findings):
        wanted[one.ref.identity] = _stale(one)
    remnants = [one for file in files for one in remnants_of(file.loaded)]
    faulty = {k: v for file in files for k, v in faulty_in(file.path, file.loaded).items()}
    run = _Settling(wanted, before, known=known, faulty=faulty, now=now)
    run.settle()
    findings += run.findings
    newest = [one.located for one in fresh.values()]
    findings += check_remnants(remnants, manifests=newest, known=known, faulty=faulty, now=now)
    return Decision(_sorted(run.state.values()), tuple(dict.fromkeys(findings)))


def keep(former: Sequence[Adopted], *, settings: SourceSettings) -> tuple[Adopted, ...]:
    """What stays in force when no revision is taken in: what the settings still allow."""
    allowed = Scope(settings, ())
    return _sorted(one for one in former if not allowed.refusal(one.located))


class Scope:
    """What a source may define."""

    def __init__(self, settings: SourceSettings, known: Sequence[Located]) -> None:
        self._settings = settings
        self._taken = {one.kind.identity: one.path for one in known}

    def refusal(self, located: Located) -> Finding | None:
        """Why a manifest may not come from this source."""
        kind, settings = located.kind, self._settings
        name, space = type(kind).__name__, kind.metadata.namespace
        if settings.kinds is not None and name not in settings.kinds:
            message = (
                f"source {settings.name} may not define {name}, only {', '.join(settings.kinds)}"
            )
            return located.finding(("kind",), message, rule="scope")
        if kind.platform_only and settings.namespaces is not None:
            message = f"only platform sources may define {name}"
            return located.finding(("kind",), message, rule="scope")
        if settings.namespaces is not None and space not in settings.namespaces:
            message = f"source {settings.name} is confined to {', '.join(settings.namespaces)}" + (
                "" if space else "; a manifest without a namespace is the platform's"
            )
            return located.finding(("metadata", "namespace"), message, rule="scope")
        if kind.identity in self._taken:
            message = f"{kind.identity} is already defined by another source; remove one of them"
            return located.finding(("metadata", "name"), message, rule="duplicate")
        return None


def _fresh(
    files: Sequence[ReadFile],
    before: Mapping[str, Adopted],
    *,
    revision: str,
    allowed: Scope,
    findings: list[Finding],
) -> dict[str, Adopted]:
    """The newest forms; of several with one identity the one whose file had it before, else the first."""
    found: dict[str, Adopted] = {}
    twice: dict[str, list[Adopted]] = {}
    for file in files:
        for loaded in file.loaded.manifests:
            one = form_of(loaded, blob=file.blob, revision=revision)
            refusal = allowed.refusal(one.located)
            if refusal is not None:
                findings.append(refusal)
            else:
                twice.setdefault(one.ref.identity, []).append(one)
    for identity, forms in twice.items():
        owner = before.get(identity)
        path = owner.ref.path if owner is not None else ""
        first = next((form for form in forms if form.ref.path == path), forms[0])
        found[identity] = first
        for form in forms:
            if form is not first:
                message = f"{identity} is defined twice, first at {first.located.place}; remove one of them"
                findings.append(
                    form.located.finding(("metadata", "name"), message, rule="duplicate")
                )
    return found


def _kept(
    files: Sequence[ReadFile],
    fresh: Mapping[str, Adopted],
    before: Mapping[str, Adopted],
    *,
    now: datetime,
    findings: list[Finding],
) -> Iterator[Adopted]:
    """Earlier forms of manifests that the newest revision has broken, or a Hold that it dropped."""
    refused = [(file.path, one.identity) for file in files for one in file.loaded.refused]
    named = {identity for _, identity in refused if identity}
    nameless = {path for path, identity in refused if not identity}
    paths, known_paths = {file.path for file in files}, {one.ref.path for one in before.values()}
    for identity, one in before.items():
        if identity in fresh:
            continue
        # A broken file that nobody can name may be a renamed one: what lost its file stays then.
        is_moved = one.ref.path not in paths and bool(nameless - known_paths)
        if identity in named or one.ref.path in nameless or is_moved:
            yield one
        elif isinstance(one.kind, Hold) and _still_holds(one.kind, now):
            message = (
                f"{identity} was removed without a release and stays in force; to end it, bring the file "
                "back with spec.release"
            )
            place = one.located
            findings.append(
                Finding(place.path, place.line, 1, "", message, "warning", HOLD_REMOVED)
            )
            yield one


def _still_holds(hold: Hold, now: datetime) -> bool:
    return hold.spec.release is None and (hold.spec.until is None or hold.spec.until > now)


class _Settling:
    """Goes back, manifest by manifest, until no check fails."""

    def __init__(
        self,
        wanted: Mapping[str, Adopted],
        before: Mapping[str, Adopted],
        *,
        known: Sequence[Located],
        faulty: Mapping[str, str],
        now: datetime,
    ) -> None:
        self.state = dict(wanted)
        self.findings: list[Finding] = []
        self._before = before
        self._known = known
        self._faulty = faulty
        self._now = now
        self._out: set[str] = set()
        self._borne: set[str] = set()

    def settle(self) -> None:
        """Go back step by step; at most three steps for each manifest."""
        found = self._check()
        self.findings += [finding for one in found.values() for finding in one]
        while failing := sorted(
            identity
            for identity, one in found.items()
            if identity not in self._borne and any(finding.is_error for finding in one)
        ):
            if not self._back(failing) and not self._back(self._mentioned(failing)):
                self._give_up(failing, found)
            found = self._check()

    def _check(self) -> dict[str, list[Finding]]:
        located = [one.located for one in _sorted(self.state.values())]
        return check(located, known=self._known, faulty=self._faulty, now=self._now)

    def _back(self, identities: Iterable[str]) -> bool:
        """Put those back into their last good form that are in another."""
        moved = False
        for identity in identities:
            good, form = self._before.get(identity), self.state.get(identity)
            if good is not None and identity not in self._out and not _is_same(good, form):
                self.state[identity] = _stale(good)
                moved = True
        return moved

    def _mentioned(self, identities: Iterable[str]) -> list[str]:
        """What these may refer to: manifests whose name one of them says."""
        said = {
            text
            for identity in identities
            for text in _texts(self.state[identity].kind.model_dump())
        }
        return sorted(
            identity
            for identity, one in self._before.items()
            if isinstance(one.kind, REFERRED) and one.kind.metadata.name in said
        )

    def _give_up(self, failing: Sequence[str], found: Mapping[str, list[Finding]]) -> None:
        for identity in failing:
            errors = [finding for finding in found[identity] if finding.is_error]
            was_good = _is_same(self._before.get(identity), self.state[identity])
            if was_good and all(finding.rule in BORNE for finding in errors):
                self.state[identity] = _stale(self.state[identity])
                self._borne.add(identity)
            else:
                del self.state[identity]
                self._out.add(identity)
            self.findings += errors


def _is_same(one: Adopted | None, other: Adopted | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.kind == other.kind


def _stale(one: Adopted) -> Adopted:
    ref = one.ref.model_copy(update={"stale": True})
    return Adopted(one.kind, ref, one.revision, one.located)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


def _sorted(forms: Iterable[Adopted]) -> tuple[Adopted, ...]:
    return tuple(sorted(forms, key=lambda one: (one.ref.path, one.ref.index, one.ref.identity)))
