"""The same work as a careful programmer writes it by hand, on sqlite3, without what a server may not leave out.

There is no sealing, audit, throttle, QR code, backup code, mail or signed assertion. Yet all that must be durable is,
and all that works once does: one guarded statement each, with full sync.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any

import jwt
import pyotp
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fido2.server import Fido2Server
from fido2.webauthn import AttestedCredentialData, PublicKeyCredentialRpEntity, PublicKeyCredentialUserEntity

STEP = 30
MINUTES_10 = 600
TABLES = """
CREATE TABLE IF NOT EXISTS totp (
    user TEXT PRIMARY KEY, device_id TEXT NOT NULL, secret TEXT NOT NULL, last_step INTEGER NOT NULL DEFAULT 0,
    begun_at REAL NOT NULL, confirmed_at REAL, used_at REAL
);
CREATE TABLE IF NOT EXISTS security_key (
    credential_id BLOB PRIMARY KEY, user TEXT NOT NULL, device_id TEXT NOT NULL, data BLOB NOT NULL,
    sign_count INTEGER NOT NULL, created_at REAL NOT NULL, used_at REAL
);
CREATE INDEX IF NOT EXISTS security_key_user ON security_key (user);
CREATE TABLE IF NOT EXISTS challenge (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, purpose TEXT NOT NULL, challenge TEXT NOT NULL, begun_at REAL NOT NULL
);
"""

Body = dict[str, Any]


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status = status
        self.body = {"status": status, "code": code}


def connect(path: str | Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = full")
    connection.executescript(TABLES)
    return connection


database = connect(os.environ.get("FLOOR_DATABASE", ":memory:"))
_relying_party = Fido2Server(
    PublicKeyCredentialRpEntity(id="localhost", name="MFA server"),
    attestation="none",
    verify_origin=lambda origin: origin == os.environ["FLOOR_ORIGIN"],
)
_token_key = (
    load_pem_private_key(Path(os.environ["FLOOR_TOKEN_KEY"]).read_bytes(), None).public_key()
    if "FLOOR_TOKEN_KEY" in os.environ
    else ""
)


def claims(token: str) -> Body:
    """The claims of an access token. Raises jwt.InvalidTokenError."""
    return jwt.decode(token, _token_key, ["ES256"], audience="mfa-server", issuer="mfa-server-dev")  # type: ignore[arg-type]


def list_methods(user: str) -> Body:
    query = "SELECT device_id, confirmed_at, used_at FROM totp WHERE user = ? AND confirmed_at IS NOT NULL"
    methods = [
        {"type": "totp", "device_id": device, "created_at": since, "last_used_at": used}
        for device, since, used in database.execute(query, (user,))
    ]
    query = "SELECT device_id, created_at, used_at FROM security_key WHERE user = ? ORDER BY created_at"
    methods += [
        {"type": "webauthn", "device_id": device, "created_at": since, "last_used_at": used}
        for device, since, used in database.execute(query, (user,))
    ]
    return {"mfa_enabled": bool(methods), "methods": methods}


def totp_enable(user: str, account: str) -> Body:
    secret = pyotp.random_base32()
    begun = database.execute(
        "INSERT INTO totp (user, device_id, secret, begun_at) VALUES (?, ?, ?, ?) ON CONFLICT (user) DO UPDATE "
        "SET device_id = excluded.device_id, secret = excluded.secret, begun_at = excluded.begun_at "
        "WHERE confirmed_at IS NULL",
        (user, str(uuid.uuid4()), secret, time.time()),
    )
    if begun.rowcount != 1:
        raise Refused(409, "already_enabled")
    return {"secret": secret, "otpauth_uri": pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name="MFA server")}


def totp_confirm(user: str, body: Body) -> Body:
    now = time.time()
    query = "SELECT device_id, secret FROM totp WHERE user = ? AND confirmed_at IS NULL AND begun_at > ?"
    found = database.execute(query, (user, now - MINUTES_10)).fetchone()
    if found is None:
        raise Refused(409, "no_pending_enrolment")
    device_id, secret = found
    update = (
        "UPDATE totp SET confirmed_at = ?, last_step = ? WHERE user = ? AND device_id = ? AND confirmed_at IS NULL"
    )
    if database.execute(update, (now, _step(secret, body["code"], now), user, device_id)).rowcount != 1:
        raise Refused(403, "invalid_code")
    return {"type": "totp", "enabled": True, "device_id": device_id}


def totp_verify(user: str, body: Body) -> Body:
    now = time.time()
    query = "SELECT secret FROM totp WHERE user = ? AND confirmed_at IS NOT NULL"
    found = database.execute(query, (user,)).fetchone()
    if found is None:
        raise Refused(409, "not_enabled")
    step = _step(found[0], body["code"], now)
    update = "UPDATE totp SET last_step = ?, used_at = ? WHERE user = ? AND last_step < ?"
    if database.execute(update, (step, now, user, step)).rowcount != 1:
        raise Refused(403, "invalid_code")
    return {"verified": True, "method": "totp"}


def _step(secret: str, code: str, now: float) -> int:
    totp = pyotp.TOTP(secret)
    for step in (int(now) // STEP + offset for offset in (-1, 0, 1)):
        if secrets.compare_digest(totp.generate_otp(step), code):
            return step
    raise Refused(403, "invalid_code")


def webauthn_begin(user: str, account: str) -> Body:
    options, state = _relying_party.register_begin(
        PublicKeyCredentialUserEntity(id=user.encode(), name=account, display_name=account),
        _keys_of(user),
        user_verification="preferred",  # type: ignore[arg-type]
    )
    challenge_id = _keep(user, "register", state["challenge"])
    return {"device_id": str(uuid.uuid4()), "challenge_id": challenge_id, "options": dict(options.public_key)}


def webauthn_complete(user: str, body: Body) -> Body:
    state = _take(user, "register", body["challenge_id"])
    try:
        registered = _relying_party.register_complete(state, body["credential"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(403, "invalid_credential") from error
    data = registered.credential_data
    if data is None:
        raise Refused(403, "invalid_credential")
    add = "INSERT OR IGNORE INTO security_key VALUES (?, ?, ?, ?, ?, ?, NULL)"
    row = (data.credential_id, user, body["device_id"], bytes(data), registered.counter, time.time())
    if database.execute(add, row).rowcount != 1:
        raise Refused(409, "credential_exists")
    return {"type": "webauthn", "enabled": True, "device_id": body["device_id"]}


def webauthn_challenge(user: str) -> Body:
    options, state = _relying_party.authenticate_begin(_keys_of(user))
    return {"challenge_id": _keep(user, "verify", state["challenge"]), "options": dict(options.public_key)}


def webauthn_verify(user: str, body: Body) -> Body:
    state = _take(user, "verify", body["challenge_id"])
    try:
        used = _relying_party.authenticate_complete(state, _keys_of(user), body["credential"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(403, "invalid_credential") from error
    update = "UPDATE security_key SET used_at = ? WHERE credential_id = ? AND user = ?"
    database.execute(update, (time.time(), used.credential_id, user))
    return {"verified": True, "method": "webauthn"}


def _keys_of(user: str) -> list[AttestedCredentialData]:
    found = database.execute("SELECT data FROM security_key WHERE user = ?", (user,))
    return [AttestedCredentialData(data) for (data,) in found]


def _keep(user: str, purpose: str, challenge: str) -> str:
    challenge_id = str(uuid.uuid4())
    database.execute("INSERT INTO challenge VALUES (?, ?, ?, ?, ?)", (challenge_id, user, purpose, challenge, time.time()))
    return challenge_id


def _take(user: str, purpose: str, challenge_id: str) -> Body:
    taken = database.execute(
        "DELETE FROM challenge WHERE id = ? AND user = ? AND purpose = ? AND begun_at > ? RETURNING challenge",
        (challenge_id, user, purpose, time.time() - MINUTES_10),
    ).fetchall()
    if not taken:
        raise Refused(404, "challenge_not_found")
    return {"challenge": taken[0][0], "user_verification": "preferred"}
