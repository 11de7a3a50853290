-- The key under which a caller asked for a run, so that the same request again is answered with the same run.
alter table runs add column idempotency_key text;
alter table runs add column request_digest text;   -- SHA-256 of the request's other parameters, hex

create unique index runs_by_key on runs (tenant, caller, method, idempotency_key) where idempotency_key is not null;
