"""What a server needs and was not given: in development it is made up, once, and kept in the data folder."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import tempfile
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

if TYPE_CHECKING:
    from server.settings import Settings

ISSUER = "mfa-server-dev"
JWT_KEY = "jwt-key.pem"
SIGNING_KEY = "signing-key.pem"
SEALING_KEYS = "secret-keys"
KEY_ID = "development"
# Text before the first dashes is no part of the key (RFC 7468 section 2), and goes along wherever the file is copied.
MARK = b"Made up by mfa-server for development. Production refuses it.\n"


def make_folder(data_dir: Path) -> None:
    """Make the data folder, for its owner alone. One that exists is left as it is."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def jwt_key_file(data_dir: Path) -> Path:
    """The PEM of the ES256 key that signs and verifies access tokens."""
    return _kept(data_dir / JWT_KEY, _private_key)


def signing_key_file(data_dir: Path) -> Path:
    """The PEM of the ES256 key that signs assertions."""
    return _kept(data_dir / SIGNING_KEY, _private_key)


def secret_keys(data_dir: Path) -> str:
    """A sealing key, in the form of MFA_SECRET_KEYS."""
    return _kept(data_dir / SEALING_KEYS, _secret_key).read_text(encoding="ascii")


def made_up(keys: Mapping[str, bytes] | Path | None) -> bool:
    """Whether sealing keys, or the file of a key, come from here, directly or as a copy."""
    if isinstance(keys, Path):
        return keys.read_bytes().startswith(MARK)
    return keys is not None and KEY_ID in keys


def access_token(
    settings: Settings,
    *,
    sub: str,
    now: datetime,
    ttl: int = 3600,
    email: str | None = None,
    tenant: str | None = None,
    scope: str | None = None,
) -> str:
    """An access token (RFC 9068) of the development issuer, good for `ttl` seconds from `now`."""
    key = load_pem_private_key(jwt_key_file(settings.data_dir).read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the development key is of another kind")
    issued_at = int(now.timestamp())
    optional = {"email": email, settings.jwt_tenant_claim: tenant, "scope": scope}
    claims = {
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "sub": sub,
        "iat": issued_at,
        "exp": issued_at + ttl,
        "jti": str(uuid.uuid4()),
    }
    claims |= {name: value for name, value in optional.items() if value is not None}
    return jwt.encode(claims, key, "ES256", headers={"typ": "at+jwt", "kid": _thumbprint(key.public_key())})


def _private_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return MARK + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _secret_key() -> bytes:
    return f"{KEY_ID}:".encode() + base64.b64encode(secrets.token_bytes(32)) + b"\n"


def _thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """The name of a key by its own value (RFC 7638)."""
    jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    canonical = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


def _kept(path: Path, make: Callable[[], bytes]) -> Path:
    """Make the file if there is none: whole or not at all, and of several processes at once the first one's."""
    if path.exists():
        return path
    make_folder(path.parent)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # For its owner alone, 0600.
    try:
        with open(descriptor, "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(descriptor)
        # Unlike a rename, a link never takes the place of a file that is there.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)
    return path
