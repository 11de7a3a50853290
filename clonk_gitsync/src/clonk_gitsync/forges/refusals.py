"""What a forge says when it does not do what it was asked: sorted, shortened and without secrets. No I/O."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from clonk_gitsync.forges.errors import ForgeRefused, RefusalReason

MAX_SAID: Final = 300
"""Characters of a forge's own words that callers see."""

MAX_READ: Final = 64 * 1024
"""Bytes of an answer that are looked through for words."""

UNTOLD_WAIT_S: Final = 60.0
"""Wait for a limit that comes without a time: "at least one minute" in GitHub's words,
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api."""

LONGEST_WAIT_S: Final = 86_400.0

REASONS: Final[Mapping[int, RefusalReason]] = {
    400: "invalid", 401: "authentication", 403: "forbidden", 404: "not_found", 405: "forbidden", 409: "conflict",
    410: "not_found", 413: "invalid", 422: "invalid", 423: "forbidden", 451: "forbidden",
}  # fmt: skip


def refusal(status: int, body: bytes, secret: str) -> ForgeRefused:
    """Return the error for an answer with a status of 4xx."""
    return ForgeRefused(REASONS.get(status, "refused"), status, said(body, secret))


def said(body: bytes, secret: str) -> str:
    """Return a forge's own words on one line: printable, shortened, without the token."""
    if len(body) > MAX_READ:
        return ""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        # A plain text, as GitLab's "Retry later"; a page of a proxy says nothing to a caller.
        value = None if body.lstrip()[:1] == b"<" else body.decode(errors="replace")
    words = dict.fromkeys(word for word in _words(value, 0) if word)
    line = "; ".join(words)
    if secret:
        line = line.replace(secret, "***")
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    line = " ".join(line.split())
    return line if len(line) <= MAX_SAID else line[: MAX_SAID - 1] + "…"


def _words(value: Any, depth: int) -> Iterator[str]:
    """Find the texts: `message` and `errors` (GitHub, Gitea), a list or an object of lists (GitLab), `error`."""
    if depth > 4:
        return
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, list):
        for one in value[:10]:
            yield from _words(one, depth + 1)
    elif isinstance(value, dict):
        known = [value[name] for name in ("message", "errors", "error", "error_description") if name in value]
        if known:
            for one in known:
                yield from _words(one, depth + 1)
        elif isinstance(value.get("code"), str):
            # An error of GitHub's without words: {"resource": "PullRequest", "field": "base", "code": "invalid"}.
            yield " ".join(str(value[name]) for name in ("field", "code") if isinstance(value.get(name), str))
        else:
            for name, one in list(value.items())[:10]:
                yield from (f"{name} {word}" for word in _words(one, depth + 1))


def wait_of(status: int, headers: Mapping[str, str], body: bytes, now: float) -> float | None:
    """Return the seconds that a forge wants us to wait; None when it is no matter of a limit.

    GitHub: 403 or 429 with `x-ratelimit-remaining: 0` and `x-ratelimit-reset`, or with `retry-after`,
    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api. GitLab: 429 with `Retry-After` and
    `RateLimit-Reset`, https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/.

    Args:
        status: Of the answer.
        headers: Its headers, in small letters.
        body: Its body.
        now: POSIX time in seconds.
    """
    spent = headers.get("x-ratelimit-remaining", "").strip() == "0"
    told = "retry-after" in headers
    if status != 429 and not (status == 403 and (spent or told or b"rate limit" in body[:2000].lower())):
        return None
    seconds = _seconds(headers.get("retry-after", ""), now)
    if seconds is None:
        reset = headers.get("x-ratelimit-reset") or headers.get("ratelimit-reset") or ""
        seconds = float(reset) - now if reset.strip().isdecimal() and len(reset) < 15 else UNTOLD_WAIT_S
    return min(max(seconds, 1.0), LONGEST_WAIT_S)


def _seconds(value: str, now: float) -> float | None:
    """Return what `Retry-After` says (RFC 9110, section 10.2.3): seconds, or a date."""
    if value.strip().isdecimal():
        return float(value.strip()[:12])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now


def when(seconds: float, now: float) -> str:
    """Return the moment that lies some seconds ahead, for a message."""
    return datetime.fromtimestamp(now + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
