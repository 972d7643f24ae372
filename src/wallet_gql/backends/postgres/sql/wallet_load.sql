-- Load what a batch needs. Rows are locked first, in one global order. A second function then reads what depends on the
-- locked rows. It sees a fresh snapshot, because this function is volatile and the isolation is READ COMMITTED. A single
-- statement that locks and reads would, after a wait, return old receipts and holds beside new balances. Accounts are
-- read by the statement that locks them: it returns the newest version of the locked rows.
--
-- mode 'read': no locks. 'skip': accounts that another transaction has locked are left out and named in 'busy', records
-- in 'busy_records'. 'wait': wait for each of them up to `patience_ms`; the gate and later writes wait as the transaction
-- says.
--
-- The settings force one plan, by the indexes, for all batch sizes. Planning each call took five times as long as the
-- load of a single payment, and with stale statistics a join read all receipts.
CREATE OR REPLACE FUNCTION wallet_load(want jsonb, mode text) RETURNS text LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  wanted_accounts text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'accounts'));
  wanted_owners text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'wallets'));
  locked text[];
  since bigint[];
  holding text[];
  accounts json;
  busy json;
  held text[];
  busy_records json;
  patience text := current_setting('lock_timeout');
BEGIN
  IF NOT want ? 'receive' THEN  -- a process that knows of pending credits says how many it receives
    RAISE EXCEPTION 'the ledger was upgraded; restart this process with the release that did it' USING ERRCODE = 'WG001';
  END IF;
  IF mode = 'read' THEN
    RETURN wallet_read(want);
  END IF;
  -- Whoever changes the node list takes this lock exclusively first, so the epoch stays what it is until we end.
  PERFORM pg_advisory_xact_lock_shared(7205759403792794);
  PERFORM 1 FROM node WHERE epoch = (want ->> 'epoch')::bigint;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this process knows epoch % of the node list', want ->> 'epoch' USING ERRCODE = 'WG001';
  END IF;
  IF mode = 'wait' THEN
    PERFORM set_config('lock_timeout', coalesce(want ->> 'patience_ms', patience), true);
  END IF;
  IF want -> 'records' = '[]' THEN
  ELSIF mode = 'skip' THEN
    SELECT array_agg(r.key) INTO held FROM (
      SELECT json_build_array(r.kind, r.id, r.slot)::text AS key FROM records AS r
      WHERE (r.kind, r.id, r.slot) IN (SELECT w ->> 0, w ->> 1, (w ->> 2)::bigint
                                       FROM jsonb_array_elements(want -> 'records') AS w)
      ORDER BY r.kind, r.id, r.slot FOR UPDATE SKIP LOCKED) AS r;
    busy_records := (SELECT json_agg(json_build_array(r.kind, r.id, r.slot)) FROM records AS r
                     WHERE (r.kind, r.id, r.slot) IN (SELECT w ->> 0, w ->> 1, (w ->> 2)::bigint
                                                      FROM jsonb_array_elements(want -> 'records') AS w)
                           AND json_build_array(r.kind, r.id, r.slot)::text <> ALL (coalesce(held, '{}')));
  ELSE
    PERFORM 1 FROM records AS r
    WHERE (r.kind, r.id, r.slot) IN (SELECT w ->> 0, w ->> 1, (w ->> 2)::bigint
                                     FROM jsonb_array_elements(want -> 'records') AS w)
    ORDER BY r.kind, r.id, r.slot FOR UPDATE;
  END IF;

  IF cardinality(wanted_accounts) + cardinality(wanted_owners) = 0 THEN
    locked := '{}';
  ELSIF mode = 'skip' THEN
    WITH a AS (SELECT * FROM accounts AS a WHERE a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners)
               ORDER BY a.id FOR UPDATE SKIP LOCKED)
    SELECT array_agg(a.id), array_agg(a.pending_from), array_agg(a.id) FILTER (WHERE a.held_minor > 0), json_agg(
      json_build_array(a.id, a.owner, a.currency, a.created_at, a.changed_at, a.status, a.posted_minor, a.held_minor,
                       a.sequence))
    INTO locked, since, holding, accounts FROM a;
    IF cardinality(wanted_owners) > 0 OR cardinality(wanted_accounts) > coalesce(cardinality(locked), 0) THEN
      busy := (SELECT json_agg(json_build_array(a.id, a.owner)) FROM accounts AS a
               WHERE (a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners))
                     AND a.id <> ALL (coalesce(locked, '{}')));
    END IF;
  ELSIF mode = 'wait' THEN
    WITH a AS (SELECT * FROM accounts AS a WHERE a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners)
               ORDER BY a.id FOR UPDATE)
    SELECT array_agg(a.id), array_agg(a.pending_from), array_agg(a.id) FILTER (WHERE a.held_minor > 0), json_agg(
      json_build_array(a.id, a.owner, a.currency, a.created_at, a.changed_at, a.status, a.posted_minor, a.held_minor,
                       a.sequence))
    INTO locked, since, holding, accounts FROM a;
  END IF;
  PERFORM set_config('lock_timeout', patience, true);
  RETURN wallet_found(want, locked, since, holding, accounts, busy, busy_records);
END
$wallet$;
