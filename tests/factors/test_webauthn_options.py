"""What the browser is asked for (WAR-11)."""

from __future__ import annotations

import json

from factors.webauthn_options import creation_options, request_options


def test_war_11_a_credential_is_asked_for() -> None:
    options = creation_options(
        challenge=b"\xff" * 32,
        rp_id="example.org",
        rp_name="Example",
        user_handle=b"\xfb" * 64,
        user_name="alice@example.org",
        user_display_name="Alice",
        exclude_credentials=[(b"one", ("usb", "nfc")), (b"two", ())],
        user_verification="required",
    )
    assert json.loads(json.dumps(options)) == {
        "rp": {"id": "example.org", "name": "Example"},
        "user": {"id": "-_v7" * 21 + "-w", "name": "alice@example.org", "displayName": "Alice"},
        "challenge": "_" * 42 + "8",
        "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in (-7, -8, -257, -35, -36)],
        "timeout": 300_000,
        "excludeCredentials": [
            {"type": "public-key", "id": "b25l", "transports": ["usb", "nfc"]},
            {"type": "public-key", "id": "dHdv", "transports": []},
        ],
        "authenticatorSelection": {
            "residentKey": "discouraged",
            "requireResidentKey": False,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def test_waa_01_an_assertion_is_asked_for_from_the_users_own_credentials() -> None:
    options = request_options(
        challenge=b"\xff" * 32,
        rp_id="example.org",
        allow_credentials=[(b"one", ["hybrid"])],
        user_verification="preferred",
        timeout_ms=120_000,
    )
    assert json.loads(json.dumps(options)) == {
        "challenge": "_" * 42 + "8",
        "timeout": 120_000,
        "rpId": "example.org",
        "allowCredentials": [{"type": "public-key", "id": "b25l", "transports": ["hybrid"]}],
        "userVerification": "preferred",
    }
