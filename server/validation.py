"""The contract's schemas, compiled once, and what is wrong with a value as rows of HTTPValidationError.

No text in a row repeats the value that was rejected: it may be a code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import jsonschema_rs
import orjson

MOST_ROWS = 20

Row = dict[str, Any]


class ContractBroken(Exception):
    """A request that breaks the contract: 422, with a row for each thing that is wrong."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__("validation_failed")
        self.rows = rows[:MOST_ROWS]


def compiled(schema: dict[str, Any]) -> jsonschema_rs.Draft4Validator:
    """A validator for an OpenAPI 3.0 schema object whose references are resolved."""
    return jsonschema_rs.Draft4Validator(_without_nullable(schema), validate_formats=True)


def parse(body: bytes) -> Any:
    """The JSON value of a body: UTF-8, one value, nested no deeper than the parser goes. Raises ContractBroken."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        missing = not body.strip()
        raise ContractBroken(
            [
                _row(("body",), "Field required", "missing")
                if missing
                else _row(("body", error.pos), "The body is not valid JSON in UTF-8", "json_invalid")
            ]
        ) from None


def parse_form(body: bytes) -> dict[str, str]:
    """The fields of an `application/x-www-form-urlencoded` body in UTF-8, each given once. Raises ContractBroken."""
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body), errors="strict", max_num_fields=MOST_ROWS
        )
    except ValueError:
        raise ContractBroken([_row(("body",), "The body is not a valid form in UTF-8", "form_invalid")]) from None
    if len(dict(fields)) != len(fields):
        raise ContractBroken([_row(("body",), "A field may be given once", "form_invalid")])
    return dict(fields)


def check(validator: jsonschema_rs.Draft4Validator, value: Any, *place: str) -> None:
    """Raises ContractBroken when `value`, found at `place` of the request, does not fit."""
    if not validator.is_valid(value):
        raise ContractBroken(list(_rows(validator, value, place)))


def _rows(validator: jsonschema_rs.Draft4Validator, value: Any, place: tuple[str, ...]) -> Iterator[Row]:
    for error in validator.iter_errors(value):
        kind = error.kind
        said = _SAID.get(kind.name)
        message = said(kind.as_dict()) if said else "Value does not fit the contract"
        loc = (*place, *error.instance_path)
        if kind.name == "required":
            loc = (*loc, kind.value)
        yield _row(loc, message, _TYPES.get(kind.name, kind.name))


def _row(loc: tuple[str | int, ...], message: str, kind: str) -> Row:
    return {"loc": list(loc), "msg": message, "type": kind}


_TYPES = {
    "required": "missing",
    "additionalProperties": "extra_forbidden",
    "type": "type_error",
    "pattern": "string_pattern_mismatch",
    "maxLength": "string_too_long",
    "minLength": "string_too_short",
    "maxItems": "too_long",
    "minItems": "too_short",
}

_SAID: dict[str, Callable[[dict[str, Any]], str]] = {
    "required": lambda kind: "Field required",
    "additionalProperties": lambda kind: "Unknown fields are not permitted",
    "type": lambda kind: f"Value should be of type {' or '.join(kind['types'])}",
    "pattern": lambda kind: f"String should match {kind['pattern']}",
    "maxLength": lambda kind: f"String should have at most {kind['limit']} characters",
    "minLength": lambda kind: f"String should have at least {kind['limit']} characters",
    "maxItems": lambda kind: f"List should have at most {kind['limit']} items",
    "minItems": lambda kind: f"List should have at least {kind['limit']} items",
    "enum": lambda kind: f"Value should be one of {', '.join(map(str, kind['options']))}",
    "format": lambda kind: f"String should be a {kind['format']}",
}


def _without_nullable(schema: Any) -> Any:
    """OpenAPI 3.0 says `nullable: true` where JSON Schema says `type: [..., null]`."""
    if isinstance(schema, list):
        return [_without_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _without_nullable(value) for key, value in schema.items() if key != "nullable"}
    if schema.get("nullable") is True:
        plain["type"] = [schema["type"], "null"]
    return plain
