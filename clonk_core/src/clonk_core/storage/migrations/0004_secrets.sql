-- Secrets, encrypted (AES-256-GCM) under a key that is not in this database. Tenant and name are authenticated with
-- each value, so that no row can take the place of another.
create table secrets (
    tenant text not null,
    name text not null,
    key_id text not null,       -- first 16 hex digits of SHA-256 over the key that encrypted it
    nonce blob not null,
    ciphertext blob not null,
    created_at text not null,   -- RFC 3339, UTC
    updated_at text not null,
    primary key (tenant, name)
);

-- The key that secrets are written under, also while there are none. Every row is under it: who writes one compares it
-- within the transaction, and so never uses a key that another process has just replaced.
create table secret_key (
    id bigint not null primary key check (id = 1),
    key_id text not null,
    chosen_at text not null     -- RFC 3339, UTC
);
