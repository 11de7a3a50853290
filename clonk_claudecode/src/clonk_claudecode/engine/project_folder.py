"""The folder in which the binary keeps the conversations of a working directory."""

import unicodedata
from typing import Final

MAX_FOLDER_NAME: Final = 200
"""Longer names of a working directory's folder are cut by the binary, and end in a hash."""


def folder_name(working_dir: str) -> str:
    """Return the name of the folder, below `projects`, of a working directory's conversations."""
    path = unicodedata.normalize("NFC", working_dir)
    # As the binary's JavaScript sees it, a character beyond the first 65,536 is two.
    units = len(path.encode("utf-16-le")) // 2
    name = "".join("-" * (1 + (ord(char) > 0xFFFF)) if not _is_plain(char) else char for char in path)
    return name if units <= MAX_FOLDER_NAME else f"{name[:MAX_FOLDER_NAME]}-{_hash(path)}"


def _is_plain(char: str) -> bool:
    return char.isascii() and char.isalnum()


def _hash(text: str) -> str:
    """Return the hash of versions that ran on Node; newer ones find a folder by the part of its name before it."""
    number = 0
    data = text.encode("utf-16-le")
    for low, high in zip(data[::2], data[1::2], strict=True):
        number = (number * 31 + (high << 8 | low)) & 0xFFFFFFFF
    number = abs(number - (1 << 32) if number >= 1 << 31 else number)
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits
