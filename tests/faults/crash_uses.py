"""What a user can do: each use of the API, with what it uses up and what is known after it."""

from __future__ import annotations

import base64
from typing import Any

from tests.authenticator import Authenticator
from tests.authenticator_app import STEP_SECONDS
from tests.faults.crash_hands import Code, Hands
from tests.faults.crash_journal import Effect, Json, Use
from tests.running import API


class Uses(Hands):
    """The uses that what is in a user's hands makes right."""

    def _post(self, name: str, path: str, body: Json | None, effect: Effect, **of: Any) -> Use:
        code = of.pop("code", None)
        if code is not None:
            shown, thing = code
            body = {**(body or {}), "code": shown}
            of["things"] = (thing, *of.get("things", ()))
            of["looks_at_code"] = True
            if thing[0] == "totp":
                of["good_until"] = (thing[2] + 2) * STEP_SECONDS

        def known(answer: Json | None) -> None:
            if code is not None:
                self._used(code)
            effect(answer)

        return Use(name, of.pop("method", "POST"), f"{API}/{path}", body, known, **of)

    def _begin_totp(self) -> Use:
        def begun(answer: Json | None) -> None:
            assert answer is not None
            self.secret, self.last_step = base64.b32decode(answer["secret"]), 0

        return self._post("totp.enable", "totp/enable", None, begun, events=("totp.begun",))

    def _confirm_totp(self) -> Use:
        def confirmed(answer: Json | None) -> None:
            self.totp_on = True
            self._codes_made(answer)

        return self._post(
            "totp.confirm",
            "totp/confirm",
            None,
            confirmed,
            code=self._totp(),
            events=("totp.enabled",),
            refusals=frozenset({403, 409}),
        )

    def _disable_totp(self, code: Code) -> Use:
        def disabled(_: Json | None) -> None:
            self.secret, self.totp_on, self.last_step = b"", False, 0
            self.spent = [spent for spent in self.spent if spent[1][0] != "totp"]
            self._removed()

        return self._change("totp.disabled", "totp/disable", disabled, code)

    def _regenerate(self) -> Use:
        def regenerated(answer: Json | None) -> None:
            self.codes = answer["backup_codes"] if answer else []
            self.spent = [spent for spent in self.spent if spent[1][0] == "totp"]

        return self._change("backup_codes.regenerated", "backup-codes/regenerate", regenerated, self._totp())

    def _change(self, event: str, path: str, effect: Effect, code: Code) -> Use:
        events = (event, *(["backup_code.used"] if code[1][0] == "backup code" else []))
        return self._post(event, path, None, effect, code=code, events=events, refusals=frozenset({403, 409}))

    def _open_challenge(self, method: str) -> Use:
        def opened(answer: Json | None) -> None:
            assert answer is not None
            self.challenge = answer

        return self._post("challenge", "challenge", {"method": method}, opened)

    def _verify(self, method: str, **shown: Any) -> Use:
        challenge_id = self.challenge["challenge_id"]
        events = (f"{method}.verified", *(["backup_code.used"] if method == "backup_code" else []))
        return self._post(
            f"verify.{method}",
            "verify",
            {"challenge_id": challenge_id, **shown.pop("body", {})},
            self._verified,
            events=events,
            things=(("challenge", challenge_id, 0),),
            refusals=frozenset({403, 404}),
            **shown,
        )

    def _verify_key(self) -> Use:
        options = self.challenge["options"]
        device_id = self.chance.choice(self._offered())
        key = self.keys[device_id]
        credential = key.authenticate(options, origin=self.origin)
        return self._verify(
            "webauthn",
            body={"credential": credential},
            taken_first=True,
            sign_count=(device_id, key.credentials[0].sign_count),
        )

    def _verified(self, _: Json | None) -> None:
        self.challenge = {}

    def _begin_key(self) -> Use:
        def begun(answer: Json | None) -> None:
            assert answer is not None
            self.registration = answer

        return self._post("webauthn.begin", "webauthn/register/begin", None, begun)

    def _complete(self) -> Use:
        opened, key = self.registration, Authenticator()
        device_id = opened["device_id"]

        def completed(answer: Json | None) -> None:
            self.registration = {}
            if answer is None and all(device_id != method["device_id"] for method in self.listed["methods"]):
                # The crash came between the challenge and the key.
                return
            self.keys[device_id] = key
            self._codes_made(answer)

        body = {
            "device_id": device_id,
            "challenge_id": opened["challenge_id"],
            "credential": key.register(opened["options"], origin=self.origin),
        }
        return self._post(
            "webauthn.complete",
            "webauthn/register/complete",
            body,
            completed,
            events=("webauthn.enabled",),
            things=(("registration", opened["challenge_id"], 0),),
            refusals=frozenset({404}),
            taken_first=True,
        )

    def _remove_key(self, device_id: str) -> Use:
        def removed(_: Json | None) -> None:
            del self.keys[device_id]
            self._removed()

        return self._post(
            "webauthn.remove",
            f"webauthn/{device_id}",
            None,
            removed,
            method="DELETE",
            events=("webauthn.disabled",),
            things=(("key", device_id, 0),),
            refusals=frozenset({404}),
        )

    def _begin_email(self) -> Use:
        def begun(_: Json | None) -> None:
            self.email = "pending"

        # One mail a minute: whoever asks again is told to wait.
        return self._post(
            "email.enable", "email/enable", None, begun, events=("email.begun",), refusals=frozenset({429})
        )

    def _confirm_email(self) -> Use:
        def confirmed(answer: Json | None) -> None:
            self.email = "on"
            self._codes_made(answer)

        return self._post(
            "email.confirm",
            "email/confirm",
            None,
            confirmed,
            code=(self.mailed_code, ("mailed code", f"{self.sub} {self.mailed_code}", 0)),
            events=("email.enabled",),
            refusals=frozenset({403, 409}),
        )

    def _disable_email(self, code: Code) -> Use:
        def disabled(_: Json | None) -> None:
            # One mail a minute, so there is no other in this life.
            self.email = "gone"
            self._removed()

        return self._change("email.disabled", "email/disable", disabled, code)
