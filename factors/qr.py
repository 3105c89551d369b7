"""A text as a QR code, as a PNG data URI.

The symbol comes from zxing-cpp (C++, well under a millisecond a code, where the pure Python encoders take about ten);
the few bytes around it that make a PNG (ISO/IEC 15948) need no imaging library.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import zxingcpp

PIXELS_PER_MODULE = 4
GREYSCALE_8_BIT = bytes((8, 0, 0, 0, 0))


def data_uri(text: str) -> str:
    """`data:image/png;base64,…` of the QR code of `text`, with its quiet zone."""
    symbol = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode)
    image: Any = symbol.to_image(PIXELS_PER_MODULE)  # A buffer of height x width bytes; its stubs do not say so.
    return "data:image/png;base64," + base64.b64encode(_png(memoryview(image))).decode()


def _png(image: memoryview) -> bytes:
    height, width = image.shape or ()
    pixels = image.tobytes()
    rows = b"".join(b"\x00" + pixels[at : at + width] for at in range(0, height * width, width))
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">II", width, height) + GREYSCALE_8_BIT)
        + _chunk(b"IDAT", zlib.compress(rows, 1))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
