-- Who did what, from where, and what came of it. Rows are only ever added; each carries a hash over itself and the
-- hash of the row before, so that one that is changed, taken out or put elsewhere is found. Retention cuts at the old
-- end only and leaves the hash at which the rest begins in `audit_anchor`.
create table audit (
    seq bigint not null primary key,    -- from 1 without holes
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

create index audit_by_time on audit (at);
create index audit_by_caller on audit (caller, seq);
create index audit_by_target on audit (target, seq) where target is not null;

create table audit_anchor (
    id bigint not null primary key check (id = 1),
    seq bigint not null,                -- of the last row that retention has dropped, 0 for none
    hash text not null                  -- that row's
);
