"""What a user holds in their hands, and knows of how it stands with them."""

from __future__ import annotations

import random
import time

from tests.authenticator import Authenticator, base64url
from tests.authenticator_app import STEP_SECONDS, code_at_step
from tests.faults.crash_journal import Json, Thing

# A request takes less, so a code that is good for so many seconds is good when it is looked at.
SURELY = 10

# A code, and the thing that it is.
Code = tuple[str, Thing]


class Hands:
    """One user's codes, keys and challenges, as far as answers told of them."""

    def __init__(self, sub: str, token: str, origin: str, chance: random.Random) -> None:
        self.sub = sub
        self.token = token
        self.origin = origin
        self.chance = chance
        # The methods that the server lists; asked for after a refusal, which leaves it open what was done.
        self.listed: Json = {}
        self.secret = b""
        self.totp_on = False
        self.last_step = 0
        self.codes: list[str] = []
        self.has_codes = False
        # Codes that were used, of the secret and of the set that are in use.
        self.spent: list[Code] = []
        self.keys: dict[str, Authenticator] = {}
        self.email = ""
        self.mailed_code = ""
        self.challenge: Json = {}
        self.registration: Json = {}

    @property
    def _enabled(self) -> bool:
        return bool(self.totp_on or self.keys or self.email == "on")

    def _step(self) -> int:
        """The first step whose code was not used, and is good for as long as a request takes; 0 for none."""
        now = time.time()
        current, into = divmod(now, STEP_SECONDS)
        first = int(current) - (into < STEP_SECONDS - SURELY)
        return next((step for step in range(first, int(current) + 2) if step > self.last_step), 0)

    def _totp(self) -> Code:
        step = self._step()
        return code_at_step(self.secret, step), ("totp", self.secret.hex(), step)

    def _backup_code(self) -> Code:
        return self.codes[-1], ("backup code", self.codes[-1], 0)

    def _offered(self) -> list[str]:
        """The keys that were there when the challenge was given, and still are."""
        offered = {descriptor["id"] for descriptor in self.challenge["options"]["allowCredentials"]}
        return [each for each, key in self.keys.items() if base64url(key.credentials[0].id) in offered]

    def _used(self, code: Code) -> None:
        self.spent.append(code)
        kind, of, step = code[1]
        if kind == "totp":
            self.last_step = step
        elif kind == "backup code":
            self.codes.remove(of)

    def _codes_made(self, answer: Json | None) -> None:
        """With the first method come backup codes, which are told once."""
        if not self.has_codes:
            self.codes = answer.get("backup_codes", []) if answer else []
        self.has_codes = True

    def _removed(self) -> None:
        """With the last method all goes."""
        if not self._enabled:
            self.codes, self.has_codes, self.challenge, self.registration, self.spent = [], False, {}, {}, []
