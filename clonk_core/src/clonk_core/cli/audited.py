"""The audit log, for commands that change the data directory themselves."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clonk_core.config.settings import AuditSettings
    from clonk_core.interfaces.keeping import AuditWriter
    from clonk_core.interfaces.storage import CoreDatabase


def audit_writer(database: "CoreDatabase", settings: "AuditSettings") -> "AuditWriter | None":
    """Return where changes are written down: the audit log of `clonk.db`; None when it is off."""
    if not settings.enabled:
        return None
    from clonk_core.gateway.audit import AuditLog

    return AuditLog(database)
