"""What the gateway keeps: the audit log, and the API keys."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

from clonk_core.messages import Caller

if TYPE_CHECKING:
    # Not loaded with the plugin API.
    from clonk_core.gateway_messages import ApiKeyInfo, AuditEntry, AuditFilters, AuditReport, AuditRow, KeyRequest


class AuditWriter(Protocol):
    """Where what happens is written down."""

    async def write(self, entry: "AuditEntry") -> None:
        """Write one entry and return when it is kept.

        Raises:
            StorageFull, StorageError: It is not kept.
        """


class AuditReader(Protocol):
    """What is written down, to be read; see `AuditWriter`."""

    async def query(
        self,
        filters: "AuditFilters",
        *,
        limit: int,
        before: int | None = None,
        after: int | None = None,
    ) -> "Sequence[AuditRow]":
        """Return up to `limit` rows, newest first; oldest first with `after`.

        Args:
            filters: Which.
            limit: At most this many.
            before: Only rows with a lower number: the last one of the page before.
            after: Only rows with a higher number, the oldest of them first. Not together with `before`.
        """

    def follow(self, filters: "AuditFilters", *, after: int | None = None) -> "AsyncIterator[AuditRow]":
        """Iterate over the rows after number `after` (None for those to come), waiting for more, for ever.

        Rows that another process writes are seen within a second.
        """

    async def verify(self, *, expect_head: str | None = None) -> "AuditReport":
        """Check the chain of hashes from its beginning to its end.

        Args:
            expect_head: A head noted earlier (`AuditReport.head`), which must still be in the log.

        Raises:
            InvalidParams: `expect_head` is none.
        """


class KeyKeeper(Protocol):
    """Makes, changes and takes back API keys."""

    def list(self, caller: Caller) -> "Sequence[ApiKeyInfo]":
        """Return the keys that the caller may see, by id."""

    def get(self, caller: Caller, key_id: str) -> "ApiKeyInfo":
        """Return one key.

        Raises:
            NotFound: There is none, or none that the caller may see.
        """

    async def create(self, caller: Caller, wanted: "KeyRequest") -> "tuple[ApiKeyInfo, str]":
        """Make a key; return it and its secret, which nobody can be shown again.

        Raises:
            InvalidParams: A word is against the rules.
            Forbidden: It would do more than its maker may, or reach further.
            Conflict: The id is taken.
        """

    async def revoke(self, caller: Caller, key_id: str, *, made_too: bool = False) -> "ApiKeyInfo":
        """Take a key back; with `made_too` those as well that were made with it, and with those.

        Raises:
            NotFound: There is none.
            Conflict: It stands in the configuration.
            Forbidden: It may do more than the caller.
        """

    async def rotate(self, caller: Caller, key_id: str, keep_old_for_s: float) -> "tuple[ApiKeyInfo, str]":
        """Give a key a new secret; the old one is good for `keep_old_for_s` more. Return both.

        Raises:
            NotFound: There is none.
            Conflict: It stands in the configuration, or was revoked.
            Forbidden: It may do more than the caller, or reach further.
        """
