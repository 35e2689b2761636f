"""YAML documents as nodes that know their place: libyaml's events, values by the core schema of YAML 1.2.

`no` stays text, `012` is twelve, an instant stays text. What makes a file mean something else than it shows
(aliases, tags, duplicate and merge keys) is a fault, and so is what is too deep, too many or no JSON value. A
fault does not end the reading: the value in its place is `FAULTY`, and the rest is read on. The text is cut at
its `---` lines first, so that a document that cannot be parsed does not hide the others. Nothing here calls
itself deeper than `DEPTH_MAX`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml._yaml import CParser

DEPTH_MAX = 64
NODES_MAX = 100_000
FAULTS_MAX = 100
INT_MAX = 2**63 - 1

FAULTY: Any = type("Faulty", (), {"__slots__": (), "__repr__": lambda _: "FAULTY"})()
"""Stands where a value could not be made; its fault has been noted."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMERIC = frozenset("+-.0123456789")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MARKER = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_BREAK_OF_1_1 = re.compile("[\x85\u2028\u2029]")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in the text, with its place counted from 1."""

    line: int
    column: int
    path: Path
    message: str
    rule: str


@dataclass(slots=True)
class Node:
    """A value, where it stands, and its children; `keys` gives the places of a mapping's keys."""

    value: Any
    line: int
    column: int
    end_line: int
    style: str | None = None
    children: dict[Any, Node] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    has_merge: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its root (None when it could not be parsed) and its faults.

    It is the `index`-th document of `text`, which starts at `line` of the file.
    """

    root: Node | None
    faults: tuple[Fault, ...]
    text: str
    line: int
    index: int


def read_documents(text: str) -> list[Document]:
    """Read every document of a text; empty ones are left out."""
    found: list[Document] = []
    for line, part in _parts(text):
        found.extend(read_part(part, line))
    return found


def read_part(text: str, line: int) -> Iterator[Document]:
    """Read the documents of a text without cutting it; `line` is where it starts in its file."""
    return _Reader(text, line).documents()


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Cut at document markers, which YAML forbids inside of any content; a directive goes with what follows."""
    cuts = [0]
    cuts += [_before_directives(text, marker.start()) for marker in _MARKER.finditer(text)]
    line = 1
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        part = text[start:end]
        if part:
            yield line, part
        line += sum(1 for _ in _LINE_BREAK.finditer(part))


def _before_directives(text: str, marker: int) -> int:
    """Where the directives that belong to the marker at this offset start; the offset itself when none do."""
    start = at = marker
    while at:
        line_start = text.rfind("\n", 0, at - 1) + 1
        line = text[line_start:at]
        if line.startswith("%"):
            start = line_start
        elif line.startswith("..."):
            return start
        elif line.strip() and not line.startswith("#"):
            return marker
        at = line_start
    return start


class _TooDeepError(Exception):
    """Ends a part whose brackets nest so deep that libyaml's time would grow with the square of them."""


