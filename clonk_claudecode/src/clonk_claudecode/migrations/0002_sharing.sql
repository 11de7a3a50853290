-- Who made a session, what its users keep with it, and whether it was put aside.
alter table sessions add column owner text not null default '';
alter table sessions add column metadata text not null default '{}';
alter table sessions add column archived_at text;

create index turns_of_session on turns (session_id);

-- Keys that were given out for one session.
create table shares (
    id text primary key,
    session_id text not null references sessions (id) on delete cascade,
    access text not null,
    created_by text not null,
    created_at text not null,
    expires_at text not null,
    revoked_at text
);

create index shares_of_session on shares (session_id);
