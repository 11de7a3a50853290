-- Durable runs and their events.
create table runs (
    id text not null primary key,
    tenant text not null,
    caller text not null,
    caller_kind text not null,
    method text not null,
    state text not null check (state in ('running', 'done')),
    outcome text,
    last_seq bigint not null,   -- of the last stored event; kept up to date from the end on
    stored_bytes bigint not null,   -- of all payloads; kept up to date from the end on
    started_at text not null,   -- RFC 3339, UTC
    ended_at text
);

create index runs_by_caller on runs (tenant, caller, id);
create index runs_running on runs (id) where state = 'running';
create index runs_by_end on runs (ended_at, id) where state = 'done';

-- One row for each chunk of events that was committed together, not for each event: measured, twice as fast to write
-- at 10 events a commit, four times and more at 100, three times as fast to read back. Without rowid, since a second
-- tree would cost a third of the writes where chunks are small. `payloads` holds the JSON texts of the events first_seq
-- to last_seq, one a line.
create table run_events (
    run_id text not null references runs (id),
    first_seq bigint not null,
    last_seq bigint not null,
    payload_bytes bigint not null,   -- before the payloads, so that adding up sizes reads no payload
    payloads blob not null,
    primary key (run_id, first_seq)
) without rowid;
