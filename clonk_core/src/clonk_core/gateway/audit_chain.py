"""The chain of hashes through the audit log: how a row is hashed, and what a walk along the chain finds. No I/O.

A row's hash is SHA-256, in hex, over three things in a row:

    the hash of the row before    64 hex digits; for row 1 it is 64 zeros
    a newline
    the row as a JSON array       of all its columns but `hash`, in the order of `COLUMNS`, in UTF-8, without white
                                  space; `null` where there is nothing; `detail` is its JSON text, as a string

A JSON array says where each value begins and ends and of which type it is, so two different rows cannot have the same
text. Values have the types that the database gives back: see `gateway/audit_store.py`.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs
import orjson

from clonk_core.errors import InvalidParams
from clonk_core.gateway_messages import AuditProblem, AuditReport

COLUMNS: Final = (
    "seq",
    "at",
    "kind",
    "tenant",
    "caller",
    "caller_kind",
    "transport",
    "peer",
    "action",
    "target",
    "outcome",
    "duration_ms",
    "request_bytes",
    "answer_bytes",
    "run_id",
    "request_id",
    "detail",
)
"""Everything of a row but its hash, in the order in which it is hashed."""

Values: TypeAlias = tuple[Any, ...]
"""The values of all columns but `seq` and `hash`."""

BEFORE_THE_FIRST: Final = "0" * 64
"""What stands in place of the hash before row 1."""

SWEEP: Final = "audit.sweep"
"""Action of the row that says what retention has dropped."""

MAX_PROBLEMS: Final = 100

_HEAD: Final = re.compile(r"(0|[1-9][0-9]{0,17}):([0-9a-f]{64})")
_SEQ, _KIND, _ACTION, _DETAIL, _HASH = 0, 2, 8, 16, 17


def body_of(values: Values) -> bytes:
    """Return the JSON array of a row without its first value, the number: that one is known only when it is written.

    Raises:
        TypeError: A text has a lone surrogate, or a value is no JSON.
    """
    return orjson.dumps(values)[1:]


def link(previous_hash: str, seq: int, body: bytes) -> str:
    """Return the hash of row `seq`, whose other values are `body`."""
    return hashlib.sha256(b"%b\n[%d,%b" % (previous_hash.encode(), seq, body)).hexdigest()


@attrs.frozen
class Anchor:
    """Where the rows that are still there begin.

    Attributes:
        seq: Number of the last row that retention has dropped, 0 for none.
        hash: That row's hash.
    """

    seq: int = 0
    hash: str = BEFORE_THE_FIRST


@attrs.frozen
class Head:
    """Number and hash of a row that was the newest at some time."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


def read_head(text: str) -> Head:
    """Read a head as `Head` prints it.

    Raises:
        InvalidParams: It is none.
    """
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise InvalidParams("must be the number and the hash of a row, 1234:9f86...", path="$.head")
    return Head(int(match[1]), match[2])


