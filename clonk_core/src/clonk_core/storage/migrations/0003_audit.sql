-- Who did what, from where, and what came of it. Rows are only ever added; each carries a hash over itself and the
-- hash of the row before, so that one that is changed, taken out or put elsewhere is found (gateway/audit_chain.py).
-- Retention cuts at the old end only and leaves the hash at which the rest begins in `audit_anchor`.
--
-- No index beside the row number: every call writes a row, and few are ever looked for. Measured, three indexes made a
-- row that is committed alone twice as dear (40 us to 80 us); a million rows are searched in half a second without.
create table audit (
    -- From 1 without holes. `integer` and not `bigint` makes it SQLite's own row number: no second tree to write.
    seq integer not null primary key,
    at text not null,                   -- RFC 3339, UTC
    kind text not null,                 -- call, tool, auth, key, secret, system
    tenant text not null,
    caller text not null,
    caller_kind text not null,
    transport text not null,
    peer text not null,
    action text not null,               -- the method called; the tool used
    target text,
    outcome text not null,              -- ok, or the error's kind
    duration_ms double precision,
    request_bytes bigint,
    answer_bytes bigint,
    run_id text,
    request_id text,
    detail text not null,               -- JSON object
    hash text not null
);

create table audit_anchor (
    id bigint not null primary key check (id = 1),
    seq bigint not null,                -- of the last row that retention has dropped, 0 for none
    hash text not null                  -- that row's
);
