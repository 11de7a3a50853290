-- API keys made by `clonk keys` and `keys.*`; those of clonk.yaml are not here.
create table api_keys (
    id text not null primary key,
    secret_hash text not null,      -- SHA-256 of the whole key as presented, hex; the key itself is nowhere
    previous_hash text,             -- of the key before the last rotation,
    previous_until text,            -- good until then (RFC 3339, UTC)
    scopes text not null,           -- JSON array
    tenant text not null,
    description text not null,
    rate_limit text,                -- '100/min'; null for the configuration's default
    max_runs bigint,
    bytes_limit text,
    allowed_networks text not null, -- JSON array
    created_at text not null,
    created_by text not null,
    expires_at text,
    rotated_at text,
    revoked_at text
);

-- What a run is about (a session's name), for keys that are narrowed to some.
alter table runs add column target text;