class _Reader:
    """Turns the events of one part into documents."""

    def __init__(self, text: str, line: int) -> None:
        self._text = text
        self._line = line
        self._nodes = 0
        self._index = 0
        self._faults: list[Fault] = []
        self._parser: Any = None

    def documents(self) -> Iterator[Document]:
        """Read to the end of the part, or to where it stops being YAML."""
        if self._has_control_characters():
            yield self._broken()
            return
        self._parser = CParser(self._text)
        try:
            while True:
                event = self._parser.get_event()
                if event is None or type(event) is yaml.StreamEndEvent:
                    return
                if type(event) is yaml.DocumentStartEvent:
                    yield from self._document()
        except _TooDeepError:
            yield self._broken()
        except yaml.MarkedYAMLError as error:
            self._syntax(error)
            yield self._broken()
        except yaml.YAMLError:
            self._fault(None, (), "cannot be read as YAML", "yaml")
            yield self._broken()

    def _document(self) -> Iterator[Document]:
        self._nodes = 0
        root = self._node(self._parser.get_event(), (), 0)
        self._parser.get_event()  # the end of the document
        if root.value is None and not self._faults:
            return
        if odd := _BREAK_OF_1_1.search(self._text):
            self._fault_at(
                odd.start(), "a line separator that readers disagree about; write it as an escape"
            )
        faults, self._faults = tuple(self._faults), []
        yield Document(root, faults, self._text, self._line, self._next())

    def _broken(self) -> Document:
        return Document(None, tuple(self._faults), self._text, self._line, self._next())

    def _next(self) -> int:
        self._index += 1
        return self._index - 1

    def _has_control_characters(self) -> bool:
        odd = _CONTROL.search(self._text)
        if odd:
            self._fault_at(
                odd.start(),
                f"control character U+{ord(odd[0]):04X}, expected text; write it as an escape",
            )
        return odd is not None

    def _fault_at(self, offset: int, message: str) -> None:
        breaks = list(_LINE_BREAK.finditer(self._text, 0, offset))
        column = offset - (breaks[-1].end() if breaks else 0) + 1
        self._faults.append(Fault(self._line + len(breaks), column, (), message, "character"))

    def _syntax(self, error: yaml.MarkedYAMLError) -> None:
        mark: Any = error.problem_mark or error.context_mark
        problem = error.problem or "not well-formed"
        if mark and self._text[mark.index : mark.index + 1] == "\t":
            problem = "a tab where YAML wants spaces"
        elif "block mapping" in str(error.context) or "block collection" in str(error.context):
            problem += "; look at the indentation of this line and the one before"
        self._fault(mark, (), f"cannot be read as YAML: {problem}", "yaml")

    def _fault(self, mark: Any, path: Path, message: str, rule: str) -> None:
        if len(self._faults) > FAULTS_MAX:
            return
        if len(self._faults) == FAULTS_MAX:
            path, message, rule = (
                (),
                f"more than {FAULTS_MAX} faults; the others are not listed",
                "size",
            )
        line, column = (self._line + mark.line, mark.column + 1) if mark else (self._line, 1)
        self._faults.append(Fault(line, column, path, message, rule))

    def _node(self, event: Any, path: Path, depth: int) -> Node:
        start, end = event.start_mark, event.end_mark
        node = Node(FAULTY, self._line + start.line, start.column + 1, self._line + end.line)
        self._nodes += 1
        kind = type(event)
        if kind is yaml.AliasEvent:
            self._fault(
                start, path, f"alias *{event.anchor[:40]}, expected the value itself", "alias"
            )
            return node
        if event.anchor is not None:
            self._fault(
                start,
                path,
                f"anchor &{event.anchor[:40]}, expected none: aliases are refused",
                "alias",
            )
        if event.tag is not None:
            self._fault(start, path, "a tag, expected a plain value without one", "tag")
        if self._nodes == NODES_MAX + 1:
            self._fault(start, path, f"more than {NODES_MAX} values in one document", "size")
        if kind is yaml.ScalarEvent:
            node.style = event.style
            if event.tag is None:
                node.value = self._scalar(event, path)
        elif depth >= DEPTH_MAX or self._nodes > NODES_MAX:
            if self._nodes <= NODES_MAX:
                self._fault(start, path, f"deeper than {DEPTH_MAX} levels", "depth")
            if depth >= DEPTH_MAX and event.flow_style:
                raise _TooDeepError
            self._skip()
        elif kind is yaml.MappingStartEvent:
            self._mapping(node, path, depth)
        else:
            self._sequence(node, path, depth)
        return node

    def _skip(self) -> None:
        """Read past the collection that has just been opened, however deep it is."""
        level = 1
        while level:
            kind = type(self._parser.get_event())
            if kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
                level += 1
            elif kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
                level -= 1

    def _sequence(self, node: Node, path: Path, depth: int) -> None:
        while type(event := self._parser.get_event()) is not yaml.SequenceEndEvent:
            index = len(node.children)
            node.children[index] = self._node(event, (*path, index), depth + 1)
        node.value = [child.value for child in node.children.values()]

    def _mapping(self, node: Node, path: Path, depth: int) -> None:
        while type(event := self._parser.get_event()) is not yaml.MappingEndEvent:
            mark = event.start_mark
            is_plain = type(event) is yaml.ScalarEvent and not event.style
            key = self._node(event, path, depth + 1).value
            if is_plain and key == "<<":
                self._fault(mark, path, "merge key <<, expected the fields themselves", "merge-key")
                node.has_merge = True
                key = FAULTY
            elif key is not FAULTY and not isinstance(key, str):
                self._fault(mark, path, "a key that is no text; put it in quotes", "key")
                key = FAULTY
            below = (*path, key) if key is not FAULTY else path
            child = self._node(self._parser.get_event(), below, depth + 1)
            if key is FAULTY:
                continue
            if key in node.keys:
                first = node.keys[key][0]
                self._fault(
                    mark, below, f"duplicate key, first given on line {first}", "duplicate-key"
                )
                continue
            node.keys[key] = (self._line + mark.line, mark.column + 1)
            node.children[key] = child
        node.value = {key: child.value for key, child in node.children.items()}

    def _scalar(self, event: Any, path: Path) -> Any:
        text: str = event.value
        if event.style:
            return text
        if text in _NULLS:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if text[0] not in _NUMERIC:
            return text
        number: Any = text
        if len(text) <= 40 and _INT.fullmatch(text):
            number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            return number if abs(number) <= INT_MAX else self._no_number(event, path)
        if len(text) <= 40 and _FLOAT.fullmatch(text):
            number = float(text)
            return number if math.isfinite(number) else self._no_number(event, path)
        if _NO_NUMBER.fullmatch(text) or _INT.fullmatch(text) or _FLOAT.fullmatch(text):
            return self._no_number(event, path)
        return text

    def _no_number(self, event: Any, path: Path) -> Any:
        self._fault(
            event.start_mark,
            path,
            "a number out of range, expected one that fits 64 bits",
            "number",
        )
        return FAULTY
