"""What tests of tokens share."""

import base64

ALGORITHMS = ["RS256", "ES256", "EdDSA"]


def base64url(content: bytes) -> str:
    """Return a part of a token (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
