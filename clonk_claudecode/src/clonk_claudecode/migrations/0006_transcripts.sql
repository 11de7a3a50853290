-- The transcripts of conversations, entry by entry as Claude Code wrote them, so that a session resumes from here alone.
-- A session goes on in another conversation (Claude Code's own id) when it goes back; the one that it left stays.
create table transcript_entries (
    conversation text not null,
    path text not null,
    seq integer not null,
    session_id text not null references sessions (id) on delete cascade,
    uuid text,
    entry text not null,
    written_at text not null,
    primary key (conversation, path, seq)
);

create unique index transcript_entries_by_uuid on transcript_entries (conversation, path, uuid) where uuid is not null;

create index transcript_entries_by_session on transcript_entries (session_id);

-- What is searched: the words of each message, which are its text and the beginning of what tools gave. Nesting beyond
-- what SQLite reads has no words.
create view message_words as
select messages.session_id, messages.seq, substr(coalesce(
    case
        when not json_valid(messages.content) then null
        when json_type(messages.content) = 'text' then messages.content ->> '$'
        else (
            select group_concat(
                case block.value ->> '$.type'
                    when 'text' then block.value ->> '$.text'
                    when 'tool_result' then substr(
                        case json_type(block.value, '$.content')
                            when 'text' then block.value ->> '$.content'
                            else (
                                select group_concat(part.value ->> '$.text', char(10))
                                from json_each(block.value, '$.content') as part where part.type = 'object'
                            )
                        end, 1, 10000
                    )
                end, char(10)
            )
            from json_each(messages.content) as block where block.type = 'object'
        )
    end, ''
), 1, 200000) as text
from messages;

create table message_texts (
    id integer primary key,
    session_id text not null,
    seq integer not null,
    text text not null,
    unique (session_id, seq),
    foreign key (session_id, seq) references messages (session_id, seq) on delete cascade
);

create virtual table message_search using fts5(
    text, content = 'message_texts', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);

create trigger message_texts_insert after insert on message_texts begin
    insert into message_search (rowid, text) values (new.id, new.text);
end;

create trigger message_texts_delete after delete on message_texts begin
    insert into message_search (message_search, rowid, text) values ('delete', old.id, old.text);
end;

create trigger messages_insert after insert on messages begin
    insert into message_texts (session_id, seq, text)
    select session_id, seq, text from message_words
    where session_id = new.session_id and seq = new.seq and text <> '';
end;

create trigger messages_update after update of session_id, seq, content on messages begin
    delete from message_texts where session_id in (old.session_id, new.session_id) and seq in (old.seq, new.seq);
    insert into message_texts (session_id, seq, text)
    select session_id, seq, text from message_words
    where session_id = new.session_id and seq = new.seq and text <> '';
end;

insert into message_texts (session_id, seq, text) select session_id, seq, text from message_words where text <> '';
