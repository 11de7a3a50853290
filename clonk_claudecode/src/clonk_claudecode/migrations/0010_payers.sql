-- Whose budget a turn counts against: of a token that was given out for a session, that of who gave it out.
alter table turn_usage add column payer text not null default '';

update turn_usage set payer = coalesce((select created_by from shares where shares.id = turn_usage.caller), caller);

create index turn_usage_by_payer on turn_usage (payer, began_at);
