-- Secrets, encrypted (AES-256-GCM) under a key that is not in this database.
create table secrets (
    tenant text not null,
    name text not null,
    key_id text not null,       -- first 16 hex digits of SHA-256 over the key that encrypted it
    nonce blob not null,
    ciphertext blob not null,
    created_at text not null,
    updated_at text not null,
    primary key (tenant, name)
);
