"""Find and load the files of a policy repository: in a commit of a bare clone, or in a working tree.

Both keep the same bounds. Only `*.yaml` and `*.yml` count; hidden folders are skipped; symbolic links and
submodules are not followed, which is said. A file beyond a bound is known by its path and otherwise unread, so
that what was in force from it stays.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.git.clone import BareClone
from reconciler.kinds.finding import Finding
from reconciler.kinds.loader import FILE_BYTES_MAX, Loaded, LoadedFile, Refused, load
from reconciler.source.check import check, check_remnants
from reconciler.source.located import Located

FILES_MAX = 2_000
TOTAL_BYTES_MAX = 32 * 1024 * 1024
MANIFESTS_MAX = 5_000
ENTRIES_MAX = 100_000
DEPTH_MAX = 32
FILES_CACHED = 3 * FILES_MAX
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class ReadFile:
    """A file under the paths of a source; `blob` is empty in a working tree."""

    path: str
    blob: str
    loaded: LoadedFile


@dataclass
class FileCache:
    """Loaded files by path and blob id: a poll parses only what changed."""

    _known: OrderedDict[tuple[str, str], LoadedFile] = field(default_factory=OrderedDict)

    def load(self, clone: BareClone, path: str, blob: str) -> LoadedFile:
        """Read a file of at most 256 KiB."""
        key = (path, blob)
        found = self._known.get(key)
        if found is None:
            found = load(path, clone.blob(blob, max_bytes=FILE_BYTES_MAX))
            self._known[key] = found
            if len(self._known) > FILES_CACHED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return found


@dataclass
class _Budget:
    """What is left of the bounds; one for a whole repository."""

    files: int = FILES_MAX
    size_bytes: int = TOTAL_BYTES_MAX
    manifests: int = MANIFESTS_MAX
    entries: int = ENTRIES_MAX

    def refusal(self, size_bytes: int) -> str:
        """Why one more file of this size is not read; empty when it is."""
        if size_bytes > FILE_BYTES_MAX:
            return f"larger than {FILE_BYTES_MAX // 1024} KiB"
        if self.files < 1:
            return f"not read: at most {FILES_MAX} files are"
        if self.size_bytes < size_bytes:
            return f"not read: at most {TOTAL_BYTES_MAX // 1024 // 1024} MiB are"
        if self.manifests < 1:
            return f"not read: at most {MANIFESTS_MAX} manifests are"
        self.files -= 1
        self.size_bytes -= size_bytes
        return ""

    def entry(self) -> bool:
        """Whether one more name may be looked at."""
        self.entries -= 1
        return self.entries >= 0


def read_tree(
    clone: BareClone, commit: str, *, paths: Sequence[str], cache: FileCache
) -> tuple[list[ReadFile], list[Finding]]:
    """Load every file under `paths` at a commit; findings are of what was not looked at."""
    found: dict[str, str] = {}
    findings: list[Finding] = []
    budget = _Budget()
    for path in map(plain_path, paths):
        start = clone.lookup(commit, path)
        if start is None:
            findings.append(Finding(path, 1, 1, "", "there is no such folder", rule="missing-path"))
        elif start.is_folder:
            found |= _descend(clone, start.id, path, budget=budget, findings=findings)
        elif not (start.is_link or start.is_submodule):
            found[path] = start.id
    files = []
    for path, blob in sorted(found.items()):
        why = budget.refusal(clone.size(blob))
        loaded = _unread(path, why) if why else cache.load(clone, path, blob)
        budget.manifests -= len(loaded.manifests)
        files.append(ReadFile(path, blob, loaded))
    return files, findings


def _descend(
    clone: BareClone, tree: str, folder: str, *, budget: _Budget, findings: list[Finding]
) -> Iterator[tuple[str, str]]:
    """Names and blob ids; a tree may name one folder thousands of times, so that names are counted."""
    folders = [(folder, tree, 0)]
    while folders:
        place, oid, depth = folders.pop()
        for entry in clone.children(oid):
            path = f"{place}/{entry.name}" if place else entry.name
            if not budget.entry():
                findings.append(
                    _bound(place, f"more than {ENTRIES_MAX} names; the rest is not read")
                )
                return
            if entry.is_folder and not entry.name.startswith("."):
                if depth == DEPTH_MAX:
                    findings.append(_bound(path, f"deeper than {DEPTH_MAX} folders; not read"))
                else:
                    folders.append((path, entry.id, depth + 1))
            elif entry.is_link or entry.is_submodule:
                findings.append(_ignored(path, "symlink" if entry.is_link else "submodule"))
            elif not entry.is_folder and entry.name.endswith(_SUFFIXES):
                if entry.name.isprintable():
                    yield path, entry.id
                else:
                    findings.append(
                        _bound(path, "the name has characters that are not text; not read")
                    )


def load_directory(
    path: Path, *, now: datetime | None = None
) -> tuple[tuple[Loaded, ...], tuple[Finding, ...]]:
    """Load and check a working tree, or a single file: what a poll of it would find.

    Raises:
        UsageError: there is nothing at `path`, or it cannot be read.
    """
    if not path.exists():
        raise UsageError(f"read {path}: no such file or directory")
    root = path if path.is_dir() else path.parent
    findings: list[Finding] = []
    budget = _Budget()
    names = _names(root, budget=budget, findings=findings) if path.is_dir() else [path.name]
    manifests: list[Loaded] = []
    remnants: list[Located] = []
    faulty: dict[str, str] = {}
    for name in sorted(names):
        loaded = _load_file(root / name, name, budget=budget)
        budget.manifests -= len(loaded.manifests)
        manifests += loaded.manifests
        findings += loaded.findings
        remnants += remnants_of(loaded)
        faulty |= faulty_in(name, loaded)
    whole = [Located.of(one) for one in manifests]
    for found in check(whole, faulty=faulty, now=now).values():
        findings += found
    findings += check_remnants(remnants, manifests=whole, faulty=faulty, now=now)
    if not manifests and not findings:
        message = "no manifest of ours is here; expected a policy repository (`reconciler init`)"
        findings.append(Finding(str(path), 1, 1, "", message, severity="warning", rule="empty"))
    ordered = sorted(dict.fromkeys(findings), key=lambda one: (one.path, one.line, one.column))
    return tuple(manifests), tuple(ordered)


def _load_file(file: Path, name: str, *, budget: _Budget) -> LoadedFile:
    try:
        why = budget.refusal(file.stat().st_size)
        if why:
            return _unread(name, why)
        with file.open("rb") as opened:
            return load(name, opened.read(FILE_BYTES_MAX + 1))
    except OSError as error:
        return _unread(name, f"cannot be read: {error.strerror}")


def _names(root: Path, *, budget: _Budget, findings: list[Finding]) -> list[str]:
    names: list[str] = []
    folders = [("", 0)]
    while folders:
        place, depth = folders.pop()
        try:
            entries = sorted(os.scandir(root / place), key=lambda entry: entry.name)
        except OSError as error:
            findings.append(_bound(place or ".", f"cannot be read: {error.strerror}"))
            continue
        if depth and any(entry.name == ".git" for entry in entries):
            findings.append(_ignored(place, "submodule"))
            continue
        for entry in entries:
            name = f"{place}/{entry.name}" if place else entry.name
            if not budget.entry():
                findings.append(
                    _bound(name, f"more than {ENTRIES_MAX} names; the rest is not read")
                )
                return names
            if entry.is_symlink():
                findings.append(_ignored(name, "symlink"))
            elif entry.is_dir() and not entry.name.startswith("."):
                if depth == DEPTH_MAX:
                    findings.append(_bound(name, f"deeper than {DEPTH_MAX} folders; not read"))
                else:
                    folders.append((name, depth + 1))
            elif entry.is_file() and entry.name.endswith(_SUFFIXES):
                names.append(name)
    return names


def remnants_of(loaded: LoadedFile) -> list[Located]:
    """What is left of the documents of a file that have faults."""
    return [Located.of_remnant(one.remnant) for one in loaded.refused if one.remnant is not None]


def faulty_in(path: str, loaded: LoadedFile) -> dict[str, str]:
    """Identity → place of the documents of a file that have faults."""
    return {one.identity: f"{path}:{one.line}" for one in loaded.refused if one.identity}


def plain_path(path: str) -> str:
    """`./policies/` → `policies`; `.` → empty, the whole repository."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def printable(path: str) -> str:
    """A path that may go into a record or a log, whatever bytes its name has."""
    return "".join(c if c.isprintable() else f"\\x{ord(c) & 0xFF:02x}" for c in path)


def _unread(path: str, why: str) -> LoadedFile:
    finding = Finding(printable(path), 1, 1, "", why, rule="size")
    return LoadedFile(findings=(finding,), refused=(Refused("", 0, 1),))


def _bound(path: str, message: str) -> Finding:
    return Finding(printable(path), 1, 1, "", message, rule="size")


def _ignored(path: str, what: str) -> Finding:
    return Finding(
        printable(path), 1, 1, "", f"this {what} is not followed", severity="warning", rule=what
    )
