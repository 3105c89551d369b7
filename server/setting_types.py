"""The forms that settings have, as types. Each refuses in one sentence that repeats nothing of the value."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_settings import NoDecode

from storage import pools
from storage.sealing import KEY_BYTES

KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*")
LONGEST_NAME = 64
DEFAULT_PORTS = {"http": 80, "https": 443}


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


def _name(value: str) -> str:
    if not 1 <= len(value) <= LONGEST_NAME or not value.isprintable():
        raise ValueError(f"has 1 to {LONGEST_NAME} printable characters, so that it fits on a telephone.")
    return value


def _database_url(value: str) -> str:
    if re.fullmatch(r"sqlite:///[^?#]+", value):
        return value
    if not (value.startswith("postgresql://") and pools.is_conninfo(value)):
        raise ValueError("has the form sqlite:///path/to/file.db or postgresql://user:password@host:port/name.")
    return value


def _sealing_keys(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    keys: dict[str, bytes] = {}
    for place, entry in enumerate(_words(value), start=1):
        key_id, _, text = entry.partition(":")
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            key = b""
        if not KEY_ID.fullmatch(key_id) or len(key) != KEY_BYTES:
            raise ValueError(
                f"entry {place} is not id:base64, with an id of up to 32 letters, digits, - and _, "
                f"and the base64 of {KEY_BYTES} bytes from `openssl rand -base64 {KEY_BYTES}`."
            )
        if key_id in keys:
            raise ValueError(f"entry {place} has the id of an earlier one. Give it another.")
        keys[key_id] = key
    return keys


def _readable(path: Path) -> Path:
    try:
        path.read_bytes()
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {error.strerror}.") from error
    return path


def _signing_key(path: Path) -> Path:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: the key wants a password.
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(
            "names a file without an unencrypted P-256 private key in PEM. "
            "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one."
        )
    return path


def _jwks_url(value: str) -> str:
    url = _split(value, "https", "http")
    if url is None or url.username is not None or (url.scheme == "http" and not _is_loopback(str(url.hostname))):
        raise ValueError("is not an https URL without user and fragment; http is for loopback hosts only.")
    return value


def _public_url(value: str) -> str:
    url = _split(value, "https", "http")
    if url is None or url.username is not None or url.query or value.endswith("/"):
        raise ValueError("is not an https or http URL without user, query, fragment and slash at the end.")
    return value


def _rp_id(value: str) -> str:
    if not DOMAIN.fullmatch(value) or _is_address(value):
        raise ValueError("is not a domain in lower case, such as example.com. Write xn-- for other alphabets.")
    return value


def _origins(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """What browsers send as `Origin`: scheme, host, and the port unless it is the scheme's own (RFC 6454 section 6)."""
    rp_id = info.data.get("rp_id")
    for place, origin in enumerate(value, start=1):
        url = _split(origin, "https", "http")
        host = url.hostname if url else None
        if url is None or not host or not DOMAIN.fullmatch(host) or origin != _origin(url):
            raise ValueError(f"entry {place} is not an origin as browsers write it, such as https://app.example.com.")
        if url.scheme == "http" and host != "localhost":
            raise ValueError(f"entry {place} is plain http, which is for localhost only. Write https.")
        if rp_id is not None and host != rp_id and not host.endswith(f".{rp_id}"):
            raise ValueError(f"entry {place} is outside of MFA_RP_ID. Its host must be that domain, or end with it.")
    return value


def _origin(url: SplitResult) -> str:
    port = "" if url.port in (None, DEFAULT_PORTS[url.scheme]) else f":{url.port}"
    return f"{url.scheme}://{url.hostname}{port}"


def _split(value: str, *schemes: str) -> SplitResult | None:
    try:
        url = urlsplit(value)
        usable = url.scheme in schemes and bool(url.hostname) and url.port != 0 and not url.fragment
    except ValueError:  # The port is no number, or the brackets of an IPv6 address do not match.
        return None
    # urlsplit forgives tabs and line ends; nobody means them.
    return url if usable and value.isprintable() and " " not in value else None


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Name = Annotated[str, AfterValidator(_name)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
SealingKeys = Annotated[dict[str, bytes], NoDecode, BeforeValidator(_sealing_keys)]
KeyFile = Annotated[Path, AfterValidator(_readable)]
SigningKeyFile = Annotated[KeyFile, AfterValidator(_signing_key)]
JwksUrl = Annotated[str, AfterValidator(_jwks_url)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
RpId = Annotated[str, AfterValidator(_rp_id)]
Origins = Annotated[Words, AfterValidator(_origins)]
