"""Identifiers: a prefix that says what it names, and a UUIDv7 (RFC 9562), so that they sort by time."""

from typing import Final

import uuid_utils

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no i, l, o, u to confuse."""

_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
"""Two digits at a time: every call makes an identifier."""


def new_id(prefix: str) -> str:
    """Return a new identifier such as `sess_01k3...`: prefix, underscore, 26 characters of base 32 over 128 bits."""
    number = uuid_utils.uuid7().int
    pairs = []
    for _ in range(13):
        pairs.append(_PAIRS[number & 1023])
        number >>= 10
    pairs.reverse()
    return f"{prefix}_{''.join(pairs)}"
