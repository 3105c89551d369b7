"""Operations called without HTTP, and held against the contract: what goes in, what comes out, how it is refused.

A test can neither send a body that the contract would refuse, nor miss an answer that it does not describe.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import yaml

from factors.errors import Refusal

Json = dict[str, Any]

CONTRACT: Json = yaml.load((Path(__file__).parent.parent / "openapi.yaml").read_text(), yaml.CSafeLoader)


class Operation:
    """One operation of the contract, and the function that does it. Its name is its operationId without `handlers.`."""

    def __init__(self, name: str) -> None:
        self.name = name
        defined = next(
            operation
            for path in CONTRACT["paths"].values()
            for operation in path.values()
            if operation["operationId"] == f"handlers.{name}"
        )
        module, _, function = defined["operationId"].rpartition(".")
        self.function = getattr(import_module(module), function)
        self.supplied = inspect.signature(self.function).parameters
        parameters = [_resolved(parameter) for parameter in defined.get("parameters", [])]
        self.path = {each["name"]: validator(each["schema"]) for each in parameters if each["in"] == "path"}
        content = _resolved(defined.get("requestBody", {})).get("content", {})
        self.body = next((validator(each["schema"]) for each in content.values()), None)
        responses = {status: _resolved(response) for status, response in defined["responses"].items()}
        self.answer = validator(responses["200"]["content"]["application/json"]["schema"])
        self.refusals = {
            (int(status), example["value"]["code"])
            for status, response in responses.items()
            for example in response["content"].get("application/problem+json", {}).get("examples", {}).values()
        }

    def call(self, given: Mapping[str, object], **supplies: object) -> Json:
        """What a client would get for these path parameters and members of the body.

        Raises the refusal, once it is sure that the contract knows it.
        """
        parameters = {name: value for name, value in given.items() if name in self.path}
        body = {name: value for name, value in given.items() if name not in self.path}
        for name, value in parameters.items():
            self.path[name].validate(value)
        if self.body is None:
            assert not body, f"{self.name} takes no body"
        else:
            self.body.validate(body)
        arguments = {**supplies, **parameters, "body": body}
        try:
            result = self.function(**{name: arguments[name] for name in self.supplied})
        except Refusal as refusal:
            if (refusal.status, refusal.code) not in self.refusals:
                raise AssertionError(f"the contract of {self.name} knows no {refusal.code}") from refusal
            raise
        answer: Json = orjson.loads(orjson.dumps(result, option=orjson.OPT_UTC_Z))
        self.answer.validate(answer)
        return answer


@cache
def operation(name: str) -> Operation:
    return Operation(name)


def validator(schema: Json) -> jsonschema_rs.Draft4Validator:
    """A validator for a schema of the contract, with its references to other parts of it."""
    whole = {"allOf": [schema], "components": CONTRACT["components"]}
    return jsonschema_rs.Draft4Validator(_without_nullable(whole), validate_formats=True)


def _resolved(node: Json) -> Json:
    if "$ref" not in node:
        return node
    found: Any = CONTRACT
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return _resolved(found)


def _without_nullable(node: Any) -> Any:
    """JSON Schema has no `nullable`: there, null is one of the types."""
    if isinstance(node, list):
        return [_without_nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _without_nullable(value) for key, value in node.items() if key != "nullable"}
    return {**plain, "type": [node["type"], "null"]} if node.get("nullable") is True else plain
