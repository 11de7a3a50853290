-- Trees and their nodes. Times are RFC 3339 in UTC; content and metadata are JSON text.

create table trees (
    id         text    primary key,
    name       text    not null,
    metadata   text    not null,
    created_at text    not null,
    node_count integer not null default 0,
    root_count integer not null default 0
);

create table nodes (
    id         text    primary key,
    tree_id    text    not null references trees (id),
    parent_id  text    references nodes (id),
    -- Counts the tree's nodes from 1: the order of creation, whatever the clock did.
    number     integer not null,
    depth      integer not null,
    content    text    not null,
    metadata   text    not null,
    created_at text    not null
);

create index nodes_by_parent on nodes (parent_id, number) where parent_id is not null;
create index nodes_roots on nodes (tree_id, number) where parent_id is null;
