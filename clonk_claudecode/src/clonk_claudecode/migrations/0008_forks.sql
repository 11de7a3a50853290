-- Forks, rewinds, and the checkpoints of files.

-- Where a forked session came from, as JSON. The parent may be gone: nothing refers to it.
alter table sessions add column forked_from text not null default 'null';

-- Work trees of git that were made for forks: the repository's folder, and the commit of the checkpoint they began with.
create table worktrees (
    session_id text primary key references sessions (id) on delete cascade,
    repository text not null,
    top text not null,
    commit_id text not null
);

-- A rewind takes the messages above base_seq out of the session; they are kept below, with the transcript they are in.
create table rewinds (
    session_id text not null references sessions (id) on delete cascade,
    number integer not null,
    base_seq integer not null,
    claude_session_id text not null,
    created_at text not null,
    primary key (session_id, number)
);

create table abandoned_messages (
    session_id text not null references sessions (id) on delete cascade,
    rewind_number integer not null,
    seq integer not null,
    role text not null,
    content text not null,
    entry_uuid text,
    node_id text,
    turn_id text not null,
    partial integer not null default 0,
    created_at text not null,
    primary key (session_id, rewind_number, seq)
);

create index abandoned_by_node on abandoned_messages (session_id, node_id);
create index messages_by_node on messages (session_id, node_id);

-- The commit is kept by a ref of the repository: refs/clonk/checkpoints/<session_id>/<number>.
create table checkpoints (
    session_id text not null references sessions (id) on delete cascade,
    number integer not null,
    node_id text not null,
    turn_id text,
    kind text not null,
    repository text not null,
    prefix text not null,
    commit_id text not null,
    head_id text,
    left_out text not null,
    left_out_count integer not null,
    created_at text not null,
    primary key (session_id, number)
);

create index checkpoints_by_node on checkpoints (session_id, node_id);

-- What is being done outside of this database, and has to be finished or undone when the server was killed meanwhile.
create table unfinished (
    id text primary key,
    kind text not null,
    detail text not null
);
