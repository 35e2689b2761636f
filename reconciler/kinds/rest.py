"""What is left of a manifest once its faults are taken out, so that the rest of it can be checked all the same.

A person who mends a file wants to hear of everything at once: of the time zone that does not exist and of the
location that nobody defines. So the faulty fields are cut away, round by round, until the model takes what is left:
an optional field goes alone, a required one with what it belongs to, an entry of a list leaves a gap that paths are
counted around. Nothing of this ever comes into force.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from reconciler.kinds.document import FAULTY, Path
from reconciler.kinds.explanation import model_at
from reconciler.kinds.marks import spell
from reconciler.kinds.model import REST, Kind

ROUNDS_MAX = 12
UNNAMED = "unnamed"
"""Stands for a name that is missing or wrong."""
_NEEDED: frozenset[Path] = frozenset(
    {(), ("apiVersion",), ("kind",), ("metadata",), ("metadata", "namespace")}
)
"""Without these it cannot be said what the rest would mean."""
_GAP: Any = type("Gap", (), {"__slots__": ()})()


@dataclass(frozen=True, slots=True)
class Rest:
    """A manifest without its faults. `removed` are fields of the file that are not in it."""

    kind: Kind
    removed: tuple[str, ...]
    indices: Mapping[Path, tuple[int, ...]]
    """List, as it is in `kind` → the places that its entries have in the file."""

    def original(self, path: Path) -> Path:
        """The path in the file of a path in `kind`."""
        return _original(path, self.indices)

    def is_sound(self, field: str) -> bool:
        """Whether nothing was taken out of a field, nor the field out of something."""
        return not any(_is_within(field, one) or _is_within(one, field) for one in self.removed)

    @property
    def is_named(self) -> bool:
        """Whether its own name could be read."""
        return self.kind.metadata.name != UNNAMED


def rest_of(value: Any, model: type[Kind]) -> Rest | None:
    """Cut away what is wrong; None when nothing is left that could be checked."""
    return _Cutting(value, model).run()


class _Cutting:
    def __init__(self, value: Any, model: type[Kind]) -> None:
        self._model = model
        self._removed: dict[Path, None] = {}
        self._stood: set[Path] = set()
        self._tree = self._copy(value, ())

    def run(self) -> Rest | None:
        for _ in range(ROUNDS_MAX):
            indices: dict[Path, tuple[int, ...]] = {}
            whole = _without_gaps(self._tree, (), indices)
            try:
                kind = self._model.model_validate(whole, by_alias=True, by_name=False, context=REST)
            except ValidationError as error:
                for path, is_missing in _places(error, whole):
                    if not self._take_out(_original(path, indices), is_missing=is_missing):
                        return None
            else:
                return Rest(kind, tuple(spell(path) for path in self._removed), indices)
        return None

    def _copy(self, value: Any, path: Path) -> Any:
        """A copy that can be cut; what the text itself spoiled is cut already."""
        match value:
            case dict():
                made = {k: self._copy(v, (*path, k)) for k, v in value.items()}
                return {key: item for key, item in made.items() if item is not _GAP}
            case list():
                return [self._copy(item, (*path, index)) for index, item in enumerate(value)]
        if value is FAULTY:
            self._removed[path] = None
            return _GAP
        return value

    def _take_out(self, path: Path, *, is_missing: bool) -> bool:
        """Cut one field; whether anything can be left after that."""
        self._removed[path] = None
        if path[:1] == ("metadata",) and path[1:] in ((), ("name",)):
            return self._stand_in(("metadata", "name"), UNNAMED)
        if path in _NEEDED:
            return False
        parent = self._at(path[:-1])
        if parent is None:
            return True
        if isinstance(parent, list):
            parent[int(path[-1])] = _GAP
        elif not is_missing:
            parent.pop(path[-1], None)
        elif model_at(self._model, path) is None or not self._stand_in(path, {}):
            return self._take_out(path[:-1], is_missing=False)
        return True

    def _stand_in(self, path: Path, value: Any) -> bool:
        """Put something in the place of a required field, once."""
        if path in self._stood:
            return False
        self._stood.add(path)
        parent = self._at(path[:-1])
        if not isinstance(parent, dict):
            self._tree[path[0]] = parent = {}
        parent[path[-1]] = value
        return True

    def _at(self, path: Path) -> Any:
        """The mapping or list at a path; None when it was cut away before."""
        found = self._tree
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                return None
        return found if isinstance(found, dict | list) else None


def _places(error: ValidationError, value: Any) -> Iterator[tuple[Path, bool]]:
    """Where each error is, and whether it is that something is missing; branches of unions are no steps."""
    found: dict[tuple[Path, bool], bool] = {}
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        at: Any = value
        path: list[str | int] = []
        is_branch, loc = False, one["loc"]
        is_missing = one["type"] == "missing"
        for position, step in enumerate(loc):
            if is_missing and position == len(loc) - 1:
                path.append(step)
            elif (child := _child(at, step)) is not _GAP:
                at = child
                path.append(step)
            else:
                is_branch = True
        found.setdefault((tuple(path), is_missing), is_branch)
    for (path_, is_missing), is_branch in found.items():
        deeper = any(len(p) > len(path_) and p[: len(path_)] == path_ for p, _ in found)
        if not (is_branch and deeper):
            yield path_, is_missing


def _child(value: Any, step: str | int) -> Any:
    match value, step:
        case dict(), _:
            return value.get(step, _GAP)
        case list(), int() if step < len(value):
            return value[step]
    return _GAP


def _without_gaps(value: Any, path: Path, indices: dict[Path, tuple[int, ...]]) -> Any:
    match value:
        case dict():
            return {key: _without_gaps(v, (*path, key), indices) for key, v in value.items()}
        case list():
            kept = [index for index, item in enumerate(value) if item is not _GAP]
            if len(kept) < len(value):
                indices[path] = tuple(kept)
            return [
                _without_gaps(value[index], (*path, place), indices)
                for place, index in enumerate(kept)
            ]
    return value


def _original(path: Path, indices: Mapping[Path, tuple[int, ...]]) -> Path:
    made: list[str | int] = []
    for position, step in enumerate(path):
        kept = indices.get(path[:position])
        made.append(kept[step] if kept is not None and isinstance(step, int) else step)
    return tuple(made)


def _is_within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith((f"{outer}.", f"{outer}["))
