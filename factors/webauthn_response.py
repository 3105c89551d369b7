"""What the browser hands on from an authenticator, read strictly.

Everything here is written by whoever sends the request, so nothing is taken on trust: not the types of the members,
not the spelling of base64url. python-fido2's `CollectedClientData` is not used: it lets padding and foreign characters
pass in the challenge, keeps a byte order mark, and does not know `topOrigin`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from factors.errors import InvalidCredential

LONGEST_CREDENTIAL_ID = 1023  # bytes, W3C WebAuthn Level 3, section 6.5.1


@dataclass(frozen=True, slots=True)
class ClientData:
    """The client data (W3C WebAuthn Level 3, section 5.8.1) and the SHA-256 over its bytes as they came."""

    type: str
    challenge: str
    origin: str
    cross_origin: bool
    top_origin: str | None
    hash: bytes


def require(holds: bool, reason: str) -> None:
    """Go on only while a check holds. Raises InvalidCredential with `reason`, a word for the audit trail."""
    if not holds:
        raise InvalidCredential(reason=reason)


def base64url_encode(data: bytes) -> str:
    """Spell bytes as the Web Authentication API does: base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def base64url_decode(text: object) -> bytes:
    """Read base64url without padding. Raises InvalidCredential for every spelling but the one canonical."""
    if not isinstance(text, str):
        raise InvalidCredential(reason="base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise InvalidCredential(reason="base64url") from None
    # The decoder skips what it does not know; only the canonical spelling comes back the same.
    require(base64url_encode(data) == text, "base64url")
    return data


def credential_id_of(credential: Mapping[str, object]) -> bytes:
    """The credential id that a response names, 1 to 1023 bytes long: what the caller looks the credential up by.

    Raises InvalidCredential when `id` and `rawId` differ, or this is no public key credential.
    """
    require(credential.get("type") == "public-key", "credential_type")
    require(credential.get("id") == credential.get("rawId"), "credential_id")
    credential_id = base64url_decode(credential.get("id"))
    require(1 <= len(credential_id) <= LONGEST_CREDENTIAL_ID, "credential_id")
    return credential_id


def response_of(credential: Mapping[str, object]) -> Mapping[str, object]:
    """The authenticator's response inside a credential. Raises InvalidCredential when there is none."""
    response = credential.get("response")
    if not isinstance(response, Mapping):
        raise InvalidCredential(reason="response")
    return response


def parse_client_data(client_data_json: bytes) -> ClientData:
    """Read the client data (W3C WebAuthn Level 3, sections 7.1.5-6 and 7.2.8-9). Raises InvalidCredential."""
    try:
        # One byte order mark is dropped, as UTF-8 decode does. Unlike it, this refuses bytes that are no UTF-8:
        # no browser writes them.
        members = json.loads(client_data_json.decode("utf-8").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        # ValueError is also what malformed UTF-8, malformed JSON and an endless number raise.
        raise InvalidCredential(reason="client_data") from None
    if not isinstance(members, dict):
        raise InvalidCredential(reason="client_data")
    cross_origin = members.get("crossOrigin", False)
    require(isinstance(cross_origin, bool), "client_data")
    for member in ("type", "challenge", "origin"):
        require(isinstance(members.get(member), str), "client_data")
    if "topOrigin" in members:
        # A browser names the top origin only of a frame that it calls cross-origin (section 5.8.1).
        require(isinstance(members["topOrigin"], str) and cross_origin, "client_data")
    return ClientData(
        type=members["type"],
        challenge=members["challenge"],
        origin=members["origin"],
        cross_origin=cross_origin,
        top_origin=members.get("topOrigin"),
        hash=sha256(client_data_json).digest(),
    )
