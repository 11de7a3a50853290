-- Folders and the branches they belong to. Paths are absolute and resolved.

create table workspaces (
    path          text    primary key,
    remote        text    not null,
    branch        text    not null,
    auto_commit   integer not null default 0,
    auto_push     integer not null default 0,
    registered_at text    not null
);