class ChainCheck:
    """Walks along the chain. Feed it every row, oldest first; `report` says what it found.

    It goes on behind a row that does not fit, from the hash that stands there: so each row that was touched is named,
    and not all rows behind it.

    Args:
        anchor: As it stands beside the oldest row.
        expected: A head that must be in the chain.
    """

    def __init__(self, anchor: Anchor, expected: Head | None = None) -> None:
        self._first = anchor
        self._expected = expected
        self._expected_seen = expected is None or expected.seq <= anchor.seq
        self._seq = anchor.seq
        self._hash: str | None = anchor.hash
        self._rows = 0
        self._swept: tuple[object, object] = (0, BEFORE_THE_FIRST)
        self._problems: list[AuditProblem] = []
        if expected is not None and expected.seq == anchor.seq and expected.hash != anchor.hash:
            self._find(expected.seq, "head", f"the row noted as {expected} was another one when it was dropped")

    @property
    def last_seq(self) -> int:
        """Number of the last row fed; that of the anchor before the first."""
        return self._seq

    def skip_to(self, anchor: Anchor) -> None:
        """Take note that retention has dropped rows that were still to come."""
        self._seq, self._hash = anchor.seq, anchor.hash
        if self._expected is not None and self._expected.seq <= anchor.seq:
            self._expected_seen = True

    def feed(self, row: Sequence[Any]) -> None:
        """Check the next row: the values of `COLUMNS`, and its hash."""
        seq, row_hash = row[_SEQ], row[_HASH]
        self._check_number(seq)
        # Without a hash to go on from there is nothing to compare: see `_check_number`.
        if self._hash is not None and row_hash != _hash_of(self._hash, row):
            self._find_misfit(seq)
        self._note_expected(seq, row_hash)
        if row[_KIND] == "system" and row[_ACTION] == SWEEP:
            self._swept = _what_was_swept(row[_DETAIL])
        self._rows += 1
        self._seq, self._hash = seq, row_hash if isinstance(row_hash, str) else None

    def report(self, anchor: Anchor) -> AuditReport:
        """Return what was found.

        Args:
            anchor: As it stands beside the newest row.
        """
        self._check_anchor(anchor)
        expected = self._expected
        if expected is not None and not self._expected_seen:
            gone = f"the log ends with row {self._seq}" if expected.seq > self._seq else f"row {expected.seq} is gone"
            self._find(expected.seq, "head", f"{gone}; its head was noted as {expected}")
        head = Head(self._seq, self._hash or BEFORE_THE_FIRST)
        problems = tuple(self._problems)
        return AuditReport(
            intact=not problems, rows=self._rows, first_seq=anchor.seq + 1, head=str(head), problems=problems
        )

    def _check_number(self, seq: int) -> None:
        wanted = self._seq + 1
        if seq == wanted:
            return
        self._hash = None
        if seq < wanted:
            self._find(seq, "anchor", f"the rows up to {self._seq} are noted as dropped, but row {seq} is there")
        elif self._rows == 0 and wanted == 1:
            self._find(seq, "missing", f"the log begins with row {seq}, and nothing is noted of those before")
        else:
            self._find(seq, "missing", f"the rows {wanted} to {seq - 1} are gone")

    def _find_misfit(self, seq: int) -> None:
        if self._rows == 0 and self._first.seq > 0:
            text = f"row {seq}, the oldest, does not follow from the row noted as dropped before it, or was changed"
            self._find(seq, "anchor", text)
        else:
            self._find(seq, "changed", f"row {seq} does not fit to its hash and to that of row {seq - 1}")

    def _note_expected(self, seq: int, row_hash: str) -> None:
        expected = self._expected
        if expected is None or expected.seq != seq:
            return
        self._expected_seen = True
        if expected.hash != row_hash:
            self._find(seq, "head", f"row {seq} has the hash {row_hash}; it was noted as {expected}")

    def _check_anchor(self, anchor: Anchor) -> None:
        """Compare the anchor with what the newest row of retention's says, which is written together with it."""
        if (anchor.seq, anchor.hash) != self._swept:
            text = f"the rows up to {anchor.seq} are noted as dropped, but retention has dropped those up to "
            self._find(anchor.seq, "anchor", f"{text}{self._swept[0]}")

    def _find(self, seq: int, kind: Literal["changed", "missing", "anchor", "head"], message: str) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(AuditProblem(seq=seq, kind=kind, message=message))


def _hash_of(previous_hash: str, row: Sequence[Any]) -> str | None:
    """Return the hash that a row should have; None for one with a value of a wrong type, which nobody has written."""
    try:
        return link(previous_hash, row[_SEQ], body_of(tuple(row[1:_HASH])))
    except (TypeError, ValueError):
        return None


def sweep_detail(dropped: int, last: Anchor) -> dict[str, object]:
    """Return the `detail` of the row that says what retention has dropped."""
    return {"dropped": dropped, "last_seq": last.seq, "last_hash": last.hash}


def _what_was_swept(detail: str) -> tuple[object, object]:
    try:
        told = orjson.loads(detail)
        return told["last_seq"], told["last_hash"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return (None, None)  # somebody else's words: they fit to no anchor
