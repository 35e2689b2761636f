"""Files of a policy repository become manifests, and every fault in them a finding with its place.

A document that is not ours (its apiVersion is of another group) is skipped before any rule is applied to it:
Kubernetes manifests, charts and other files may lie beside policies. All faults of a file are told at once, and
a document with faults does not hide the others, nor one fault in it the next: what is left without the faulty
fields is handed on as a `Remnant`, for the checks across files. What is in a file but not built yet is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from reconciler.kinds.document import FAULTY, Document, Fault, Node, read_documents
from reconciler.kinds.explanation import explain, suggest
from reconciler.kinds.finding import Finding
from reconciler.kinds.marks import Marks, place_of, spell
from reconciler.kinds.model import API_VERSION, Kind, Model
from reconciler.kinds.record import RECORD_KINDS
from reconciler.kinds.registry import DECLARATIVE, PLANNED, PLANNED_RECORDS
from reconciler.kinds.rest import Rest, rest_of
from reconciler.objects import group_of

FILE_BYTES_MAX = 256 * 1024
FINDINGS_MAX = 200
GROUP = group_of(API_VERSION)

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A manifest, and where it stands: `index` counts the documents of the file from 0."""

    kind: Kind
    path: str
    index: int
    line: int
    column: int
    marks: Marks


@dataclass(frozen=True, slots=True)
class Remnant:
    """What is left of a document with faults, and where it stands."""

    rest: Rest
    path: str
    line: int
    column: int
    marks: Marks


@dataclass(frozen=True, slots=True)
class Refused:
    """A document of ours that is no manifest; `identity` is empty when it cannot even be named."""

    identity: str
    index: int
    line: int
    remnant: Remnant | None = None


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """What a file gave."""

    manifests: tuple[Loaded, ...] = ()
    findings: tuple[Finding, ...] = ()
    refused: tuple[Refused, ...] = ()


def load(path: str, data: bytes, *, kinds: Mapping[str, type[Kind]] = DECLARATIVE) -> LoadedFile:
    """Read a file; never raises for what is in it."""
    is_ours = _mentions_us(data)
    if len(data) > FILE_BYTES_MAX:
        return (
            _unread(path, f"larger than {FILE_BYTES_MAX // 1024} KiB", "size")
            if is_ours
            else LoadedFile()
        )
    text, fault = _decode(data)
    if fault is not None:
        severe = _finding(path, fault, is_error=is_ours)
        return LoadedFile(
            findings=(severe,), refused=(Refused("", 0, fault.line),) if is_ours else ()
        )
    manifests: list[Loaded] = []
    findings: list[Finding] = []
    refused: list[Refused] = []
    for index, document in enumerate(read_documents(text)):
        faults, kind, rest = _read(document, kinds)
        is_error = _is_ours(document)
        findings += [_finding(path, fault, is_error=is_error) for fault in faults]
        root = document.root
        marks = Marks(document.text, document.line, document.index)
        if kind is not None and root is not None:
            manifests.append(Loaded(kind, path, index, root.line, root.column, marks))
        elif is_error:
            line, column = (root.line, root.column) if root else (document.line, 1)
            remnant = Remnant(rest, path, line, column, marks) if rest else None
            refused.append(Refused(_identity(root), index, line, remnant))
    return LoadedFile(tuple(manifests), _bounded(path, findings), tuple(refused))


def load_model(model: type[M], *, path: str, data: bytes) -> tuple[M | None, list[Finding]]:
    """Read a file that holds one model and nothing else, such as the operator's configuration.

    Returns:
        The model, None when the file has faults; and the findings.
    """
    text, fault = _decode(data)
    if len(data) > FILE_BYTES_MAX:
        fault = Fault(1, 1, (), f"larger than {FILE_BYTES_MAX // 1024} KiB", "size")
    documents: list[Document] = read_documents(text) if fault is None else []
    faults = [fault] if fault is not None else [f for one in documents for f in one.faults]
    root = documents[0].root if documents else None
    if not faults and (len(documents) != 1 or root is None):
        faults = [Fault(1, 1, (), f"found {len(documents)} documents, expected one", "yaml")]
    value: M | None = None
    if root is not None and len(documents) == 1:
        value, more = _validate(root, root.value, model)
        faults += more
    findings = [_finding(path, one, is_error=True) for one in faults]
    return (None if faults else value), list(_bounded(path, findings))


def _mentions_us(data: bytes) -> bool:
    """Whether the bytes name our group, also in the encodings that Windows shells write."""
    return any(GROUP.encode(code) in data for code in ("utf-8", "utf-16-le", "utf-16-be"))


def _decode(data: bytes) -> tuple[str, Fault | None]:
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
        if "\0" in text and GROUP not in text and _mentions_us(data):
            return "", Fault(1, 1, (), "not UTF-8, expected UTF-8 text", "encoding")
        return text, None  # noqa: TRY300 - reads in this order
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        return "", Fault(line, column, (), "not UTF-8, expected UTF-8 text", "encoding")


def _unread(path: str, message: str, rule: str) -> LoadedFile:
    finding = Finding(path, 1, 1, "", message, rule=rule)
    return LoadedFile(findings=(finding,), refused=(Refused("", 0, 1),))


