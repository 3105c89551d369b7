"""People who use the API, and all they hold: an authenticator app, a mailbox, security keys, a slip of backup codes.

What they know they learn from the server's answers, whoever sent the request for them.
"""

from __future__ import annotations

import base64
import hmac
import struct
import time
from typing import Any
from urllib.parse import quote

import httpx

from tests.authenticator import Authenticator
from tests.contract.document import Json, operations
from tests.contract.mailroom import Mailroom
from tests.running import RunningServer

STEP_SECONDS = 30
# A code is used within so many seconds after it was computed, on a busy machine too.
MARGIN_SECONDS = 5
WRONG_CODES_UNTIL_LOCKED = 5
SCOPES = "mfa:verify mfa:introspect"


class Person:
    """Somebody with an access token. What they do for themselves must succeed."""

    def __init__(
        self, server: RunningServer, http: httpx.Client, mailroom: Mailroom, sub: str, email: str | None = None
    ) -> None:
        self.server = server
        self.http = http
        self.mailroom = mailroom
        self.sub = sub
        self.email = email
        self.pending_secret: str | None = None
        self.secret: str | None = None
        self.last_step = 0
        self.mail_pending = False
        self.mailbox_on = False
        self.registration: Json | None = None
        self.authenticator = Authenticator()
        self.keys: dict[str, Authenticator] = {}
        self.backup_codes: list[str] = []
        self.challenge: Json | None = None
        self.challenged_by_service = False

    @property
    def has_method(self) -> bool:
        return bool(self.secret or self.mailbox_on or self.keys)

    def token(self, **claims: Any) -> str:
        return self.server.token(self.sub, **{"email": self.email, "auth_time": int(time.time()), **claims})

    def do(self, operation_id: str, body: Json | None = None, **parameters: str) -> Json:
        """Call an operation with what it takes, a fresh assertion included; returns what it answers."""
        response = self.ask(operation_id, body, **parameters)
        if not response.is_success:
            raise AssertionError(f"{operation_id} for {self.sub!r}: {response.status_code} {response.text}")
        answer: Json = response.json()
        self.learn(operation_id, answer)
        return answer

    def ask(self, operation_id: str, body: Json | None = None, **parameters: str) -> httpx.Response:
        operation = operations()[operation_id]
        headers = {"Authorization": f"Bearer {self.token(scope=SCOPES)}"}
        if self.has_method and "parameters" in operation.definition and "{sub}" not in operation.path:
            headers["MFA-Assertion"] = self.prove()
        path = operation.path.format(**{name: quote(value, safe="") for name, value in parameters.items()})
        return self.http.request(operation.method, path, json=body, headers=headers)

    def learn(self, operation_id: str, answer: Json) -> None:
        match operation_id:
            case "handlers.methods.list_all":
                return
            case "handlers.totp.enable":
                self.pending_secret = answer["secret"]
                self.last_step = 0
            case "handlers.totp.confirm":
                self.secret, self.pending_secret = self.pending_secret, None
            case "handlers.totp.disable":
                self.secret = None
            case "handlers.email.enable":
                self.mail_pending = True
            case "handlers.email.confirm":
                self.mail_pending, self.mailbox_on = False, True
            case "handlers.email.disable":
                self.mailbox_on = False
            case "handlers.webauthn.begin":
                self.registration = answer
            case "handlers.webauthn.complete":
                self.keys[answer["device_id"]] = self.authenticator
                self.registration = None
            case "handlers.webauthn.remove":
                del self.keys[answer["device_id"]]
            case "handlers.verification.challenge" | "handlers.service.challenge":
                self.challenge = answer
                self.challenged_by_service = operation_id == "handlers.service.challenge"
            case "handlers.verification.verify" | "handlers.service.verify":
                self.challenge = None
        self.backup_codes = answer.get("backup_codes", self.backup_codes)
        if answer.get("mfa_enabled") is False:
            self.challenge, self.registration, self.backup_codes = None, None, []

    def code(self) -> str:
        """A code of the authenticator app that the server has not seen, good for some seconds."""
        now = time.time()
        step = max(self.last_step + 1, int(now + MARGIN_SECONDS) // STEP_SECONDS - 1)
        # Each step is good once and in rising order, so somebody who asks for many codes waits for their steps.
        time.sleep(max(0.0, (step - 1) * STEP_SECONDS - now))
        self.last_step = step
        return totp(self.secret or self.pending_secret or "", step)

    def can_show_a_code(self) -> bool:
        """Whether a code of the app that is on may be had without waiting."""
        return self.secret is not None and self.last_step < int(time.time()) // STEP_SECONDS + 1

    def backup_code(self) -> str:
        return self.backup_codes.pop()

    def credential(self) -> Json:
        """A new key's answer to the open registration."""
        assert self.registration is not None
        self.authenticator = Authenticator()
        return self.authenticator.register(self.registration["options"], origin=self.server.origin)

    def signature(self) -> Json:
        """A key's answer to the open challenge."""
        assert self.challenge is not None
        [authenticator, *_] = self.keys.values()
        [credential] = authenticator.credentials
        options = self.challenge["options"]
        allowed = [{"type": "public-key", "id": base64.urlsafe_b64encode(credential.id).rstrip(b"=").decode()}]
        return authenticator.authenticate({**options, "allowCredentials": allowed}, origin=self.server.origin)

    def prove(self) -> str:
        """A fresh assertion, of the strongest method they have. It also makes the budget of wrong codes whole."""
        kept = self.challenge, self.challenged_by_service
        self.do("handlers.verification.challenge", {"method": "webauthn"} if self.keys else {})
        assert self.challenge is not None
        answer: Json = {"challenge_id": self.challenge["challenge_id"]}
        if self.keys:
            answer["credential"] = self.signature()
        else:
            answer["code"] = self.code() if self.can_show_a_code() else self.backup_code()
        assertion: str = self.do("handlers.verification.verify", answer)["assertion"]
        self.challenge, self.challenged_by_service = kept
        return assertion

    def lock(self) -> None:
        """Spend the budget of wrong codes: the next code is not looked at."""
        opened = self.ask("handlers.verification.challenge", {}).json()
        for _ in range(WRONG_CODES_UNTIL_LOCKED):
            answer = {"challenge_id": opened["challenge_id"], "code": "000000"}
            self.ask("handlers.verification.verify", answer)

    def with_app(self) -> Person:
        if self.secret is None:
            self.do("handlers.totp.enable")
            self.do("handlers.totp.confirm", {"code": self.code()})
        return self

    def without_app(self) -> Person:
        if self.secret is not None:
            self.do("handlers.totp.disable", {"code": self.prove()})
        return self

    def with_key(self) -> Person:
        opened = self.do("handlers.webauthn.begin")
        answer = {name: opened[name] for name in ("device_id", "challenge_id")}
        self.do("handlers.webauthn.complete", {**answer, "credential": self.credential()})
        return self

    def with_mailbox(self) -> Person:
        self.do("handlers.email.enable")
        self.do("handlers.email.confirm", {"code": self.mailed_code()})
        return self

    def mailed_code(self) -> str:
        assert self.email is not None
        return self.mailroom.code_for(self.email)


def totp(secret: str, step: int) -> str:
    """RFC 6238 with its defaults: SHA-1, six digits."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    offset = digest[-1] & 15
    number: int = struct.unpack(">I", digest[offset : offset + 4])[0]
    return f"{(number & 0x7FFFFFFF) % 10**6:06d}"
