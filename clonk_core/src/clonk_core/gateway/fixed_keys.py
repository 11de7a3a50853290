"""The API keys that stand in the configuration."""

from collections.abc import Sequence
from datetime import UTC, datetime

from clonk_core.config.auth_settings import ApiKeySettings
from clonk_core.gateway.keys import ApiKey


def fixed_keys(settings: Sequence[ApiKeySettings]) -> list[ApiKey]:
    """Return the keys of the configuration; placeholders let nobody in, since nothing has their hash."""
    return [
        ApiKey(
            id=one.id,
            hashes=(one.secret_hash.removeprefix("sha256:"),),
            scopes=frozenset(one.scopes),
            tenant=one.tenant or "default",
            source="configuration",
            rate_limit=one.rate_limit,
            burst=one.burst,
            bytes_limit=one.bytes_limit,
            max_runs=one.max_runs,
            allowed_networks=one.allowed_networks,
            expires_at=_with_zone(one),
        )
        for one in settings
    ]


def _with_zone(key: ApiKeySettings) -> datetime | None:
    if key.expires_at is None or key.expires_at.tzinfo is not None:
        return key.expires_at
    return key.expires_at.replace(tzinfo=UTC)
