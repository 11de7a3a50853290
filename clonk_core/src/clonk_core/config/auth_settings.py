"""Settings of who may call: keys, tokens of an identity provider, and limits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import attrs
from annotated_types import Ge, Gt, Le, MinLen

from clonk_core.config.kinds import BytesLimit, Count, Networks, RateLimit, Seconds, Text, check_networks
from clonk_core.names import KEY_ID, SCOPE
from clonk_core.plugin import Pattern


@attrs.frozen(kw_only=True)
class ApiKeySettings:
    """One API key.

    Attributes:
        id: Name of the key.
        secret_hash: `sha256:` and the SHA-256 of the whole key in hex, as `clonk keys hash` prints it. The key itself
            is nowhere kept.
        scopes: What its bearer may do: `claudecode:*`, `arbor:read`, `*`; narrowed to sessions, trees or workspaces by
            a pattern of their names: `claudecode:chat@ci-*`.
        rate_limit: Most calls in a span of time: `100/min`; spans are `s`, `min`, `h`, `day`.
        burst: Most calls at once, when the caller was quiet before; `rate_limit`'s number when null.
        max_runs: Most streams that run at the same time.
        bytes_limit: Most bytes that are taken in a span of time: `50MiB/min`.
        tenant: Whose data it reaches.
        expires_at: When it stops working: `2027-01-31T00:00:00Z`.
        allowed_networks: Networks it may be used from: `10.0.0.0/8`. Empty is everywhere.
    """

    id: Annotated[str, Pattern(KEY_ID.pattern, "1 to 64 letters, digits, _ . and -; not local, stranger or service")]
    secret_hash: Annotated[str, Pattern(r"sha256:([0-9a-f]{64}|\.\.\.)", "sha256: and 64 hex digits")] = attrs.field(
        repr=False, metadata={"secret": True}
    )
    scopes: tuple[Annotated[str, Pattern(SCOPE.pattern, "such as arbor:read or claudecode:chat@ci-*")], ...] = ()
    rate_limit: RateLimit | None = None
    burst: Count | None = None
    max_runs: Count | None = None
    bytes_limit: BytesLimit | None = None
    tenant: Text | None = None
    expires_at: datetime | None = None
    allowed_networks: Networks = ()

    def __attrs_post_init__(self) -> None:
        check_networks(self.allowed_networks)


@attrs.frozen(kw_only=True)
class JwtSettings:
    """Tokens of an identity provider.

    Attributes:
        issuer: The `iss` that tokens must bear.
        audience: The `aud` that tokens must bear.
        jwks_uri: Where the provider's public keys are (a JSON Web Key Set, RFC 7517).
        algorithms: Signatures that are taken. Only those with a public key: a shared secret would have to lie here.
        leeway_s: How far the provider's clock may differ, in seconds.
        scopes_claim: Claim with the scopes: a list, or one string with spaces between (RFC 8693). Dots lead into
            objects: `realm_access.roles`.
        tenant_claim: Claim with the tenant; null for the default tenant.
        required_claims: Claims that a token must have, with their texts: `{repository_owner_id: "1234567"}`. Needed
            where the issuer signs for strangers and lets them choose the audience, as that of GitHub Actions does.
        scopes: Scopes of every token, beside those of its claim.
        rate_limit: Most calls of one user in a span of time.
        keys_max_age_s: When the provider's keys are fetched again, in seconds. They are used longer while the provider
            cannot be reached.
        keys_min_age_s: Least time between two fetches, in seconds, however many tokens name a key that is not known.
    """

    issuer: Text
    audience: Text
    jwks_uri: Annotated[str, Pattern("https?://.+", "an http or https address")]
    algorithms: Annotated[tuple[Literal["RS256", "ES256", "EdDSA"], ...], MinLen(1)] = ("RS256", "ES256", "EdDSA")
    leeway_s: Annotated[float, Ge(0), Le(600)] = 30.0
    scopes_claim: Text = "scope"
    tenant_claim: Text | None = None
    required_claims: dict[str, str] = attrs.field(factory=dict)
    scopes: tuple[Annotated[str, Pattern(SCOPE.pattern, "such as arbor:read or claudecode:chat@ci-*")], ...] = ()
    rate_limit: RateLimit | None = None
    keys_max_age_s: Seconds = 3600.0
    keys_min_age_s: Seconds = 30.0


@attrs.frozen(kw_only=True)
class TenantLimitSettings:
    """What all callers of one tenant may do together.

    Attributes:
        tenant: Which.
        rate_limit: Most calls in a span of time: `1000/min`.
        burst: Most calls at once; `rate_limit`'s number when null.
        max_runs: Most streams that run at the same time.
        bytes_limit: Most bytes that are taken in a span of time: `500MiB/min`.
    """

    tenant: Text
    rate_limit: RateLimit | None = None
    burst: Count | None = None
    max_runs: Count | None = None
    bytes_limit: BytesLimit | None = None


@attrs.frozen(kw_only=True)
class AuthSettings:
    """Who may call.

    Attributes:
        enabled: Whether callers must prove who they are. Without it Clonk listens on the loopback only, and whoever
            reaches a port there can do everything. stdio needs no proof: its peer started Clonk.
        api_keys: Keys that are let in, beside those of `clonk keys`.
        jwt: Tokens of an identity provider that are let in.
        tenant_limits: What all callers of a tenant may do together.
        rate_limit: Most calls of a key that names no limit of its own; null for none.
        stranger_limit: Most requests in a span of time of one address without a credential, or with a wrong one; null
            for no limit.
        max_failure_delay_s: Refusals of wrong credentials are held back longer and longer, up to this, in seconds.
        authenticate_within_s: Time that a WebSocket connection has to say who it is, in seconds.
        key_check_s: How often keys that were changed by another process are looked for, in seconds.
    """

    enabled: bool = True
    api_keys: tuple[ApiKeySettings, ...] = attrs.field(default=())
    jwt: JwtSettings | None = None
    tenant_limits: tuple[TenantLimitSettings, ...] = ()
    rate_limit: RateLimit | None = None
    stranger_limit: RateLimit | None = "60/min"
    max_failure_delay_s: Annotated[float, Ge(0), Le(60)] = 5.0
    authenticate_within_s: Seconds = 10.0
    key_check_s: Annotated[float, Gt(0), Le(60)] = 2.0

    @api_keys.validator
    def _check_ids(self, _attribute: "attrs.Attribute[Any]", keys: Sequence[ApiKeySettings]) -> None:
        ids = [key.id for key in keys]
        twice = sorted({key_id for key_id in ids if ids.count(key_id) > 1})
        if twice:
            raise ValueError(f"api_keys: the id {twice[0]!r} is given twice")
