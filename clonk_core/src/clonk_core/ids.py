"""Identifiers: a prefix that says what it names, and a UUIDv7 (RFC 9562), so that they sort by time."""

from typing import Final

import uuid_utils

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no i, l, o, u to confuse."""


def new_id(prefix: str) -> str:
    """Return a new identifier such as `sess_01k3...`: prefix, underscore, 26 characters of base 32 over 128 bits."""
    number = uuid_utils.uuid7().int
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"
