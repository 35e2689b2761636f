"""JSON Schema draft-07 of the declarative kinds, made from the models, for editors and other checkers.

Draft-07 is what the YAML language server reads. Descriptions are the docstrings of the fields. A field that is
not built yet is there with the schema that nothing satisfies, so that an editor refuses it as the loader does.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from reconciler.kinds.model import API_VERSION, Kind
from reconciler.kinds.record import RECORD_KINDS
from reconciler.kinds.registry import DECLARATIVE

DRAFT = "http://json-schema.org/draft-07/schema#"
_TEMPLATE = "#/definitions/{model}"


def json_schema(kind: str) -> dict[str, Any]:
    """The schema of a kind, declarative or record.

    Raises:
        KeyError: there is no such kind.
    """
    model: type[Kind] = {**DECLARATIVE, **RECORD_KINDS}[kind]
    return {"$schema": DRAFT, **_schema(model, top=True)}


def combined_schema() -> dict[str, Any]:
    """One schema that takes a manifest of any declarative kind."""
    definitions: dict[str, Any] = {}
    for kind, model in DECLARATIVE.items():
        schema = _schema(model, top=False)
        definitions |= schema.pop("definitions", {})
        definitions[kind] = schema
    return {
        "$schema": DRAFT,
        "title": API_VERSION,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {"kind": {"enum": list(DECLARATIVE)}},
        # The kind decides which schema speaks, so that an editor does not list the faults of all others.
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": _TEMPLATE.format(model=kind)},
            }
            for kind in DECLARATIVE
        ],
        "definitions": definitions,
    }


class _Draft07(GenerateJsonSchema):
    """Without the titles that only repeat names, and with `null` only where a field may be empty."""

    schema_dialect = DRAFT

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the library calls it so
        """No titles: the names of the fields say it."""
        return False


def _schema(model: type[Kind], *, top: bool) -> dict[str, Any]:
    schema = model.model_json_schema(
        by_alias=True, ref_template=_TEMPLATE, schema_generator=_Draft07, mode="validation"
    )
    definitions = schema.pop("$defs", {})
    if definitions:
        schema["definitions"] = definitions
    if top:
        schema["title"] = model.__name__
    _tidy(schema)
    return schema


def _tidy(schema: Any) -> None:
    """Bring pydantic's 2020-12 to draft-07: siblings of `$ref` are ignored there, so it moves into `allOf`."""
    if isinstance(schema, list):
        for item in schema:
            _tidy(item)
        return
    if not isinstance(schema, dict):
        return
    if "$ref" in schema and len(schema) > 1:
        schema["allOf"] = [{"$ref": schema.pop("$ref")}]
    if schema.get("default", 0) is None:
        del schema["default"]
    for value in list(schema.values()):
        _tidy(value)
