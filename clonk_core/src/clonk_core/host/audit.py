"""What packages write into the audit log for themselves, and the log where there is none."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias

import attrs

from clonk_core.gateway_messages import AuditEntry
from clonk_core.interfaces.keeping import AuditReader, AuditWriter
from clonk_core.interfaces.storage import CoreDatabase
from clonk_core.messages import Call, JsonValue
from clonk_core.schema.shorten import shorten

_LEAST_BYTES: Final = 128
"""Of a member that are kept, whatever the settings say: a digest and its quotes take 66."""


class AuditBook(AuditWriter, AuditReader, Protocol):
    """An audit log: to write and to read."""


OpenAudit: TypeAlias = Callable[[CoreDatabase], AbstractAsyncContextManager[AuditBook]]
"""Opens the audit log in the core's database."""


class NoAudit:
    """The audit log where it is off; implements `interfaces.AuditWriter`."""

    async def write(self, entry: AuditEntry) -> None:
        """Forget the entry."""


def own_entry(entry: AuditEntry, call: Call | None, max_bytes: int) -> AuditEntry:
    """Return what an activation wants written down, with what is known of the call that runs now, and short.

    Args:
        entry: As the activation gave it.
        call: The call that runs now, None in background work.
        max_bytes: Most bytes of each member of the detail.
    """
    return attrs.evolve(
        entry,
        run_id=entry.run_id or (call.run_id if call else None),
        request_id=call.id if call else None,
        detail=_short(entry.detail, max_bytes),
    )


def _short(detail: Mapping[str, JsonValue], max_bytes: int) -> dict[str, JsonValue]:
    return {name: shorten(value, max(max_bytes, _LEAST_BYTES)) for name, value in detail.items()}
