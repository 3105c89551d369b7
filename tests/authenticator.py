"""A security key in software, with the browser around it. It shares no code with the server, nor with python-fido2.

    authenticator = Authenticator()
    registration = authenticator.register(options, origin="https://example.org")
    assertion = authenticator.authenticate(options, origin="https://example.org")

`options` is what the server sent (`…CreationOptionsJSON`, `…RequestOptionsJSON`), the result what a browser's
`toJSON()` gives. An honest answer takes no further arguments; each `Deviations` key spoils one thing, before it is
signed wherever a real authenticator would sign it too.
"""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypedDict, Unpack

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.cose import ES256, PrivateKey, cbor, cose_key, new_key, sign

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
Json = dict[str, Any]
Bytes = Callable[[bytes], bytes]
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class Deviations(TypedDict, total=False):
    """What an answer may do differently from an honest one."""

    client_data: Mapping[str, object]
    """Members of the client data that are replaced or added."""
    client_data_json: Bytes
    """Rewrites the client data's bytes."""
    rp_id: str
    set_flags: int
    clear_flags: int
    sign_count: int
    credential_id: bytes
    """The id of a new credential; `id` and `rawId` follow."""
    public_key: Mapping[object, object]
    """The COSE key of a new credential, instead of its own."""
    extensions: bytes
    """CBOR behind the authenticator data, whose flag ED is set."""
    authenticator_data: Bytes
    """Rewrites the authenticator data's bytes."""
    statement: Callable[[Json], object]
    """Rewrites the attestation statement."""
    attestation: str
    """Another attestation format than the authenticator's."""
    attestation_object: Bytes
    signature: Bytes
    """Rewrites the signature of an assertion."""
    credential: Mapping[str, object]
    """Members of the answer that are replaced or added, such as `id`."""
    response: Mapping[str, object]
    """Members of the answer's `response` that are replaced or added, such as `userHandle`."""


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Credential:
    """A key pair on the authenticator."""

    id: bytes
    rp_id: str
    user_handle: bytes
    algorithm: int
    private_key: PrivateKey
    sign_count: int = 0


