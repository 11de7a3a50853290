-- Numbers as keys, and each node knows a farther ancestor, so that long paths are read quickly; names that move in a
-- tree (positions), claims, a log of changes, and the full text. What is there keeps its ids and its order.

create table whole_trees (
    key         integer primary key autoincrement,
    id          text    not null unique,
    name        text    not null,
    metadata    text    not null,
    created_at  text    not null,
    updated_at  text    not null,
    archived_at text,
    -- active, archived, importing (being filled, not seen yet), deleted (not seen any more, being taken away)
    state       text    not null default 'active',
    -- Number of the tree's last change.
    version     integer not null default 0,
    node_count  integer not null default 0,
    root_count  integer not null default 0
);

insert into whole_trees (id, name, metadata, created_at, updated_at, node_count, root_count)
select id, name, metadata, created_at, created_at, node_count, root_count from trees order by rowid;

create table whole_nodes (
    -- The order of creation, whatever the clock did. Never used twice: the log of changes names nodes by it.
    key        integer primary key autoincrement,
    id         text    not null,
    tree       integer not null references whole_trees (key),
    parent     integer,
    -- An ancestor farther up, so chosen that any ancestor is reached in some 2 log2(depth) steps. Null for a root.
    jump       integer,
    depth      integer not null,
    kind       text    not null,
    size       integer not null,
    created_at text    not null,
    metadata   text    not null,
    -- Last, so that what comes before it is read without it.
    content    text    not null
);

-- For what is there the farther ancestor is the parent: right, and only slower.
insert into whole_nodes (key, id, tree, parent, jump, depth, kind, size, created_at, metadata, content)
select n.rowid, n.id, t.key, p.rowid, p.rowid, n.depth,
       case when substr(n.content, 1, 1) = '"' then 'text' else 'json' end,
       length(cast(n.content as blob)), n.created_at, n.metadata, n.content
from nodes n join whole_trees t on t.id = n.tree_id left join nodes p on p.id = n.parent_id
order by n.rowid;

drop table nodes;
drop table trees;
alter table whole_trees rename to trees;
alter table whole_nodes rename to nodes;

create unique index nodes_by_id on nodes (id);
create index nodes_by_parent on nodes (parent) where parent is not null;
create index nodes_by_tree on nodes (tree);
create index nodes_roots on nodes (tree) where parent is null;
create index trees_by_state on trees (state) where state != 'active';

create table positions (
    tree       integer not null references trees (key),
    name       text    not null,
    node       integer not null,
    version    integer not null,
    metadata   text    not null,
    created_at text    not null,
    moved_at   text    not null,
    primary key (tree, name)
) without rowid;

create table claims (
    tree       integer not null references trees (key),
    owner      text    not null,
    claimed_by text    not null,
    claimed_at text    not null,
    primary key (tree, owner)
) without rowid;

-- What happened to a tree, for those who watch it. `first` and `last` are keys of nodes, `detail` is JSON.
create table changes (
    tree    integer not null references trees (key),
    version integer not null,
    kind    text    not null,
    first   integer,
    last    integer,
    detail  text,
    at      text    not null,
    primary key (tree, version)
) without rowid;

-- The words of the nodes up to the key `indexed`; the words of a node's tree are one word, its key with a `t` before it.
create virtual table node_words using fts5 (
    tree, words, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

create table search_progress (indexed integer not null);
insert into search_progress (indexed) values (0);
