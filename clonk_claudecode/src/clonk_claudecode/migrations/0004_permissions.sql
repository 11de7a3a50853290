-- What sessions have asked for, and what was answered; and the rules of sessions about tools.
create table permissions (
    id text primary key,
    session_id text not null references sessions (id) on delete cascade,
    turn_id text,
    kind text not null,
    tool text not null,
    input text not null,
    tool_use_id text,
    suggestions text not null,
    reason text,
    asked_at text not null,
    expires_at text not null,
    state text not null,
    decision text,
    decided_by text,
    decided_at text,
    message text,
    updated_input text,
    interrupt integer not null default 0
);

create index permissions_of_session on permissions (session_id, id);
create index permissions_waiting on permissions (id) where state = 'waiting';

alter table sessions add column allowed_tools text not null default '[]';
alter table sessions add column disallowed_tools text not null default '[]';
alter table sessions add column granted_tools text not null default '[]';
alter table sessions add column granted_dirs text not null default '[]';
