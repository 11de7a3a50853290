-- Branches that are to be pushed by themselves, until they are. `ticket` is a new one each time that more is to be pushed.

create table pushes (
    path     text    not null,
    branch   text    not null,
    ticket   text    not null,
    attempts integer not null default 0,
    due_at   text    not null,
    primary key (path, branch)
);
