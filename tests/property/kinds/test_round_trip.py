"""Laws of the loader and the writer: nothing crashes, and what is written is read back equal."""

from __future__ import annotations

import types
import typing
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from reconciler.kinds.document import read_documents
from reconciler.kinds.loader import FILE_BYTES_MAX, load
from reconciler.kinds.model import API_VERSION, Kind, Model
from reconciler.kinds.record import RECORD_KINDS
from reconciler.kinds.registry import DECLARATIVE
from reconciler.kinds.rest import rest_of
from reconciler.kinds.writer import to_data, to_yaml

KINDS: dict[str, type[Kind]] = {**DECLARATIVE, **RECORD_KINDS}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = st.sampled_from(
    [
        "no",
        "012",
        "1:30",
        "a: b",
        "x\ny\n",
        " lead",
        "1e3",
        "",
        "é",
        "2026-01-01",
        "shop",
        "~",
        "<<",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries((TEXT | WORDS).filter(lambda k: k != "<<"), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
SPANS = st.integers(0, 10**8).map(lambda s: timedelta(seconds=s))
INSTANTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)).map(
    lambda d: d.replace(tzinfo=UTC)
)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=400) | st.text("-:[]{}#&*!|>'\"%@`,? \n\t\rab1.~<=\\/x", max_size=200))
def test_any_text_is_answered(text):
    """No text makes the loader raise, also behind a head of ours."""
    head = f"apiVersion: {API_VERSION}\nkind: BackupPolicy\nmetadata: {{name: a}}\n"

    for data in (
        text,
        head + text,
        head + "spec:\n  " + text,
        text + "\n---\n" + head + "spec: {}\n",
    ):
        load("p.yaml", data.encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data):
    """No bytes make the loader raise."""
    load("p.yaml", data)
    load("p.yaml", f"apiVersion: {API_VERSION}\n".encode() + data)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_plain_data_comes_back(value):
    """Our reader and a reader of YAML 1.1 both give back what was written."""
    written = to_yaml({"value": value})

    (document,) = read_documents(written)
    assert document.root is not None
    assert document.faults == ()
    assert document.root.value == {"value": value}
    assert yaml.safe_load(written) == {"value": value}