@dataclass
class Authenticator:
    """One authenticator and the credentials on it.

    Args:
        algorithms: COSE identifiers of what it can do; the server's preference decides.
        attestation: `none`, `packed` (with a certificate), `self` (packed without), `fido-u2f` or `apple`.
        aaguid: The make that it claims to be, 16 bytes.
        verifies_user: Whether it has a PIN or the like.
        counts: Whether it has a signature counter.
    """

    algorithms: Sequence[int] = (ES256,)
    attestation: str = "none"
    aaguid: bytes = bytes(16)
    transports: Sequence[str] = ("usb",)
    verifies_user: bool = True
    backup_eligible: bool = False
    backed_up: bool = False
    counts: bool = True
    credentials: list[Credential] = field(default_factory=list)
    maker_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def register(self, options: Json, *, origin: str, **deviations: Unpack[Deviations]) -> Json:
        """Make a credential and answer with a `RegistrationResponseJSON`.

        Raises ValueError when one of `excludeCredentials` is on this authenticator, or no algorithm fits.
        """
        excluded = {from_base64url(descriptor["id"]) for descriptor in options["excludeCredentials"]}
        offered = [parameter["alg"] for parameter in options["pubKeyCredParams"]]
        algorithm = next((algorithm for algorithm in offered if algorithm in self.algorithms), None)
        if algorithm is None or any(known.id in excluded for known in self.credentials):
            raise ValueError("this authenticator takes no part")
        credential = Credential(
            id=deviations.get("credential_id", os.urandom(32)),
            rp_id=options["rp"]["id"],
            user_handle=from_base64url(options["user"]["id"]),
            algorithm=algorithm,
            private_key=new_key(algorithm),
        )
        self.credentials.append(credential)
        client_data = _client_data("webauthn.create", options, origin, deviations)
        attested = self.aaguid + struct.pack(">H", len(credential.id)) + credential.id
        attested += cbor(deviations.get("public_key", cose_key(credential.private_key, credential.algorithm)))
        verification = options["authenticatorSelection"]["userVerification"]
        authenticator_data = self._authenticator_data(credential, verification, attested, deviations)
        attestation_format = deviations.get("attestation", self.attestation)
        statement = self._statement(attestation_format, credential, authenticator_data, sha256(client_data).digest())
        attestation_object = cbor(
            {
                "fmt": "packed" if attestation_format == "self" else attestation_format,
                "attStmt": deviations["statement"](statement) if "statement" in deviations else statement,
                "authData": authenticator_data,
            }
        )
        public_key = credential.private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        response = {
            "clientDataJSON": base64url(client_data),
            "authenticatorData": base64url(authenticator_data),
            "attestationObject": base64url(deviations.get("attestation_object", _kept)(attestation_object)),
            "transports": list(self.transports),
            "publicKeyAlgorithm": algorithm,
            "publicKey": base64url(public_key),
        }
        return _answer(credential, response, deviations)

    def authenticate(self, options: Json, *, origin: str, **deviations: Unpack[Deviations]) -> Json:
        """Sign with the first credential that is allowed: an `AuthenticationResponseJSON`.

        Raises ValueError when none is on this authenticator.
        """
        allowed = {from_base64url(descriptor["id"]) for descriptor in options["allowCredentials"]}
        credential = next((known for known in self.credentials if known.id in allowed), None)
        if credential is None:
            raise ValueError("this authenticator takes no part")
        credential.sign_count += self.counts
        client_data = _client_data("webauthn.get", options, origin, deviations)
        authenticator_data = self._authenticator_data(credential, options["userVerification"], b"", deviations)
        signature = sign(
            credential.private_key, credential.algorithm, authenticator_data + sha256(client_data).digest()
        )
        response = {
            "clientDataJSON": base64url(client_data),
            "authenticatorData": base64url(authenticator_data),
            "signature": base64url(deviations.get("signature", _kept)(signature)),
            "userHandle": base64url(credential.user_handle),
        }
        return _answer(credential, response, deviations)

    def _authenticator_data(
        self, credential: Credential, user_verification: str, attested: bytes, deviations: Deviations
    ) -> bytes:
        flags = UP | (AT if attested else 0) | (BE if self.backup_eligible else 0) | (BS if self.backed_up else 0)
        flags |= UV if self.verifies_user and user_verification != "discouraged" else 0
        flags |= ED if "extensions" in deviations else 0
        flags = (flags | deviations.get("set_flags", 0)) & ~deviations.get("clear_flags", 0)
        rp_id_hash = sha256(deviations.get("rp_id", credential.rp_id).encode()).digest()
        head = rp_id_hash + struct.pack(">BI", flags, deviations.get("sign_count", credential.sign_count))
        data = head + attested + deviations.get("extensions", b"")
        return deviations.get("authenticator_data", _kept)(data)

    def _statement(self, kind: str, credential: Credential, authenticator_data: bytes, client_data_hash: bytes) -> Json:
        """The attestation statement (W3C WebAuthn Level 3, sections 8.2, 8.6 and 8.8)."""
        signed = authenticator_data + client_data_hash
        match kind:
            case "self":
                return {"alg": credential.algorithm, "sig": sign(credential.private_key, credential.algorithm, signed)}
            case "packed":
                make = x509.UnrecognizedExtension(
                    x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4"), b"\x04\x10" + self.aaguid
                )
                certificate = self._certificate(self.maker_key.public_key(), make)
                return {"alg": ES256, "sig": self._sign_as_maker(signed), "x5c": [certificate]}
            case "fido-u2f":
                key = cose_key(credential.private_key, credential.algorithm)
                point = b"".join(part for part in (key[-2], key.get(-3)) if isinstance(part, bytes))
                signed = b"\0" + authenticator_data[:32] + client_data_hash + credential.id + b"\x04" + point
                certificate = self._certificate(self.maker_key.public_key())
                return {"x5c": [certificate], "sig": self._sign_as_maker(signed)}
            case "apple":
                nonce = b"\x30\x24\xa1\x22\x04\x20" + sha256(signed).digest()
                proof = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113635.100.8.2"), nonce)
                return {"x5c": [self._certificate(credential.private_key.public_key(), proof)]}
        return {}

    def _sign_as_maker(self, message: bytes) -> bytes:
        return self.maker_key.sign(message, ec.ECDSA(hashes.SHA256()))

    def _certificate(self, public_key: PublicKey, *extensions: x509.ExtensionType) -> bytes:
        name = x509.Name.from_rfc4514_string("CN=Software,OU=Authenticator Attestation,O=Nobody,C=AQ")
        builder = x509.CertificateBuilder(name, name, public_key, serial_number=1)
        builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        builder = builder.not_valid_after(datetime(2056, 1, 1, tzinfo=UTC))
        for extension in (x509.BasicConstraints(ca=False, path_length=None), *extensions):
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.maker_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _kept(data: bytes) -> bytes:
    return data


def _client_data(kind: str, options: Json, origin: str, deviations: Deviations) -> bytes:
    members = {"type": kind, "challenge": options["challenge"], "origin": origin, "crossOrigin": False}
    text = json.dumps(members | dict(deviations.get("client_data", {})), separators=(",", ":"))
    return deviations.get("client_data_json", _kept)(text.encode())


def _answer(credential: Credential, response: Json, deviations: Deviations) -> Json:
    answer = {
        "id": base64url(credential.id),
        "rawId": base64url(credential.id),
        "type": "public-key",
        "authenticatorAttachment": "cross-platform",
        "clientExtensionResults": {},
        "response": response | dict(deviations.get("response", {})),
    }
    return answer | dict(deviations.get("credential", {}))
