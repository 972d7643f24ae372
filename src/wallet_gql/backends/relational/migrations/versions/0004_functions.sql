-- What depends on the accounts, and what is named by itself: all of it as of one moment, for the function is STABLE.
CREATE OR REPLACE FUNCTION wallet_found(want jsonb, holding text[], accounts json, busy json) RETURNS text
LANGUAGE plpgsql STABLE AS $wallet$
DECLARE
  due_at bigint := (want ->> 'due_at')::bigint;
  all_open boolean := (want ->> 'open_holds')::boolean;
  open_holds json;
  holds json;
  transfers json;
  receipts json;
  records json;
BEGIN
  IF (all_open OR due_at IS NOT NULL) AND holding IS NOT NULL THEN
    open_holds := (SELECT json_agg(
      json_build_array(h.id, h.account_id, h.payee_account_id, h.closer, h.amount_minor, h.currency, h.created_at,
                       h.expires_at, h.state, h.captured_minor, h.closed_at, h.transfer_id, h.reference))
                   FROM holds AS h WHERE h.state = 'open' AND h.account_id = ANY (holding)
                                         AND (all_open OR h.expires_at <= due_at));
  END IF;
  IF want -> 'holds' <> '[]' THEN
    holds := (SELECT json_agg(
      json_build_array(h.id, h.account_id, h.payee_account_id, h.closer, h.amount_minor, h.currency, h.created_at,
                       h.expires_at, h.state, h.captured_minor, h.closed_at, h.transfer_id, h.reference))
              FROM holds AS h WHERE h.id = ANY (ARRAY(SELECT jsonb_array_elements_text(want -> 'holds'))));
  END IF;
  IF want -> 'transfers' <> '[]' THEN
    transfers := (SELECT json_agg(
      json_build_array(t.id, t.kind, t.debit_account_id, t.credit_account_id, t.amount_minor, t.currency, t.at, t.actor,
                       t.idempotency_key, t.fee_minor, t.reverses, t.hold_id, t.reference,
                       (SELECT coalesce(sum(r.amount_minor), 0)::bigint FROM transfers AS r WHERE r.reverses = t.id)))
                  FROM transfers AS t WHERE t.id = ANY (ARRAY(SELECT jsonb_array_elements_text(want -> 'transfers'))));
  END IF;
  IF want -> 'receipts' <> '[]' THEN
    receipts := (SELECT json_agg(json_build_array(r.slot, r.actor, r.key, r.operation, r.fingerprint, r.at,
                                                  r.transfer_id, r.outcome, r.leader))
                 FROM jsonb_array_elements(want -> 'receipts') AS w
                 CROSS JOIN LATERAL (SELECT * FROM receipts AS r WHERE r.slot = (w ->> 0)::bigint AND r.actor = w ->> 1
                                                                       AND r.key = w ->> 2 OFFSET 0) AS r);
  END IF;
  IF want -> 'records' <> '[]' THEN
    records := (SELECT json_agg(json_build_array(r.kind, r.id, r.slot, r.owner, r.version, r.body, r.due_at))
                FROM jsonb_array_elements(want -> 'records') AS w
                CROSS JOIN LATERAL (SELECT * FROM records AS r WHERE r.kind = w ->> 0 AND r.id = w ->> 1
                                                                     AND r.slot = (w ->> 2)::bigint OFFSET 0) AS r);
  END IF;
  RETURN json_build_object('accounts', accounts, 'busy', busy, 'open_holds', open_holds, 'holds', holds,
                           'transfers', transfers, 'receipts', receipts, 'records', records)::text;
END
$wallet$;
-- next
-- Load what a batch needs. Locks come first, in one order for everybody; what depends on them is then read by a function
-- of its own: it sees a fresh snapshot, for this function is volatile and the isolation is READ COMMITTED. A single
-- statement that locks and reads would, after waiting, see old receipts and holds beside new balances; of the locked
-- rows themselves it sees the newest version, so accounts are read where they are locked.
--
-- mode 'read': no locks. 'skip': accounts that somebody else has locked are left out and named in 'busy'. 'wait': wait.
--
-- One plan for all sizes of batches, by the indexes whatever the statistics say: planning anew took five times as long as
-- a lone payment's load itself, and on stale statistics a join read all receipts there are.
CREATE OR REPLACE FUNCTION wallet_load(want jsonb, mode text) RETURNS text LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  wanted_accounts text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'accounts'));
  wanted_owners text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'wallets'));
  locked text[];
  holding text[];
  accounts json;
  busy json;
