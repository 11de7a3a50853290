"""Frozen messages of the gateway: API keys, and the rows of the audit log.

Apart from `messages.py`, which the plugin API loads: their classes would take a tenth of its import.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

import attrs

from clonk_core.messages import AuditKind, Caller, JsonValue

MAX_DESCRIPTION: Final = 200
"""Most characters of a key's description."""

MAX_COUNT: Final = 1_000_000
"""Largest burst, and most streams at the same time, that a key may be given."""

MAX_OVERLAP_S: Final = 30 * 86_400
"""Longest time that a key that was replaced stays good."""


@attrs.frozen(kw_only=True)
class KeyRequest:
    """An API key that is to be made.

    Attributes:
        id: Its name.
        scopes: What it may do.
        tenant: Whose data it reaches; its maker's when None.
        description: What it is for.
        rate_limit: Most calls in a span of time: `100/min`.
        burst: Most calls at once.
        bytes_limit: Most bytes that are taken in a span of time: `50MiB/min`.
        max_runs: Most streams at the same time.
        allowed_networks: Where it may be used from; everywhere when empty.
        expires_at: When it stops working.
    """

    id: str
    scopes: tuple[str, ...]
    tenant: str | None = None
    description: str = ""
    rate_limit: str | None = None
    burst: int | None = None
    bytes_limit: str | None = None
    max_runs: int | None = None
    allowed_networks: tuple[str, ...] = ()
    expires_at: datetime | None = None


@attrs.frozen(kw_only=True)
class ApiKeyInfo:
    """What is known of an API key; its secret is kept nowhere.

    Attributes:
        id: Its name.
        state: Whether it lets anyone in: `good`, `expired`, `revoked`, or `placeholder` for one of the configuration
            that has no real hash yet.
        scopes: What it may do.
        tenant: Whose data it reaches.
        source: Whether it stands in the configuration or in `clonk.db`.
        description: What it is for.
        rate_limit: Most calls in a span of time; null for the server's default.
        burst: Most calls at once; null for as many as `rate_limit` says.
        bytes_limit: Most bytes that are taken in a span of time; null for no limit.
        max_runs: Most streams at the same time; null for no limit.
        allowed_networks: Where it may be used from; everywhere when empty.
        created_at: When it was made; null for one of the configuration.
        created_by: Who made it.
        expires_at: When it stops working; null for never.
        rotated_at: When its secret was last changed.
        previous_until: Until when the secret before that is good.
        revoked_at: When it was taken back.
    """

    id: str
    state: Literal["good", "expired", "revoked", "placeholder"]
    scopes: tuple[str, ...]
    tenant: str
    source: Literal["configuration", "database"]
    description: str = ""
    rate_limit: str | None = None
    burst: int | None = None
    bytes_limit: str | None = None
    max_runs: int | None = None
    allowed_networks: tuple[str, ...] = ()
    created_at: datetime | None = None
    created_by: str | None = None
    expires_at: datetime | None = None
    rotated_at: datetime | None = None
    previous_until: datetime | None = None
    revoked_at: datetime | None = None


@attrs.frozen(kw_only=True)
class AuditEntry:
    """One thing that happened, to be written into the audit log.

    Attributes:
        kind: `call` for a call at the door, `tool` for a tool that Claude used, `auth` for a credential that was
            refused, `key` and `secret` for changes to those, `system` for the server's own.
        caller: Who did it.
        action: The method called, the tool used.
        target: What it was about: a session's name, a key's id.
        outcome: `ok`, or the kind of the error.
        transport: Which door; `inside` where there was none.
        peer: Address of the other side.
        duration_ms: How long it took, None where that means nothing.
        request_bytes: Size of the message, in a batch a share of it; None where there was none.
        answer_bytes: Size of the result.
        run_id: The run it belongs to (`sub_...`).
        request_id: The call it belongs to (`req_...`), as the log has it.
        detail: What else is to be known; JSON values, secrets masked already.
    """

    kind: AuditKind
    caller: Caller
    action: str
    target: str | None = None
    outcome: str = "ok"
    transport: str = "inside"
    peer: str = ""
    duration_ms: float | None = None
    request_bytes: int | None = None
    answer_bytes: int | None = None
    run_id: str | None = None
    request_id: str | None = None
    detail: Mapping[str, JsonValue] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class AuditFilters:
    """Which rows of the audit log are wanted; what is None does not matter.

    Attributes:
        caller: Who did it.
        kind: What it is about.
        action: The method or the tool; with a `*` at its end all that begin so: `claudecode.*`.
        target: What it was done to.
        outcome: What came of it.
        run_id: The run it belongs to.
        since: Not before this clock time.
        until: Before this clock time.
        tenant: Whose it is.
    """

    caller: str | None = None
    kind: AuditKind | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tenant: str | None = None


@attrs.frozen(kw_only=True)
class AuditRow:
    """One row of the audit log.

    Attributes:
        seq: Its number, from 1 without holes.
        at: Clock time when it was written (RFC 3339, UTC).
        kind: `call`, `tool`, `auth`, `key`, `secret` or `system`.
        tenant: Whose it is.
        caller: Who did it.
        caller_kind: How the caller was known.
        transport: Which door; `inside` where there was none.
        peer: Address of the other side.
        action: The method called, the tool used.
        target: What it was about, such as a session's name.
        outcome: `ok`, or what went wrong.
        duration_ms: How long it took.
        request_bytes: Size of the message; in a batch a share of it.
        answer_bytes: Size of the result.
        run_id: The run it belongs to.
        request_id: The call it belongs to, as the server's log has it.
        detail: What else was noted, secrets masked.
        hash: SHA-256 over this row and the hash of the one before.
    """

    seq: int
    at: str
    kind: str
    tenant: str
    caller: str
    caller_kind: str
    transport: str
    peer: str
    action: str
    target: str | None
    outcome: str
    duration_ms: float | None
    request_bytes: int | None
    answer_bytes: int | None
    run_id: str | None
    request_id: str | None
    detail: dict[str, JsonValue]
    hash: str


@attrs.frozen(kw_only=True)
class AuditProblem:
    """A place where the audit log is not as it was written.

    Attributes:
        seq: Number of the row where it shows.
        kind: `changed`: the row does not fit to its hash and the one before it; `missing`: rows before it are gone;
            `anchor`: what is noted of the rows that retention dropped is not true; `head`: the row noted as the last
            one is gone or another one.
        message: What was found, in a sentence.
    """

    seq: int
    kind: Literal["changed", "missing", "anchor", "head"]
    message: str


@attrs.frozen(kw_only=True)
class AuditReport:
    """What checking the audit log's chain of hashes has found.

    Attributes:
        intact: Whether nothing was found.
        rows: How many rows were checked.
        first_seq: Number of the oldest row; 1 more than the last that retention dropped.
        head: Number and hash of the newest row, `1234:9f86d0...`. Noted outside of this machine, it proves later that
            the log up to it is still the same.
        problems: What was found, oldest first; at most 100.
    """

    intact: bool
    rows: int
    first_seq: int
    head: str
    problems: tuple[AuditProblem, ...] = ()
