-- Methods that a session was given as tools, in whose name they are called, and with which scopes at most.
alter table sessions add column tools text not null default '[]';
alter table sessions add column tools_owner text not null default '';
alter table sessions add column tools_scopes text not null default '[]';
