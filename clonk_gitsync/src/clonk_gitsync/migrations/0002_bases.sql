-- What else is never pushed to from a folder, and how it came to be registered.

alter table workspaces add column base text;
alter table workspaces add column protect text not null default '[]';
alter table workspaces add column source text not null default 'registered';
