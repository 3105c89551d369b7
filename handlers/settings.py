"""What a handler may ask of the settings; `server/settings.py` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol


class Settings(Protocol):
    issuer_name: str
    rp_id: str
    rp_name: str
    origins: Sequence[str]
    user_verification: Literal["required", "preferred", "discouraged"]
    totp_window: int
    jwt_audience: str
    jwt_tenant_claim: str
    public_url: str
    step_up: Literal["off", "required"]
    enrol_max_age: int
    assume_first_factor: bool