BEGIN
  IF mode = 'read' THEN
    RETURN wallet_read(want);
  END IF;
  -- Whoever changes the node list takes this lock exclusively first, so the epoch stays what it is until we end.
  PERFORM pg_advisory_xact_lock_shared(7205759403792794);
  PERFORM 1 FROM node WHERE epoch = (want ->> 'epoch')::bigint;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this process knows epoch % of the node list', want ->> 'epoch' USING ERRCODE = 'WG001';
  END IF;
  IF want -> 'records' <> '[]' THEN
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
    SELECT array_agg(a.id), array_agg(a.id) FILTER (WHERE a.held_minor > 0), json_agg(
      json_build_array(a.id, a.owner, a.currency, a.created_at, a.changed_at, a.status, a.posted_minor, a.held_minor,
                       a.sequence))
    INTO locked, holding, accounts FROM a;
    IF cardinality(wanted_owners) > 0 OR cardinality(wanted_accounts) > coalesce(cardinality(locked), 0) THEN
      busy := (SELECT json_agg(json_build_array(a.id, a.owner)) FROM accounts AS a
               WHERE (a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners))
                     AND a.id <> ALL (coalesce(locked, '{}')));
    END IF;
  ELSIF mode = 'wait' THEN
    WITH a AS (SELECT * FROM accounts AS a WHERE a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners)
               ORDER BY a.id FOR UPDATE)
    SELECT array_agg(a.id), array_agg(a.id) FILTER (WHERE a.held_minor > 0), json_agg(
      json_build_array(a.id, a.owner, a.currency, a.created_at, a.changed_at, a.status, a.posted_minor, a.held_minor,
                       a.sequence))
    INTO locked, holding, accounts FROM a;
  END IF;
  RETURN wallet_found(want, holding, accounts, busy);
END
$wallet$;
-- next
-- The same without locks, as of one moment.
CREATE OR REPLACE FUNCTION wallet_read(want jsonb) RETURNS text LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  wanted_accounts text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'accounts'));
  wanted_owners text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'wallets'));
  holding text[];
  accounts json;
BEGIN
  SELECT array_agg(a.id) FILTER (WHERE a.held_minor > 0), json_agg(
      json_build_array(a.id, a.owner, a.currency, a.created_at, a.changed_at, a.status, a.posted_minor, a.held_minor,
                       a.sequence))
  INTO holding, accounts
  FROM accounts AS a WHERE a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners);
  RETURN wallet_found(want, holding, accounts, NULL);
END
$wallet$;
-- next
-- Write a batch: relative updates of rows that must still be as loaded, inserts in sorted order. Any surprise raises.
-- What a batch does not write is not named in it.
CREATE OR REPLACE FUNCTION wallet_write(given jsonb) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  wanted bigint;
  done bigint;
