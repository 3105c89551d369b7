"""`openapi.yaml`, as the tests read it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FILE = Path(__file__).parent.parent.parent / "openapi.yaml"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
Json = dict[str, Any]


class Operation(NamedTuple):
    id: str
    method: str
    path: str
    definition: Json

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def statuses(self) -> list[int]:
        return sorted(map(int, self.definition["responses"]))


@cache
def document() -> Json:
    content: Json = yaml.safe_load(FILE.read_text())
    return content


@cache
def operations() -> dict[str, Operation]:
    """Every operation by its `operationId`, in the document's order."""
    return {
        definition["operationId"]: Operation(definition["operationId"], method.upper(), path, definition)
        for path, methods in document()["paths"].items()
        for method, definition in methods.items()
        if method in METHODS
    }


def resolved(value: Json) -> Json:
    """What `value` says, or what its `$ref` points at."""
    while "$ref" in value:
        found: Any = document()
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def inlined(value: Any) -> Any:
    """A schema with what its references point at in their place, as Connexion hands it to the server."""
    if isinstance(value, dict):
        return {key: inlined(item) for key, item in resolved(value).items()}
    return [inlined(item) for item in value] if isinstance(value, list) else value


def walk(value: Any, *place: str) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Every object of the document below `value`, with the path to it; references are not followed."""
    if isinstance(value, dict):
        yield place, value
        for key, item in value.items():
            yield from walk(item, *place, str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, *place, str(index))
