"""The same work as a careful programmer writes it by hand, on sqlite3, without what a server may not leave out.

There is no sealing, audit, throttle, QR code, backup code, mail or signed assertion. Yet all that must be durable is,
and all that works once does: one guarded statement each, with full sync.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import time
import uuid
from pathlib import Path
from typing import Any, cast

import jwt
import pyotp
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fido2 import cbor
from fido2.cose import CoseKey
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AuthenticatorData

STEP = 30
MINUTES_10 = 600
TABLES = """
CREATE TABLE IF NOT EXISTS totp (
    user TEXT PRIMARY KEY, device_id TEXT NOT NULL, secret TEXT NOT NULL, last_step INTEGER NOT NULL DEFAULT 0,
    begun_at REAL NOT NULL, confirmed_at REAL, used_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS security_key (
    user TEXT NOT NULL, credential_id BLOB NOT NULL UNIQUE, device_id TEXT NOT NULL, public_key BLOB NOT NULL,
    sign_count INTEGER NOT NULL, created_at REAL NOT NULL, used_at REAL,
    PRIMARY KEY (user, credential_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS challenge (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, purpose TEXT NOT NULL, challenge TEXT NOT NULL, begun_at REAL NOT NULL
) WITHOUT ROWID;
"""
RP_ID = "localhost"
RP_ID_HASH = hashlib.sha256(RP_ID.encode()).digest()
ORIGIN = os.environ.get("FLOOR_ORIGIN", "")
ALGORITHMS = (-7, -8, -257)

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
_token_key: Any = (
    load_pem_private_key(Path(os.environ["FLOOR_TOKEN_KEY"]).read_bytes(), None).public_key()
    if "FLOOR_TOKEN_KEY" in os.environ
    else ""
)


def claims(token: str) -> Body:
    """The claims of an access token. Raises jwt.InvalidTokenError."""
    return jwt.decode(token, _token_key, ["ES256"], audience="mfa-server", issuer="mfa-server-dev")


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
    return {
        "secret": secret,
        "otpauth_uri": pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name="MFA server"),
    }


def totp_confirm(user: str, body: Body) -> Body:
    now = time.time()
    query = "SELECT device_id, secret FROM totp WHERE user = ? AND confirmed_at IS NULL AND begun_at > ?"
    found = database.execute(query, (user, now - MINUTES_10)).fetchone()
    if found is None:
        raise Refused(409, "no_pending_enrolment")
    device_id, secret = found
    update = "UPDATE totp SET confirmed_at = ?, last_step = ? WHERE user = ? AND device_id = ? AND confirmed_at IS NULL"
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
    challenge = _challenge()
    options = {
        "rp": {"id": RP_ID, "name": "MFA server"},
        "user": {"id": websafe_encode(user.encode()), "name": account, "displayName": account},
        "challenge": challenge,
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in ALGORITHMS],
        "excludeCredentials": _keys_of(user),
        "authenticatorSelection": {"userVerification": "preferred"},
        "attestation": "none",
    }
    return {"device_id": str(uuid.uuid4()), "challenge_id": _keep(user, "register", challenge), "options": options}


def webauthn_complete(user: str, body: Body) -> Body:
    challenge = _take(user, "register", body["challenge_id"])
    try:
        response = body["credential"]["response"]
        _check_client_data(websafe_decode(response["clientDataJSON"]), "webauthn.create", challenge)
        data = AttestationObject(websafe_decode(response["attestationObject"])).auth_data
        _check_authenticator_data(data)
        credential = data.credential_data
        if credential is None or credential.public_key.ALGORITHM not in ALGORITHMS:
            raise ValueError("no credential of a kind that was asked for")
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(403, "invalid_credential") from error
    add = "INSERT OR IGNORE INTO security_key VALUES (?, ?, ?, ?, ?, ?, NULL)"
    public_key = cbor.encode(credential.public_key)
    row = (user, credential.credential_id, body["device_id"], public_key, data.counter, time.time())
    if database.execute(add, row).rowcount != 1:
        raise Refused(409, "credential_exists")
    return {"type": "webauthn", "enabled": True, "device_id": body["device_id"]}


def webauthn_challenge(user: str) -> Body:
    challenge = _challenge()
    options = {
        "rpId": RP_ID,
        "challenge": challenge,
        "allowCredentials": _keys_of(user),
        "userVerification": "preferred",
    }
    return {"challenge_id": _keep(user, "verify", challenge), "options": options}


def webauthn_verify(user: str, body: Body) -> Body:
    challenge = _take(user, "verify", body["challenge_id"])
    try:
        response = body["credential"]["response"]
        client_data = websafe_decode(response["clientDataJSON"])
        _check_client_data(client_data, "webauthn.get", challenge)
        data = AuthenticatorData(websafe_decode(response["authenticatorData"]))
        _check_authenticator_data(data)
        credential_id = websafe_decode(body["credential"]["rawId"])
        query = "SELECT public_key FROM security_key WHERE user = ? AND credential_id = ?"
        (public_key,) = database.execute(query, (user, credential_id)).fetchone()
        signed = data + hashlib.sha256(client_data).digest()
        CoseKey.parse(cast(dict[int, Any], cbor.decode(public_key))).verify(
            signed, websafe_decode(response["signature"])
        )
    except (ValueError, KeyError, TypeError, InvalidSignature) as error:
        raise Refused(403, "invalid_credential") from error
    use = (
        "UPDATE security_key SET used_at = ?, sign_count = ? "
        "WHERE user = ? AND credential_id = ? AND (sign_count < ? OR sign_count = 0 AND ? = 0)"
    )
    values = (time.time(), data.counter, user, credential_id, data.counter, data.counter)
    if database.execute(use, values).rowcount != 1:
        raise Refused(403, "invalid_credential")
    return {"verified": True, "method": "webauthn"}


def _challenge() -> str:
    return websafe_encode(secrets.token_bytes(32))


def _check_client_data(raw: bytes, kind: str, challenge: str) -> None:
    client_data = json.loads(raw)
    if client_data["type"] != kind or client_data["origin"] != ORIGIN or client_data.get("crossOrigin"):
        raise ValueError("another ceremony")
    if not secrets.compare_digest(client_data["challenge"], challenge):
        raise ValueError("another challenge")


def _check_authenticator_data(data: AuthenticatorData) -> None:
    if data.rp_id_hash != RP_ID_HASH or not data.is_user_present():
        raise ValueError("another relying party, or nobody there")


def _keys_of(user: str) -> list[Body]:
    found = database.execute("SELECT credential_id FROM security_key WHERE user = ?", (user,))
    return [{"type": "public-key", "id": websafe_encode(credential_id)} for (credential_id,) in found]


def _keep(user: str, purpose: str, challenge: str) -> str:
    challenge_id = str(uuid.uuid4())
    database.execute(
        "INSERT INTO challenge VALUES (?, ?, ?, ?, ?)", (challenge_id, user, purpose, challenge, time.time())
    )
    return challenge_id


def _take(user: str, purpose: str, challenge_id: str) -> str:
    taken = database.execute(
        "DELETE FROM challenge WHERE id = ? AND user = ? AND purpose = ? AND begun_at > ? RETURNING challenge",
        (challenge_id, user, purpose, time.time() - MINUTES_10),
    ).fetchall()
    if not taken:
        raise Refused(404, "challenge_not_found")
    return str(taken[0][0])