@settings(max_examples=400, deadline=None)
@given(JSON)
def test_any_tree_in_a_manifest_is_answered(value):
    """Wrong types anywhere are findings, never exceptions; every finding names a place of the file."""
    for kind in ("BackupPolicy", "Restore", "TransformSet"):
        text = to_yaml(
            {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": value}
        )
        for finding in load("p.yaml", text.encode()).findings:
            assert 1 <= finding.line <= text.count("\n") + 1
            assert finding.column >= 1


@pytest.mark.parametrize("name", sorted(KINDS))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_kind_comes_back_from_its_file(name, data):
    """Writer, then loader, gives an equal manifest of every kind, records included."""
    drawn = data.draw(_dicts(KINDS[name]))
    drawn |= {"apiVersion": API_VERSION, "kind": name, "metadata": {"name": "a"}}
    try:
        kind = KINDS[name].model_validate(drawn)
    except ValidationError:
        reject()  # a rule between fields does not hold: not a manifest

    text = to_yaml(kind)

    assert len(text.encode()) <= FILE_BYTES_MAX
    loaded = load("p.yaml", text.encode(), kinds=KINDS)
    assert loaded.findings == ()
    assert [one.kind for one in loaded.manifests] == [kind]
    assert to_data(loaded.manifests[0].kind) == yaml.safe_load(text)


@cache
def _dicts(model: type[Model]) -> st.SearchStrategy[dict[str, Any]]:
    """Values for a model as its file would give them; rarely every field, always the required ones."""
    required, optional = {}, {}
    for name, info in model.model_fields.items():
        if info.exclude:
            continue
        values = KNOWN.get(name) if info.annotation is str else None
        (required if info.is_required() else optional)[info.alias or name] = (
            _values(info) if values is None else values
        )
    return st.fixed_dictionaries(required, optional=optional).map(
        lambda drawn: _mend(model.__name__, drawn)
    )


KNOWN = {
    "point": st.sampled_from(
        ["shop/_/latest", "shop/web/20261201T110000Z", "shop/_/@2026-12-01T11:00:00Z"]
    ),
    "url": st.sampled_from(["file:///srv/a", "file:///a b"]),
    "time_zone": st.sampled_from(["UTC", "Europe/Berlin"]),
    "artifact": st.just("dump"),
}


def _mend(model: str, drawn: dict[str, Any]) -> dict[str, Any]:
    """Make fields agree where a rule spans them, so that most of what is drawn is a manifest."""
    either = {
        "Phase": ("exec", "stream"),
        "ApplicationSelector": ("groupBy", "name"),
        "TransformRule": ("mutations", "action"),
    }
    first, second = either.get(model, ("", ""))
    if first and not drawn.get(first):
        drawn.pop(first, None)
        if drawn.get(second) is None:
            drawn |= {
                "Phase": {"exec": {"command": ["true"]}},
                "ApplicationSelector": {"groupBy": "app"},
                "TransformRule": {"action": "Skip"},
            }[model]
    elif first:
        drawn.pop(second, None)
        drawn.pop("timeout", None)
    if model == "HoldSpec":
        if drawn.get("slot") is None:
            drawn["since"] = datetime(2026, 1, 1, tzinfo=UTC)
        else:
            drawn["slot"] = "20261201T110000Z"
            drawn.pop("since", None)
            drawn.pop("upto", None)
    if model == "PolicyLocation":
        drawn["retention"]["daily"] = 7
    if model == "Actions":
        for action in ("backup", "restore"):
            drawn[action]["phases"] = drawn[action]["phases"][:1]
        if any("stream" in phase for phase in drawn["restore"]["phases"]):
            drawn["backup"]["phases"] = drawn["restore"]["phases"]
    return drawn


def _values(info: FieldInfo) -> st.SearchStrategy[Any]:
    return _of(info.annotation, info.metadata)


def _of(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _of(args[0], [*args[1:]])
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_of(arg, metadata) for arg in args])
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin is list:
        return st.lists(_of(args[0], []), min_size=_bound(metadata, "min_length", 0), max_size=3)
    if origin is dict:
        return st.dictionaries(
            (TEXT | WORDS).filter(lambda k: k != "<<"), _of(args[1], []), max_size=3
        )
    if annotation is Any:
        return JSON
    if annotation is type(None):
        return st.none()
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return _dicts(annotation)
    simple = {bool: st.booleans(), timedelta: SPANS, datetime: INSTANTS}
    if annotation in simple:
        return simple[annotation]
    if annotation is int:
        low, high = _bound(metadata, "ge", 0), _bound(metadata, "le", 2**40)
        return st.integers(low, min(high, low + 2**40))
    return _texts(metadata)


def _bound(metadata: list[Any], name: str, default: int) -> int:
    for entry in metadata:
        for one in getattr(entry, "metadata", [entry]):
            if getattr(one, name, None) is not None:
                return int(getattr(one, name))
    return default


def _texts(metadata: list[Any]) -> st.SearchStrategy[str]:
    patterns = [
        p
        for e in metadata
        for o in getattr(e, "metadata", [e])
        if (p := getattr(o, "pattern", None))
    ]
    if patterns:
        longest = min(_bound(metadata, "max_length", 64), 64)
        return st.from_regex(patterns[0].replace("$", r"\Z")).filter(lambda t: len(t) <= longest)
    shortest = _bound(metadata, "min_length", 0)
    return (TEXT | WORDS).filter(lambda t: len(t) >= shortest)


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(DECLARATIVE)),
    spec=JSON,
    metadata=JSON | st.just({"name": "a"}),
)
def test_what_is_left_of_any_document_can_be_led_back(name, spec, metadata):
    """Cutting faults away never fails; what is left is whole, and each of its entries is one of the file."""
    value = {"apiVersion": API_VERSION, "kind": name, "metadata": metadata, "spec": spec}
    rest = rest_of(value, DECLARATIVE[name])

    if rest is None:
        return
    assert isinstance(rest.kind, DECLARATIVE[name])
    for at, kept in rest.indices.items():
        whole = value
        for step in rest.original(at):
            whole = whole[step]
        assert len(set(kept)) == len(kept) < len(whole)
        assert set(kept) <= set(range(len(whole)))
