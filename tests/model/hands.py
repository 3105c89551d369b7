"""What a user has in their hands, and how an `Ask` becomes a request with it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from tests.authenticator import Authenticator, base64url
from tests.authenticator_app import AuthenticatorApp
from tests.calling import Json
from tests.model.asks import Ask
from tests.model.state import Answer, Life, Request, Response
from tests.states import ORIGIN, Person

NOBODYS = str(UUID(int=0))
NOT_OPENED: Json = {
    "challenge_id": NOBODYS,
    "device_id": NOBODYS,
    "options": {
        "challenge": "AAAA",
        "userVerification": "preferred",
        "rp": {"id": "example.org"},
        "user": {"id": "AAAA"},
        "pubKeyCredParams": [{"alg": -7}],
        "authenticatorSelection": {"userVerification": "preferred"},
    },
}
Thing = TypeVar("Thing")


def latest(things: Sequence[Thing], back: int, otherwise: Thing) -> Thing:
    return things[-1 - back % len(things)] if things else otherwise


@dataclass
class Hands:
    """One user, with all that they were ever given, newest last.

    Args:
        life: The model's, from which they choose well: codes that were not used, keys that are on.
    """

    person: Person
    life: Life = field(default_factory=Life)
    apps: list[AuthenticatorApp] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)
    backup_codes: list[str] = field(default_factory=list)
    assertions: list[str] = field(default_factory=list)
    begun: list[Json] = field(default_factory=list)
    opened: list[Json] = field(default_factory=list)
    registered: list[Response] = field(default_factory=list)
    answered: list[Response] = field(default_factory=list)
    authenticators: dict[str, Authenticator] = field(default_factory=dict)

    def request(self, ask: Ask, other: Hands, now: datetime, step_up: Literal["off", "required"]) -> Request:
        how, given = ask.how, dict[str, Any]()
        for name in ("code", "token"):
            if name in how:
                kind, back = how[name]
                given[name] = self.code(kind, back, other, now)
        if how.get("method"):
            given["method"] = how["method"]
        theirs = other if how.get("whose") else self
        response = None
        if ask.name == "webauthn.remove":
            key = latest(theirs.life.keys, how["key"], None)
            given["device_id"] = key.device_id if key else NOBODYS
        if ask.name == "webauthn.complete":
            begun = latest(theirs.begun, how["opened"], NOT_OPENED)
            response = self.register(begun, how["response"], other)
            given |= {"challenge_id": begun["challenge_id"], "device_id": begun["device_id"]}
        if ask.name == "verification.verify":
            opened = latest(theirs.opened, how["opened"], NOT_OPENED)
            given["challenge_id"] = opened["challenge_id"]
            if "response" in how:
                response = self.authenticate(opened, how["response"], how["key"], other)
        if response is not None:
            given["credential"] = response.body
            (self.registered if ask.name == "webauthn.complete" else self.answered).append(response)
        header, back = how.get("header", ("none", 0))
        return Request(
            who=ask.who,
            name=ask.name,
            now=now,
            given=given,
            step_up=step_up,
            fresh_login=header != "stale login",
            header=None if header in ("none", "stale login") else self.code(header, back, other, now),
            response=response,
        )

    def code(self, kind: str, n: int, other: Hands, now: datetime) -> str:
        """A code, or an assertion. Who has none of that kind makes one up."""
        if kind.startswith("their "):
            return other.code(kind.removeprefix("their "), n, self, now)
        match kind:
            case "app" | "old app":
                app = latest(self.apps, int(kind == "old app"), None)
                return app.code(now, n) if app else "000000"
            case "mail":
                return latest(self.mails, n, "000000")
            case "unused":
                return latest(sorted(self.life.codes or ()), n, "0000-0000-0000-0000")
            case "spent":
                spent = [code for code in self.backup_codes if code not in (self.life.codes or ())]
                return latest(spent, n, "0000-0000-0000-0000")
            case "assertion":
                return latest(self.assertions, n, "e30.e30.AAAA")
        return "123456"

    def register(self, begun: Json, how: str, other: Hands) -> Response:
        options = begun["options"] | {"excludeCredentials": []}
        if how in ("again", "cloned") and self.registered:
            return self.registered[-1]
        authenticator = Authenticator()
        known = other if how == "their credential" else self
        deviations: Json = self._deviations(how, self.begun)
        if how in ("known credential", "their credential") and known.life.keys:
            credential_id = known.life.keys[-1].credential_id
            deviations["credential_id"] = base64.urlsafe_b64decode(credential_id + "=")
        body = authenticator.register(options, origin=ORIGIN, **deviations)
        return self._response(body, authenticator, how, deviations, options)

    def authenticate(self, opened: Json, how: str, back: int, other: Hands) -> Response:
        options: Json = opened.get("options") or NOT_OPENED["options"]
        if how == "again" and self.answered:
            return self.answered[-1]
        whose = other if how == "their credential" else self
        key = latest(whose.life.keys, back, None)
        authenticator = (
            whose.authenticators[key.credential_id] if key else latest(list(whose.authenticators.values()), back, None)
        )
        if authenticator is None:
            authenticator = Authenticator()
            authenticator.register(NOT_OPENED["options"] | {"excludeCredentials": []}, origin=ORIGIN)
        [credential] = authenticator.credentials
        allowed = {"allowCredentials": [{"id": base64url(credential.id)}]}
        deviations = self._deviations(how, self.opened)
        body = authenticator.authenticate(options | allowed, origin=ORIGIN, **deviations)
        return self._response(body, authenticator, how, deviations, options)

    def _deviations(self, how: str, others: Sequence[Json]) -> Json:
        match how:
            case "another challenge":
                another: Json = latest(others, 1, NOT_OPENED).get("options") or NOT_OPENED["options"]
                return {"client_data": {"challenge": another["challenge"]}}
            case "another origin":
                return {"client_data": {"origin": "https://example.com"}}
            case "cloned":
                return {"sign_count": 1}
        return {}

    def _response(
        self, body: Json, authenticator: Authenticator, how: str, deviations: Json, options: Json
    ) -> Response:
        [credential] = authenticator.credentials
        challenge = deviations.get("client_data", {}).get("challenge", options["challenge"])
        count = deviations.get("sign_count", credential.sign_count)
        genuine = how != "another origin"
        return Response(body, challenge, base64url(credential.id), count, genuine, authenticator)

    def take(self, request: Request, answer: Json, mails: Sequence[str]) -> Request:
        """Keep what an answer brought, and tell the model what the server has chosen."""
        name, chosen = request.name, dict[str, Any]()
        if name == "totp.enable":
            self.apps.append(AuthenticatorApp.scan(answer["otpauth_uri"]))
            chosen["secret"] = self.apps[-1].secret
        if name != "methods.list_all" and (codes := answer.get("backup_codes")):
            self.backup_codes += codes
            chosen["backup_codes"] = codes
        if name == "verification.verify":
            self.assertions.append(answer["assertion"])
            chosen["assertion"] = answer["assertion"]
        if name == "webauthn.begin":
            self.begun.append(answer)
        if name == "verification.challenge":
            self.opened.append(answer)
        if name == "webauthn.complete" and request.response:
            self.authenticators[request.response.credential_id] = request.response.authenticator
        for id_name in ("challenge_id", "device_id"):
            chosen[id_name] = answer.get(id_name)
        chosen["challenge"] = answer.get("options", {}).get("challenge")
        if name == "email.enable" or (name, request.given.get("method")) == ("verification.challenge", "email"):
            chosen["code"] = latest(mails, 0, "no mail")
        return Request(**{**vars(request), "chosen": chosen, "answer": in_short(name, answer)})


def in_short(name: str, answer: Json) -> Answer:
    """An answer in the model's words; the epoch in an assertion as it stands there."""
    match name:
        case "totp.confirm" | "email.confirm" | "webauthn.complete":
            return ("ok", "backup_codes" in answer)
        case "totp.disable" | "email.disable" | "webauthn.remove":
            return ("ok", answer["mfa_enabled"])
        case "verification.challenge":
            return ("ok", tuple(answer["methods"]), "options" in answer)
        case "verification.verify":
            payload = answer["assertion"].split(".")[1]
            return ("ok", answer["method"], json.loads(base64.urlsafe_b64decode(payload + "=="))["epoch"])
        case "verification.introspect":
            return ("ok", answer["active"])
        case "methods.list_all":
            methods = answer["methods"]
            keys = tuple(method["device_id"] for method in methods if method["type"] == "webauthn")
            codes = answer["backup_codes"]
            remaining = codes["remaining"] if codes["generated_at"] else None
            return ("ok", tuple(sorted({method["type"] for method in methods})), keys, remaining)
    return ("ok",)
