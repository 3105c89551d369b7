"""The QR code of a text, read back by a reader."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import zxingcpp

from factors import qr, totp

PREFIX = "data:image/png;base64,"
QUIET_MODULES = 4  # ISO/IEC 18004 section 6.3.8
URI = totp.otpauth_uri(bytes(20), account="alice@example.com", issuer="Example Inc.")
# The longest that the server makes: every character of account and issuer takes twelve when it is percent-encoded.
LONGEST = totp.otpauth_uri(bytes(20), account="🔑" * 255, issuer="🔑" * 64)


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG, their checksums checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        assert int.from_bytes(png[at + 8 + length : at + 12 + length]) == zlib.crc32(kind + data)
        yield kind, data
        at += 12 + length


def pixels(text: str) -> Any:
    """The picture in a data URI, as a buffer of height x width grey values."""
    uri = qr.data_uri(text)
    assert uri.startswith(PREFIX)
    parts = dict(chunks(base64.b64decode(uri.removeprefix(PREFIX), validate=True)))
    assert list(parts) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *kind = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert kind == [1, 0, 0, 0, 0]  # One bit a pixel: 1 is white.
    rows = zlib.decompress(parts[b"IDAT"])
    length = 1 + (width + 7) // 8
    assert len(rows) == height * length
    assert not any(rows[::length])  # No row is filtered.
    bits = (f"{int.from_bytes(rows[at + 1 : at + length]):0{8 * (length - 1)}b}" for at in range(0, len(rows), length))
    grey = b"".join(bytes(255 * int(bit) for bit in row[:width]) for row in bits)
    return memoryview(grey).cast("B", shape=[height, width])


@pytest.mark.parametrize("text", ["a", URI, LONGEST], ids=["short", "usual", "longest"])
def test_a_reader_finds_the_text_in_the_picture(text: str) -> None:
    [read] = zxingcpp.read_barcodes(pixels(text))
    assert (read.text, read.format) == (text, zxingcpp.BarcodeFormat.QRCode)


@pytest.mark.parametrize("text", [URI, LONGEST], ids=["usual", "longest"])
def test_the_code_stands_in_a_quiet_zone_of_four_white_modules(text: str) -> None:
    picture = pixels(text)
    height, width = picture.shape
    quiet = QUIET_MODULES * qr.PIXELS_PER_MODULE
    margin = [
        picture[y, x] for y in range(height) for x in range(width) if min(x, y, width - 1 - x, height - 1 - y) < quiet
    ]
    assert height == width
    assert set(margin) == {255}


def test_the_longest_data_uri_keeps_within_the_contract() -> None:
    assert len(qr.data_uri(LONGEST)) <= 65536
    assert len(LONGEST) <= 4096
