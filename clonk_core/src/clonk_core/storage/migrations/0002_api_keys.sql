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
    burst bigint,
    bytes_limit text,               -- '50MiB/min'
    max_runs bigint,
    allowed_networks text not null, -- JSON array
    created_at text not null,
    created_by text not null,
    expires_at text,
    rotated_at text,
    revoked_at text
);

-- How often keys were changed: a server looks at this number for changes that another process made.
create table key_changes (
    id bigint not null primary key check (id = 1),
    number bigint not null
);
insert into key_changes (id, number) values (1, 0);

-- What a run is about (a session's name), for keys that are narrowed to some.
alter table runs add column target text;