def _finding(path: str, fault: Fault, *, is_error: bool) -> Finding:
    return Finding(
        path=path,
        line=fault.line,
        column=fault.column,
        field=spell(fault.path),
        message=fault.message,
        severity="error" if is_error else "warning",
        rule=fault.rule,
    )


def _bounded(path: str, findings: list[Finding]) -> tuple[Finding, ...]:
    ordered = sorted(dict.fromkeys(findings), key=lambda one: (one.line, one.column, one.field))
    if len(ordered) > FINDINGS_MAX:
        rest = ordered[FINDINGS_MAX:]
        fault = Fault(1, 1, (), f"{len(rest)} more findings in this file", "size")
        last = _finding(path, fault, is_error=any(one.is_error for one in rest))
        ordered = [*ordered[:FINDINGS_MAX], last]
    return tuple(ordered)


def _is_ours(document: Document) -> bool:
    """Whether faults of the document are errors: it says that it is ours, or cannot say but names us."""
    value = document.root.value if document.root else FAULTY
    if not isinstance(value, dict):
        return value is FAULTY and GROUP in document.text
    version = value.get("apiVersion")
    if version is FAULTY:
        return GROUP in document.text
    return isinstance(version, str) and (group_of(version) == GROUP or version == GROUP)


def _read(
    document: Document, kinds: Mapping[str, type[Kind]]
) -> tuple[list[Fault], Kind | None, Rest | None]:
    """The faults; and the manifest when there are none, else what is left without them."""
    root = document.root
    if root is None:
        return list(document.faults), None, None
    if not _is_ours(document):
        return _suspicions(document, root), None, None
    faults = list(document.faults)
    if not isinstance(root.value, dict):
        return faults, None, None
    model, refusal = _model_of(root, kinds)
    if model is None:
        return faults + refusal, None, None
    value = dict(root.value)
    if "status" in value:
        del value["status"]
        message = "state is derived from the ledger and never written in a file; remove it"
        faults.append(Fault(*place_of(root, ("status",), key=True), ("status",), message, "status"))
    kind, more = _validate(root, value, model)
    faults += more
    if model.platform_only and (root.value.get("metadata") or {}).get("namespace"):
        path = ("metadata", "namespace")
        message = f"a {model.__name__} is the platform's, expected none"
        faults.append(Fault(*place_of(root, path, key=True), path, message, "platform-only"))
    return (faults, None, rest_of(value, model)) if faults else (faults, kind, None)


def _suspicions(document: Document, root: Node) -> list[Fault]:
    """What looks as if it was meant to be ours and would else be skipped in silence."""
    value = root.value
    if not isinstance(value, dict):
        return []
    version, kind = value.get("apiVersion"), value.get("kind")
    if isinstance(version, str) and version:
        if value.get("kind") == "List" and GROUP in document.text:
            message = "manifests inside a List are not read, expected documents of their own"
            return [Fault(root.line, root.column, ("kind",), message, "foreign")]
        if difflib.SequenceMatcher(None, group_of(version), GROUP).ratio() < 0.85:
            return []
        message = f"found an unknown API group, skipped; did you mean {API_VERSION}?"
        return [Fault(*place_of(root, ("apiVersion",)), ("apiVersion",), message, "foreign")]
    if isinstance(kind, str) and kind in DECLARATIVE:
        message = f"missing, so that this {kind} is skipped; expected {API_VERSION}"
        return [Fault(root.line, root.column, ("apiVersion",), message, "foreign")]
    return []


def _model_of(root: Node, kinds: Mapping[str, type[Kind]]) -> tuple[type[Kind] | None, list[Fault]]:
    def refuse(field: str, message: str, rule: str) -> tuple[None, list[Fault]]:
        return None, [Fault(*place_of(root, (field,)), (field,), message, rule)]

    version, name = root.value["apiVersion"], root.value.get("kind")
    if version is FAULTY or name is FAULTY:
        return None, []
    if version != API_VERSION:
        return refuse(
            "apiVersion", f"not supported by this version, expected {API_VERSION}", "api-version"
        )
    if not isinstance(name, str):
        return refuse("kind", f"missing, expected one of {', '.join(kinds)}", "unknown-kind")
    if name in kinds:
        return kinds[name], []
    if name in RECORD_KINDS or name in PLANNED_RECORDS:
        message = f"{name} is written by the program only, into the ledger; remove the document"
        return refuse("kind", message, "record-kind")
    if name in PLANNED:
        return refuse("kind", f"{name} is not supported by this version", "not-supported")
    hint = suggest(name, list(kinds)) or f", expected one of {', '.join(kinds)}"
    shown = f" {name}" if len(name) <= 40 else ""
    return refuse("kind", f"unknown kind{shown}{hint}", "unknown-kind")


def _validate(root: Node, value: Any, model: type[M]) -> tuple[M | None, list[Fault]]:
    try:
        return model.model_validate(value, by_alias=True, by_name=False), []
    except ValidationError as error:
        return None, list(explain(error, root, model))


def _identity(root: Node | None) -> str:
    value = root.value if root else None
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        return ""
    metadata = value["metadata"]
    parts = [value.get("kind"), metadata.get("namespace", ""), metadata.get("name")]
    if not all(isinstance(part, str) for part in parts) or not (parts[0] and parts[2]):
        return ""
    return "/".join(part for part in parts if part)
