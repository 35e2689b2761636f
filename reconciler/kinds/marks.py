"""From a field to its place in the file, for findings that are made after the loading.

Marks keep the text of a document, not its tree: reading it again costs a millisecond and is only done when
something is wrong, while ten thousand trees would cost memory always.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from reconciler.kinds.document import Node, Path, read_part

Place = tuple[int, int]


def nearest(root: Node, path: Path) -> tuple[Node, bool]:
    """The node at a path, or its closest ancestor; and whether it is the one asked for."""
    node = root
    for step in path:
        child = node.children.get(step)
        if child is None:
            return node, False
        node = child
    return node, True


def place_of(root: Node, path: Path, *, key: bool = False) -> Place:
    """Where a value starts, or the key in front of it; the closest ancestor's place when it is absent."""
    if key and path:
        parent, is_exact = nearest(root, path[:-1])
        if is_exact and path[-1] in parent.keys:
            return parent.keys[str(path[-1])]
    node, _ = nearest(root, path)
    return node.line, node.column


def spell(path: Path) -> str:
    """`spec.locations[0].name`; keys that are no words stand in brackets and quotes."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("_", "").replace("-", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f'["{step[:80]}"]'
    return text


@dataclass(frozen=True, slots=True)
class Marks:
    """The places of one document: the `index`-th of a text that starts at `line` of the file."""

    text: str = field(repr=False)
    line: int
    index: int

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Line and column of a value or its key, or of the closest ancestor."""
        root = self._root()
        return place_of(root, path, key=key) if root else (self.line, 1)

    def inside(self, path: Path, *, line: int, column: int) -> Place:
        """The place in the file of a position within a text, where quoting and folding let us know it."""
        root = self._root()
        if root is None:
            return self.line, 1
        node, is_exact = nearest(root, path)
        start = (node.line, node.column)
        if not is_exact or not isinstance(node.value, str):
            return start
        rows = self.text.splitlines()
        first = node.line - self.line
        if node.style == "|":
            opening = next((row for row in rows[first + 1 :] if row.strip()), "")
            indent = len(opening) - len(opening.lstrip(" "))
            return node.line + line, indent + column
        shift = 1 if node.style in ("'", '"') else 0
        at = node.column - 1 + shift
        if node.end_line == node.line and rows[first][at : at + len(node.value)] == node.value:
            return node.line, at + column
        return start

    def _root(self) -> Node | None:
        found = next(islice(read_part(self.text, self.line), self.index, None), None)
        return found.root if found else None
