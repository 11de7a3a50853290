"""Images by their content: which format they have, how large they are, whether they are whole.

The model's API refuses an image that it cannot read, and would refuse it again with every later prompt of the session.
So what is let in has to be good.
"""

from typing import Final, Literal, TypeAlias

import attrs

ImageType: TypeAlias = Literal["image/png", "image/jpeg", "image/gif", "image/webp"]

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"IEND\xaeB`\x82"
_JPEG_END: Final = b"\xff\xd9"
_JPEG_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame, which gives its size."""
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""


class NotAnImage(Exception):
    """It is no image of a known format, or not a whole one; the text says what is wrong."""


@attrs.frozen
class Image:
    """What an image is.

    Attributes:
        media_type: Its format.
        width: In pixels.
        height: In pixels.
    """

    media_type: ImageType
    width: int
    height: int


def read_image(data: bytes) -> Image:
    """Tell what an image is.

    Raises:
        NotAnImage: It is none.
    """
    if data.startswith(_PNG):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    raise NotAnImage("is no PNG, JPEG, GIF or WebP image")


def _png(data: bytes) -> Image:
    if len(data) < 33 or data[12:16] != b"IHDR" or not data.rstrip(b"\0\r\n").endswith(_PNG_END):
        raise NotAnImage("is a PNG image that is cut off")
    return Image("image/png", int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))


def _gif(data: bytes) -> Image:
    if len(data) < 14 or not data.rstrip(b"\0").endswith(b";"):
        raise NotAnImage("is a GIF image that is cut off")
    return Image("image/gif", int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))


def _jpeg(data: bytes) -> Image:
    if _JPEG_END not in data[-4096:]:  # cameras write things behind the end
        raise NotAnImage("is a JPEG image that is cut off")
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes before a marker
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in _JPEG_SIZES:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return Image("image/jpeg", width, height)
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise NotAnImage("is a JPEG image without a size")


def _webp(data: bytes) -> Image:
    if len(data) < 30 or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise NotAnImage("is a WebP image that is cut off")
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[start : start + 3], "little") for start in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(data[start : start + 2], "little") & 0x3FFF for start in (26, 28))
    else:
        raise NotAnImage("is a WebP image of an unknown kind")
    return Image("image/webp", width, height)
