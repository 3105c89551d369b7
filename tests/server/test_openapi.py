"""The document is executed: what `openapi.yaml` promises stands in the code, and the reverse."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pkgutil import resolve_name
from typing import Any

import httpx
import pytest

from factors import errors
from server import validation
from tests.contract.document import FILE, Json, Operation, document, inlined, operations, resolved, walk
from tests.running import RunningServer

OPERATIONS = list(operations().values())
SUPPLIED = {"caller", "body", "now", "settings", "signing_keys"}
STATUSES_WITH_RETRY_AFTER = ("429", "503")

# Objects that are not ours to close, and strings that are not ours to describe.
OPEN_OBJECTS = {
    "RegistrationResponse": "made by the browser, which may add members (W3C WebAuthn Level 3, section 5.1.8)",
    "RegistrationResponse.response": "the same",
    "RegistrationResponse.clientExtensionResults": "whatever extensions the browser knows",
    "AuthenticationResponse": "as RegistrationResponse",
    "AuthenticationResponse.response": "the same",
    "AuthenticationResponse.clientExtensionResults": "the same",
    "CreationOptions.extensions": "whatever extensions the server asks for",
    "Introspection": "RFC 7662 section 2.2 allows further members, and the tenant's claim has a name that is set",
}
FREE_INPUT = {
    "IntrospectRequest.token": "any string gets the answer that it is not active (RFC 7662 section 2.2)",
    "IntrospectRequest.token_type_hint": "a hint that is not known is to be ignored (RFC 7662 section 2.1)",
    "RegistrationResponse.authenticatorAttachment": "values that are not known are to be ignored (WebAuthn 5.1)",
    "RegistrationResponse.response.transports[]": "the same (WebAuthn 5.2.1)",
    "AuthenticationResponse.authenticatorAttachment": "the same",
}
# What the user's document says: method, path, title, and the schema of the request body with its fields.
HANDED_IN = [
    ("GET", "/api/v1/me/mfa", "List Mfa Methods", None),
    ("POST", "/api/v1/me/mfa/backup-codes/regenerate", "Regenerate Backup Codes", "RegenerateBackupCodesRequest"),
    ("POST", "/api/v1/me/mfa/email/confirm", "Confirm Email Mfa", "EmailMFAConfirmRequest"),
    ("POST", "/api/v1/me/mfa/email/disable", "Disable Email Mfa", "DisableEmailMFARequest"),
    ("POST", "/api/v1/me/mfa/email/enable", "Enable Email Mfa", None),
    ("POST", "/api/v1/me/mfa/totp/confirm", "Confirm Totp", "ConfirmTotpRequest"),
    ("POST", "/api/v1/me/mfa/totp/disable", "Disable Totp", "DisableTotpRequest"),
    ("POST", "/api/v1/me/mfa/totp/enable", "Enable Totp", None),
    ("POST", "/api/v1/me/mfa/webauthn/register/begin", "Begin Webauthn Registration", None),
    ("POST", "/api/v1/me/mfa/webauthn/register/complete", "Complete Webauthn Registration", "WebAuthnConfirmRequest"),
    ("DELETE", "/api/v1/me/mfa/webauthn/{device_id}", "Remove Webauthn Device", None),
]
# Of each schema its fields with their types, and which of them are required.
HANDED_IN_SCHEMAS: dict[str, tuple[dict[str, str], set[str]]] = {
    "ConfirmTotpRequest": ({"code": "string"}, {"code"}),
    "DisableEmailMFARequest": ({"code": "string"}, {"code"}),
    "DisableTotpRequest": ({"code": "string"}, {"code"}),
    "EmailMFAConfirmRequest": ({"code": "string"}, {"code"}),
    "RegenerateBackupCodesRequest": ({"code": "string"}, {"code"}),
    "WebAuthnConfirmRequest": (
        {"device_id": "string", "challenge_id": "string", "credential": "object"},
        {"device_id", "challenge_id", "credential"},
    ),
    "HTTPValidationError": ({"detail": "array"}, set()),
    "ValidationError": ({"loc": "array", "msg": "string", "type": "string"}, {"loc", "msg", "type"}),
}


def label(operation: Operation) -> str:
    return operation.label


def contents(holder: Json) -> Iterator[tuple[str, Json]]:
    yield from resolved(holder).get("content", {}).items()


def responses() -> Iterator[tuple[Operation, str, Json]]:
    for operation in OPERATIONS:
        for status, response in operation.definition["responses"].items():
            yield operation, status, resolved(response)


def schemas_in(schema: Json, name: str) -> Iterator[tuple[str, Json]]:
    """A schema and all below it, named by the component and the fields that lead there."""
    if "$ref" in schema:
        name, schema = schema["$ref"].rsplit("/", 1)[1], resolved(schema)
    yield name, schema
    for field, below in schema.get("properties", {}).items():
        yield from schemas_in(below, f"{name}.{field}")
    if "items" in schema:
        yield from schemas_in(schema["items"], f"{name}[]")
    for keyword in ("anyOf", "oneOf", "allOf"):
        for below in schema.get(keyword, []):
            yield from schemas_in(below, name)


def requests() -> Iterator[tuple[str, Json]]:
    """The schemas of everything that is sent to the server."""
    for operation in OPERATIONS:
        for parameter in map(resolved, operation.definition.get("parameters", [])):
            yield from schemas_in(parameter["schema"], f"{operation.id} {parameter['name']}")
        for _, content in contents(operation.definition.get("requestBody", {})):
            yield from schemas_in(content["schema"], operation.id)


def answers() -> Iterator[tuple[str, Json]]:
    """The schemas of everything that the server sends."""
    for operation, status, response in responses():
        for name, header in response.get("headers", {}).items():
            yield from schemas_in(resolved(header)["schema"], f"{operation.id} {status} {name}")
        for _, content in contents(response):
            yield from schemas_in(content["schema"], f"{operation.id} {status}")


# Functions.


@pytest.mark.parametrize("operation", OPERATIONS, ids=label)
def test_every_operation_is_a_function_that_takes_what_is_sent(operation: Operation) -> None:
    handler = resolve_name(operation.id)
    assert inspect.isfunction(handler)
    assert handler.__doc__
    sent = {resolved(each)["name"].lower().replace("-", "_") for each in operation.definition.get("parameters", [])}
    sent |= {"body"} if "requestBody" in operation.definition else set()
    taken = set(inspect.signature(handler).parameters)
    assert sent <= taken <= sent | SUPPLIED


def test_every_security_scheme_names_a_function() -> None:
    for scheme in document()["components"]["securitySchemes"].values():
        function = resolve_name(scheme["x-bearerInfoFunc"])
        assert list(inspect.signature(function).parameters) == ["token"]


def test_every_operation_under_api_takes_a_token_and_no_other_does() -> None:
    schemes = document()["components"]["securitySchemes"]
    for operation in OPERATIONS:
        named = [scheme for requirement in operation.definition["security"] for scheme in requirement]
        assert bool(named) == operation.path.startswith("/api/")
        assert set(named) <= set(schemes)


def test_every_tag_of_an_operation_is_described() -> None:
    described = {tag["name"] for tag in document()["tags"]}
    assert {tag for operation in OPERATIONS for tag in operation.definition["tags"]} == described


def test_no_extension_but_that_of_the_security_schemes_is_used() -> None:
    extensions = {key for _, each in walk(document()) for key in each if str(key).startswith("x-")}
    assert extensions == {"x-bearerInfoFunc"}


# Bounds.


def test_api_04_every_string_is_bounded() -> None:
    for name, schema in (*requests(), *answers()):
        if schema.get("type") == "string" and "enum" not in schema:
            assert 0 < schema.get("maxLength", 0) <= 65536, name


def test_api_04_every_string_that_is_sent_to_the_server_has_a_form() -> None:
    free = set()
    for name, schema in requests():
        if schema.get("type") == "string" and not {"pattern", "enum"} & set(schema):
            free.add(name)
    assert free == set(FREE_INPUT)


def test_no_pattern_has_a_class_that_means_more_than_ascii() -> None:
    """To Python `\\d` is any digit of Unicode, to others only ten (OTP-04)."""
    patterns = {schema["pattern"] for _, schema in (*requests(), *answers()) if "pattern" in schema}
    for pattern in patterns:
        re.compile(pattern)
        assert not re.search(r"\\[dDwWsS]", pattern), pattern
        assert pattern.startswith("^"), pattern


def test_every_integer_has_a_least_and_a_most() -> None:
    for name, schema in (*requests(), *answers()):
        if schema.get("type") in ("integer", "number"):
            assert {"minimum", "maximum"} <= set(schema), name


def test_every_array_is_bounded() -> None:
    for name, schema in (*requests(), *answers()):
        if schema.get("type") == "array":
            assert schema["maxItems"] > 0, name
            assert "items" in schema, name


def test_api_04_every_object_of_ours_is_closed() -> None:
    found = {
        name
        for name, schema in (*requests(), *answers())
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False
    }
    assert found == set(OPEN_OBJECTS)


def test_every_required_field_is_described() -> None:
    for name, schema in (*requests(), *answers()):
        if schema.get("type") == "object":
            assert set(schema.get("required", [])) <= set(schema.get("properties", {})), name


# Examples.


def examples() -> Iterator[tuple[str, Json, Any]]:
    """Where each example stands, the schema that it is one of, and the example."""
    for component in ("responses", "requestBodies"):
        for name, holder in document()["components"][component].items():
            for _, content in contents(holder):
                for title, example in content["examples"].items():
                    yield f"{name}.{title}", content["schema"], example["value"]
    for name, schema in {**dict(requests()), **dict(answers())}.items():
        if "example" in schema:
            yield name, schema, schema["example"]


@pytest.mark.parametrize(("schema", "example"), [pytest.param(*rest, id=name) for name, *rest in examples()])
def test_every_example_is_one(schema: Json, example: Any) -> None:
    assert list(validation.compiled(inlined(schema)).iter_errors(example)) == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=label)
def test_api_01_every_status_is_a_named_answer_with_a_named_example(operation: Operation) -> None:
    for status, response in operation.definition["responses"].items():
        assert response["$ref"].startswith("#/components/responses/"), status
        for _, content in contents(response):
            assert content["examples"], status
    for _, content in contents(operation.definition.get("requestBody", {})):
        assert content["examples"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=label)
def test_api_03_every_refusal_that_an_operation_can_give_is_declared(operation: Operation) -> None:
    always = {200, 406, 413, 500}
    with_token = {401, 503, 422} if operation.definition["security"] else set()
    with_body = {415, 422} if "requestBody" in operation.definition else set()
    assert always | with_token | with_body <= set(operation.statuses)
    assert set(operation.statuses) <= {200, 401, 403, 404, 406, 409, 413, 415, 422, 429, 500, 503}


def test_api_05_every_answer_under_api_may_not_be_stored() -> None:
    for operation, status, response in responses():
        if operation.path.startswith("/api/"):
            assert resolved(response["headers"]["Cache-Control"])["schema"]["enum"] == ["no-store"], status


def test_api_07_every_answer_to_come_back_to_says_when() -> None:
    for operation, status, response in responses():
        says_when = "Retry-After" in response.get("headers", {})
        assert says_when == (status in STATUSES_WITH_RETRY_AFTER), operation.label


def test_tok_12_every_401_challenges() -> None:
    for _, status, response in responses():
        if status == "401":
            assert resolved(response["headers"]["WWW-Authenticate"])["required"]


# Problems.


def refusals() -> dict[str, type[errors.Refusal]]:
    return {each.code: each for each in errors.Refusal.__subclasses__()}


def problems() -> Iterator[tuple[str, Json]]:
    """Every example of a problem, with the status that it stands under."""
    for _, status, response in responses():
        for media_type, content in contents(response):
            if media_type == "application/problem+json":
                for title, example in content["examples"].items():
                    assert title == example["value"]["code"]
                    yield status, example["value"]


def test_api_02_every_problem_code_is_an_error_and_the_reverse() -> None:
    assert document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == list(refusals())


def test_api_02_every_problem_reads_as_its_error_says() -> None:
    for status, problem in problems():
        refusal = refusals()[problem["code"]]
        assert problem == {
            "type": f"/problems/{refusal.code}",
            "title": refusal.title,
            "status": refusal.status,
            "detail": refusal.detail,
            "code": refusal.code,
        }
        assert int(status) == refusal.status


def test_every_error_is_the_answer_to_something() -> None:
    # These answer what is no operation at all.
    elsewhere = {"malformed_request", "not_found", "method_not_allowed", "head_too_large"}
    assert {problem["code"] for _, problem in problems()} == set(refusals()) - elsewhere


def test_the_tree_of_errors_is_drawn_as_it_stands() -> None:
    drawn = re.findall(r"^[├└]── (\w+) +(\d+)", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [(each.__name__, str(each.status)) for each in refusals().values()]


# The user's document.


@pytest.mark.parametrize(("method", "path", "title", "schema"), HANDED_IN, ids=[row[1] for row in HANDED_IN])
def test_the_handed_in_operation_is_there(method: str, path: str, title: str, schema: str | None) -> None:
    definition = document()["paths"][path][method.lower()]
    assert definition["summary"] == title
    assert [name for name, _ in contents(definition["responses"]["200"])] == ["application/json"]
    [(_, success)] = contents(definition["responses"]["200"])
    assert resolved(success["schema"])["type"] == "object"
    [(media_type, broken)] = contents(definition["responses"]["422"])
    assert (media_type, broken["schema"]) == ("application/json", {"$ref": "#/components/schemas/HTTPValidationError"})
    if schema is None:
        assert "requestBody" not in definition
    else:
        body = resolved(definition["requestBody"])
        assert body["required"] is True
        assert [(kind, content["schema"]["$ref"]) for kind, content in contents(body)] == [
            ("application/json", f"#/components/schemas/{schema}")
        ]


@pytest.mark.parametrize("name", HANDED_IN_SCHEMAS)
def test_the_handed_in_schema_is_there(name: str) -> None:
    fields, required = HANDED_IN_SCHEMAS[name]
    schema = document()["components"]["schemas"][name]
    assert schema["title"] == name
    assert {field: resolved(below)["type"] for field, below in schema["properties"].items()} == fields
    assert set(schema.get("required", [])) == required


def test_the_handed_in_validation_error_names_places_by_strings_and_integers() -> None:
    items = document()["components"]["schemas"]["ValidationError"]["properties"]["loc"]["items"]
    assert [each["type"] for each in items["anyOf"]] == ["string", "integer"]
    detail = document()["components"]["schemas"]["HTTPValidationError"]["properties"]["detail"]
    assert detail["items"] == {"$ref": "#/components/schemas/ValidationError"}


def test_every_operation_under_me_is_handed_in_or_for_verification() -> None:
    ours = {(each.method, each.path) for each in OPERATIONS if each.path.startswith("/api/v1/me/")}
    assert ours - {row[:2] for row in HANDED_IN} == {
        ("POST", "/api/v1/me/mfa/challenge"),
        ("POST", "/api/v1/me/mfa/verify"),
    }


# Links.


def links() -> Iterator[tuple[str, Json, Json]]:
    for name, response in document()["components"]["responses"].items():
        for title, link in response.get("links", {}).items():
            [(_, content)] = contents(response)
            yield f"{name}.{title}", link, content["schema"]


def field_at(schema: Json, pointer: str) -> Json:
    """The schema of what a JSON pointer (RFC 6901) finds in a value of `schema`."""
    for step in pointer.split("/")[1:]:
        schema = resolved(schema)
        below = schema["items"] if step.isdigit() else schema["properties"][step]
        # Where there are several forms, what all of them have is there.
        schema = next((each for each in below.get("oneOf", [])), below)
    return resolved(schema)


@pytest.mark.parametrize(("link", "schema"), [pytest.param(*rest, id=name) for name, *rest in links()])
def test_every_link_leads_to_an_operation_with_what_it_takes(link: Json, schema: Json) -> None:
    target = operations()[link["operationId"]]
    parameters = {resolved(each)["name"]: resolved(each)["schema"] for each in target.definition.get("parameters", [])}
    taken: dict[str, Json] = {**parameters}
    for _, content in contents(target.definition.get("requestBody", {})):
        taken |= resolved(content["schema"])["properties"]
    for name, expression in {**link.get("parameters", {}), **link.get("requestBody", {})}.items():
        assert name in taken
        if isinstance(expression, str) and expression.startswith("$response.body#"):
            found = field_at(schema, expression.removeprefix("$response.body#"))
            assert found["type"] == resolved(taken[name])["type"]


def test_every_answer_with_an_id_or_a_secret_leads_on() -> None:
    handed_out = {"device_id", "challenge_id", "secret", "assertion"}
    for name, response in document()["components"]["responses"].items():
        for _, content in contents(response):
            fields = set(resolved(content["schema"]).get("properties", {}))
            # A key that was removed leads nowhere.
            if fields & handed_out and name != "WebAuthnRemoved":
                assert "links" in response, name


# What is served.


def test_the_document_is_served_as_it_is_written(api: RunningServer) -> None:
    served = httpx.get(f"{api.url}/openapi.json")
    assert served.headers["content-type"] == "application/json"
    assert served.json() == document()
    assert httpx.get(f"{api.url}/openapi.yaml").content == FILE.read_bytes()


class Assets(HTMLParser):
    """The files that a page loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in (("link", "href"), ("script", "src")) and value:
                self.names.append(value)


def test_swagger_ui_is_served_whole(api: RunningServer) -> None:
    page = httpx.get(f"{api.url}/docs", follow_redirects=True)
    assert (page.status_code, str(page.url)) == (200, f"{api.url}/docs/")
    assert '"/openapi.json"' in page.text
    names = Assets(page.text).names
    assert {"./swagger-ui.css", "./swagger-ui-bundle.js"} <= set(names)
    for name in names:
        asset = httpx.get(f"{api.url}/docs/{name}")
        assert (asset.status_code, bool(asset.content)) == (200, True), name
        # Nothing is loaded from elsewhere.
        assert name.startswith("./")


def test_swagger_ui_can_authorize(api: RunningServer) -> None:
    """Its button is there when the document has a scheme that it knows."""
    schemes = httpx.get(f"{api.url}/openapi.json").json()["components"]["securitySchemes"]
    assert {(scheme["type"], scheme["scheme"]) for scheme in schemes.values()} == {("http", "bearer")}
