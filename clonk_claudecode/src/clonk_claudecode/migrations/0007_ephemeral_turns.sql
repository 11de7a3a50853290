-- The turn of a fork, whose requests for permissions are thrown away with it.
alter table ephemeral_forks add column turn_id text not null default '';
