-- Forks that answer one ephemeral prompt, noted before they begin, so that also a crash leaves nothing of them behind.
create table ephemeral_forks (
    claude_session_id text not null primary key,
    started_at text not null
);
