"""What a user's audit trail says that they have."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID


@dataclass
class Replay:
    """The state that one event after the other leads to. A method is its device and whether it is on."""

    totp: tuple[UUID, bool] | None = None
    email: tuple[UUID, bool] | None = None
    keys: set[UUID] = field(default_factory=set)
    codes_used: int = 0

    @property
    def enabled(self) -> bool:
        return bool((self.totp and self.totp[1]) or (self.email and self.email[1]) or self.keys)

    def take(self, event: str, device_id: UUID | None) -> bool:
        """Go on by one event; whether that could happen."""
        method, _, what = event.partition(".")
        was_enabled = self.enabled
        possible = True
        match method, what:
            case (("totp" | "email"), "begun"):
                possible = self._of(method) is None or self._of(method) == (self._device(method), False)
                self._set(method, device_id, on=False)
            case (("totp" | "email"), "enabled"):
                possible = self._of(method) == (device_id, False)
                self._set(method, device_id, on=True)
            case (("totp" | "email"), "disabled"):
                possible = self._of(method) == (device_id, True)
                self._set(method, None, on=False)
            case "webauthn", "enabled":
                possible = device_id is not None and device_id not in self.keys
                self.keys |= {device_id} if device_id else set()
            case "webauthn", "disabled":
                possible = device_id in self.keys
                self.keys -= {device_id} if device_id else set()
            case "backup_codes", "regenerated":
                possible = was_enabled
                self.codes_used = 0
            case "backup_code", "used":
                possible = was_enabled
                self.codes_used += 1
            case _, "verified":
                possible = was_enabled
        if not self.enabled or not was_enabled:
            self.codes_used = 0
        return possible

    def _of(self, method: str) -> tuple[UUID, bool] | None:
        return self.totp if method == "totp" else self.email

    def _device(self, method: str) -> UUID | None:
        has = self._of(method)
        return has[0] if has else None

    def _set(self, method: str, device_id: UUID | None, *, on: bool) -> None:
        has = None if device_id is None else (device_id, on)
        if method == "totp":
            self.totp = has
        else:
            self.email = has
