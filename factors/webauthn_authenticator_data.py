"""The binary half of a response: CBOR and authenticator data, measured before python-fido2 reads them.

python-fido2 reads a string that runs past the end as if it ended there, takes a float for `false` and then its bytes
for the next item, copies the rest of the input for each item (a list of 48,000 zeros takes it 50 ms), and recurses as
deep as the input likes. So the layout is walked first, in one pass without recursion, and only what is well-formed
and small reaches the library.
"""

from __future__ import annotations

from typing import Any

from fido2 import cbor
from fido2.webauthn import AuthenticatorData

from factors.errors import InvalidCredential
from factors.webauthn_response import require

FLAGS = AuthenticatorData.FLAG
MOST_ITEMS = 256  # A statement with a long certificate chain has some 20, a key 11.
DEEPEST_NESTING = 8  # CTAP 2 allows 4.

_BOOLEANS = (0xF4, 0xF5)


def item_end(data: bytes, start: int) -> int:
    """Where the CBOR item that begins at `start` ends (RFC 8949, section 3).

    Known are integers, byte and text strings, arrays, maps and booleans, all of definite length: the subset of
    CTAP 2 that python-fido2 reads. Raises InvalidCredential for anything else, for what runs past the end of `data`,
    and for more items or levels than an authenticator has use for.
    """
    position = start
    missing = [1]  # how many items each open array or map still wants
    for _ in range(MOST_ITEMS):
        require(position < len(data) and len(missing) <= DEEPEST_NESTING, "cbor")
        initial, position = data[position], position + 1
        major, argument = initial >> 5, initial & 0x1F
        if argument >= 24:
            require(argument <= 27, "cbor")
            width = 1 << (argument - 24)
            argument, position = int.from_bytes(data[position : position + width]), position + width
        missing[-1] -= 1
        match major:
            case 0 | 1:
                pass
            case 2 | 3:
                position += argument
            case 4:
                missing.append(argument)
            case 5:
                missing.append(2 * argument)
            case _:
                require(initial in _BOOLEANS, "cbor")
        require(position <= len(data), "cbor")
        while missing and missing[-1] == 0:
            missing.pop()
        if not missing:
            return position
    raise InvalidCredential(reason="cbor")


def decode_cbor(data: bytes) -> Any:
    """Read one CBOR item and nothing behind it. Raises InvalidCredential."""
    require(item_end(data, 0) == len(data), "cbor")
    try:
        return cbor.decode(data)
    except Exception:
        # What is left to go wrong is text that is no UTF-8 and a map with a list for a key. python-fido2 documents
        # no exceptions, and whatever it raises means that it could not read the input.
        raise InvalidCredential(reason="cbor") from None


def parse_authenticator_data(data: bytes) -> AuthenticatorData:
    """Read authenticator data (W3C WebAuthn Level 3, section 6.1) that is exactly as long as its flags say.

    Raises InvalidCredential, also when the extensions are no map.
    """
    require(len(data) >= 37, "authenticator_data")
    end = 37
    if data[32] & FLAGS.AT:
        end = item_end(data, 55 + int.from_bytes(data[53:55]))
    if data[32] & FLAGS.ED:
        end = item_end(data, end)
    require(end == len(data), "authenticator_data")
    try:
        authenticator_data = AuthenticatorData(data)
    except Exception:
        # Fenced as above: the key may be no map, or have no algorithm, or have a list for a key.
        raise InvalidCredential(reason="authenticator_data") from None
    has_extensions = authenticator_data.has_extension_data()
    require(not has_extensions or isinstance(authenticator_data.extensions, dict), "authenticator_data")
    return authenticator_data