BEGIN
  IF given ? 'opened' THEN
    INSERT INTO accounts (id, owner, currency, created_at, changed_at, status, posted_minor, held_minor, sequence)
    SELECT w ->> 0, w ->> 1, w ->> 2, (w ->> 3)::bigint, (w ->> 4)::bigint, w ->> 5, (w ->> 6)::bigint,
           (w ->> 7)::bigint, (w ->> 8)::bigint
    FROM jsonb_array_elements(given -> 'opened') AS w ORDER BY w ->> 0;
  END IF;
  IF given ? 'accounts' THEN
    UPDATE accounts AS a SET posted_minor = a.posted_minor + (w ->> 0)::bigint,
                             held_minor = a.held_minor + (w ->> 1)::bigint,
                             sequence = (w ->> 2)::bigint, changed_at = (w ->> 3)::bigint, status = w ->> 4
    FROM jsonb_array_elements(given -> 'accounts') AS w WHERE a.id = w ->> 5 AND a.sequence = (w ->> 6)::bigint;
    GET DIAGNOSTICS done = ROW_COUNT;
    wanted := jsonb_array_length(given -> 'accounts');
    IF done <> wanted THEN
      RAISE EXCEPTION '% of % accounts were as loaded', done, wanted USING ERRCODE = 'WG002';
    END IF;
  END IF;
  IF given ? 'transfers' THEN
    INSERT INTO transfers (id, kind, debit_account_id, credit_account_id, amount_minor, currency, at, actor,
                           idempotency_key, fee_minor, reverses, hold_id, reference)
    SELECT w ->> 0, w ->> 1, w ->> 2, w ->> 3, (w ->> 4)::bigint, w ->> 5, (w ->> 6)::bigint, w ->> 7, w ->> 8,
           (w ->> 9)::bigint, w ->> 10, w ->> 11, w ->> 12
    FROM jsonb_array_elements(given -> 'transfers') AS w;
  END IF;
  IF given ? 'entries' THEN
    INSERT INTO entries (account_id, sequence, transfer_id, amount_minor, balance_minor, at)
    SELECT w ->> 0, (w ->> 1)::bigint, w ->> 2, (w ->> 3)::bigint, (w ->> 4)::bigint, (w ->> 5)::bigint
    FROM jsonb_array_elements(given -> 'entries') AS w;
  END IF;
  IF given ? 'system_entries' THEN
    INSERT INTO system_entries (transfer_id, account_id, amount_minor, at)
    SELECT w ->> 0, w ->> 1, (w ->> 2)::bigint, (w ->> 3)::bigint
    FROM jsonb_array_elements(given -> 'system_entries') AS w;
  END IF;
  IF given ? 'placed' THEN
    INSERT INTO holds (id, account_id, payee_account_id, closer, amount_minor, currency, created_at, expires_at, state,
                       captured_minor, closed_at, transfer_id, reference)
    SELECT w ->> 0, w ->> 1, w ->> 2, w ->> 3, (w ->> 4)::bigint, w ->> 5, (w ->> 6)::bigint, (w ->> 7)::bigint, w ->> 8,
           (w ->> 9)::bigint, (w ->> 10)::bigint, w ->> 11, w ->> 12
    FROM jsonb_array_elements(given -> 'placed') AS w;
  END IF;
  IF given ? 'closed' THEN
    UPDATE holds AS h SET state = w ->> 0, captured_minor = (w ->> 1)::bigint, closed_at = (w ->> 2)::bigint,
                          transfer_id = w ->> 3
    FROM jsonb_array_elements(given -> 'closed') AS w WHERE h.id = w ->> 4 AND h.state = 'open';
    GET DIAGNOSTICS done = ROW_COUNT;
    wanted := jsonb_array_length(given -> 'closed');
    IF done <> wanted THEN
      RAISE EXCEPTION '% of % holds were open', done, wanted USING ERRCODE = 'WG002';
    END IF;
  END IF;
  IF given ? 'receipts' THEN
    INSERT INTO receipts (slot, actor, key, operation, fingerprint, at, transfer_id, outcome, leader)
    SELECT (w ->> 0)::bigint, w ->> 1, w ->> 2, w ->> 3, w ->> 4, (w ->> 5)::bigint, w ->> 6, w ->> 7, (w ->> 8)::bigint
    FROM jsonb_array_elements(given -> 'receipts') AS w ORDER BY 1, 2, 3;
  END IF;
  IF given ? 'created' THEN
    INSERT INTO records (kind, id, slot, owner, version, body, due_at)
    SELECT w ->> 0, w ->> 1, (w ->> 2)::bigint, w ->> 3, (w ->> 4)::bigint, w ->> 5, (w ->> 6)::bigint
    FROM jsonb_array_elements(given -> 'created') AS w ORDER BY 1, 2, 3;
  END IF;
  IF given ? 'updated' THEN
    UPDATE records AS r SET owner = w ->> 3, version = (w ->> 4)::bigint, body = w ->> 5, due_at = (w ->> 6)::bigint
    FROM jsonb_array_elements(given -> 'updated') AS w
    WHERE r.kind = w ->> 0 AND r.id = w ->> 1 AND r.slot = (w ->> 2)::bigint AND r.version = (w ->> 7)::bigint;
    GET DIAGNOSTICS done = ROW_COUNT;
    wanted := jsonb_array_length(given -> 'updated');
    IF done <> wanted THEN
      RAISE EXCEPTION '% of % records were as loaded', done, wanted USING ERRCODE = 'WG002';
    END IF;
  END IF;
  IF given ? 'removed' THEN
    DELETE FROM records AS r USING jsonb_array_elements(given -> 'removed') AS w
    WHERE r.kind = w ->> 0 AND r.id = w ->> 1 AND r.slot = (w ->> 2)::bigint;
  END IF;
  IF given ? 'decision' THEN
    INSERT INTO decisions (attempt, verdict) VALUES (given ->> 'decision', 'commit');
  END IF;
END
$wallet$;
-- next
-- The functions of 0003 read and write through these and by the same indexes.
ALTER FUNCTION wallet_claim(jsonb, bigint) SET plan_cache_mode = force_generic_plan;
-- next
ALTER FUNCTION wallet_claim(jsonb, bigint) SET enable_seqscan = off;
-- next
ALTER FUNCTION wallet_write_fenced(jsonb) SET plan_cache_mode = force_generic_plan;
-- next
ALTER FUNCTION wallet_write_fenced(jsonb) SET enable_seqscan = off;
