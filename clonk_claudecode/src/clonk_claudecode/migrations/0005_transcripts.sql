-- The transcripts of conversations, entry by entry as Claude Code wrote them, so that a session resumes from here alone.
create table transcript_entries (
    session_id text not null references sessions (id) on delete cascade,
    path text not null,
    seq integer not null,
    uuid text,
    entry text not null,
    written_at text not null,
    primary key (session_id, path, seq)
);

create unique index transcript_entries_by_uuid on transcript_entries (session_id, path, uuid) where uuid is not null;
