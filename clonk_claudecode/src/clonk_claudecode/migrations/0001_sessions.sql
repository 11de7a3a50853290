-- Sessions, the messages of their conversations, and the turns that made them.
create table sessions (
    id text primary key,
    name text not null unique,
    claude_session_id text not null unique,
    working_dir text not null,
    model text not null,
    system_prompt text,
    permission_mode text not null,
    tree_id text,
    head_node_id text,
    message_count integer not null default 0,
    created_at text not null,
    last_active_at text not null
);

create table messages (
    session_id text not null references sessions (id) on delete cascade,
    seq integer not null,
    role text not null,
    content text not null,
    entry_uuid text,
    node_id text,
    turn_id text not null,
    partial integer not null default 0,
    created_at text not null,
    primary key (session_id, seq)
);

create index messages_by_turn on messages (turn_id);

-- A turn whose ended_at is null when the server starts was cut off by the server's own end.
create table turns (
    id text primary key,
    session_id text not null references sessions (id) on delete cascade,
    started_at text not null,
    ended_at text,
    outcome text
);

create index turns_open on turns (session_id) where ended_at is null;

create table tool_calls (
    session_id text not null references sessions (id) on delete cascade,
    tool_use_id text not null,
    turn_id text not null,
    tool text not null,
    input text not null,
    result text,
    is_error integer,
    started_at text not null,
    ended_at text,
    primary key (session_id, tool_use_id)
);
