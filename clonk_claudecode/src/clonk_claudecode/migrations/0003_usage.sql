-- What turns spent. Kept when their session is deleted: whoever pays wants the whole sum.
create table turn_usage (
    turn_id text primary key,
    session_id text not null,
    session text not null,
    caller text not null,
    began_at text not null,
    ended_at text,
    tool_calls integer not null default 0,
    duration_ms integer not null default 0
);

create index turn_usage_by_time on turn_usage (began_at, caller);
create index turn_usage_by_session on turn_usage (session_id, began_at);
create index turn_usage_open on turn_usage (turn_id) where ended_at is null;

create table model_usage (
    turn_id text not null references turn_usage (turn_id) on delete cascade,
    model text not null,
    input_tokens integer not null,
    output_tokens integer not null,
    cache_read_input_tokens integer not null,
    cache_creation_input_tokens integer not null,
    cost_usd real,
    primary key (turn_id, model)
) without rowid;
