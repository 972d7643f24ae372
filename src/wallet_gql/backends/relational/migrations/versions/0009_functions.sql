-- What is pending for some accounts, as of one moment. If `most` is 0: sum and number for each account; the sum is
-- text, for it may pass 64 bits. Else the credits in the order of their arrival at each account: about `most` of them, so that
-- every account gets a `share`, and one more of an account of which not all were read. Credits that the account's balance
-- has no room for, within 64 bits, are left out: they must not hide those behind them. `payees` have any credits at all.
--
-- It looks from the account's `pending_from` on: what is before that was received long ago, and the index may still be
-- full of it.
CREATE OR REPLACE FUNCTION wallet_pending(ids text[], most bigint) RETURNS json LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off AS $wallet$
DECLARE
  payees text[] := ARRAY(SELECT a.id FROM accounts AS a WHERE a.id = ANY (ids)
                         AND EXISTS (SELECT FROM pending_credits AS p
                                     WHERE p.account_id = a.id AND p.inserted_by >= a.pending_from));
  share bigint := greatest(most / greatest(cardinality(payees), 1), least(most, 10));
BEGIN
  IF most = 0 THEN
    RETURN json_build_object('sums', (
      SELECT json_agg(json_build_array(a.id, s.amount_minor, s.number)) FROM accounts AS a
      CROSS JOIN LATERAL (SELECT sum(p.amount_minor)::text AS amount_minor, count(*) AS number FROM pending_credits AS p
                          WHERE p.account_id = a.id AND p.inserted_by >= a.pending_from) AS s
      WHERE a.id = ANY (payees)));
  END IF;
  RETURN json_build_object('share', share, 'payees', payees, 'credits', (
    SELECT json_agg(json_build_array(p.account_id, p.transfer_id, p.amount_minor, p.at, p.place)
                    ORDER BY p.account_id, p.inserted_by, p.arrival)
    FROM accounts AS a
    CROSS JOIN LATERAL (SELECT p.*, p.ctid AS place FROM pending_credits AS p
                        WHERE p.account_id = a.id AND p.inserted_by >= a.pending_from
                              AND p.amount_minor <= 9223372036854775807 - a.posted_minor
                        ORDER BY p.inserted_by, p.arrival LIMIT share + 1) AS p
    WHERE a.id = ANY (payees)));
END
$wallet$;
-- next
-- The answer of `wallet_load` and `wallet_read`: the accounts that they have read, `ids`, each with its `pending_from`, and
-- everything else that is wanted.
-- The function is STABLE, so all of it is read at one moment.
CREATE OR REPLACE FUNCTION wallet_found(want jsonb, ids text[], since bigint[], holding text[], accounts json, busy json,
                                        busy_records json) RETURNS text
LANGUAGE plpgsql STABLE AS $wallet$
DECLARE
  due_at bigint := (want ->> 'due_at')::bigint;
  all_open boolean := (want ->> 'open_holds')::boolean;
  open_holds json;
  holds json;
  transfers json;
  receipts json;
  records json;
  pending json;
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
  IF want ->> 'receive' IS NOT NULL AND EXISTS (
    SELECT FROM unnest(ids, since) AS a (id, since)
    CROSS JOIN LATERAL (SELECT FROM pending_credits AS p WHERE p.account_id = a.id AND p.inserted_by >= a.since
                        ORDER BY p.inserted_by LIMIT 1) AS p) THEN
    pending := wallet_pending(ids, (want ->> 'receive')::bigint);
  END IF;
  RETURN json_build_object('accounts', accounts, 'busy', busy, 'busy_records', busy_records,
                           'open_holds', open_holds, 'holds', holds,
                           'transfers', transfers, 'receipts', receipts, 'records', records, 'pending', pending)::text;
END
$wallet$;
-- next
-- Answer as `wallet_load` does, without locks and as of one moment, at which the node is at the epoch that is wanted.
CREATE OR REPLACE FUNCTION wallet_read(want jsonb) RETURNS text LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  wanted_accounts text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'accounts'));
  wanted_owners text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'wallets'));
  found text[];
  since bigint[];
  holding text[];
  accounts json;
BEGIN
  IF want ? 'epoch' THEN
    PERFORM wallet_at((want ->> 'epoch')::bigint);
  END IF;
  SELECT array_agg(a.id), array_agg(a.pending_from), array_agg(a.id) FILTER (WHERE a.held_minor > 0), json_agg(
      json_build_array(a.id, a.owner, a.currency, a.created_at, a.changed_at, a.status, a.posted_minor, a.held_minor,
                       a.sequence))
  INTO found, since, holding, accounts
  FROM accounts AS a WHERE a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners);
  RETURN wallet_found(want, found, since, holding, accounts, NULL, NULL);
END
$wallet$;
-- next
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
-- next
-- Write a batch: relative updates of rows that must still be as loaded, inserts in sorted order. A row that is
-- not as loaded raises. The input leaves out what the batch does not write. Changed accounts come before new ones: a
-- batch may close an account so that another one can be opened.
--
-- Credits are received by their places in the table. These stay what they are: a pending credit is never updated, and only
-- who has locked its account deletes it.
--
-- Whoever receives moves the account's `pending_from` up to the first credit that is left, but not past any transaction
-- that has not ended: that may still bring one. So look-ups pass over what was received, which stays in the index while
-- somebody has an old snapshot. A credit is never put before `pending_from`, not even on a server that a dump was
-- restored to, and that counts its transactions from the beginning again.
CREATE OR REPLACE FUNCTION wallet_write(given jsonb) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  closing text[] := ARRAY(SELECT w ->> 5 FROM jsonb_array_elements(given -> 'accounts') AS w WHERE w ->> 4 = 'closed');
  receiving text[] := '{}';
  wanted bigint;
  done bigint;
BEGIN
  IF given ? 'received' THEN
    WITH gone AS (
      DELETE FROM pending_credits AS p
      WHERE p.ctid = ANY (ARRAY(SELECT place::tid FROM jsonb_array_elements_text(given -> 'received') AS place))
      RETURNING p.account_id)
    SELECT count(*), array_agg(DISTINCT account_id) INTO done, receiving FROM gone;
    wanted := jsonb_array_length(given -> 'received');
    IF done <> wanted THEN
      RAISE EXCEPTION '% of % credits were pending', done, wanted USING ERRCODE = 'WG002';
    END IF;
  END IF;
  IF given ? 'accounts' THEN
    UPDATE accounts AS a SET posted_minor = a.posted_minor + (w ->> 0)::bigint,
                             held_minor = a.held_minor + (w ->> 1)::bigint,
                             sequence = (w ->> 2)::bigint, changed_at = (w ->> 3)::bigint, status = w ->> 4,
                             pending_from = CASE WHEN a.id <> ALL (receiving) THEN a.pending_from ELSE least(
                               pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                               (SELECT p.inserted_by FROM pending_credits AS p
                                WHERE p.account_id = a.id AND p.inserted_by >= a.pending_from
                                ORDER BY p.inserted_by LIMIT 1)) END
    FROM jsonb_array_elements(given -> 'accounts') AS w WHERE a.id = w ->> 5 AND a.sequence = (w ->> 6)::bigint;
    GET DIAGNOSTICS done = ROW_COUNT;
    wanted := jsonb_array_length(given -> 'accounts');
    IF done <> wanted THEN
      RAISE EXCEPTION '% of % accounts were as loaded', done, wanted USING ERRCODE = 'WG002';
    END IF;
  END IF;
  IF given ? 'opened' THEN
    INSERT INTO accounts (id, owner, currency, created_at, changed_at, status, posted_minor, held_minor, sequence)
    SELECT w ->> 0, w ->> 1, w ->> 2, (w ->> 3)::bigint, (w ->> 4)::bigint, w ->> 5, (w ->> 6)::bigint,
           (w ->> 7)::bigint, (w ->> 8)::bigint
    FROM jsonb_array_elements(given -> 'opened') AS w ORDER BY w ->> 0;
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
  IF given ? 'pending' THEN
    INSERT INTO pending_credits (account_id, inserted_by, transfer_id, amount_minor, at)
    SELECT w ->> 0, greatest(pg_current_xact_id()::text::bigint,
                             (SELECT a.pending_from FROM accounts AS a WHERE a.id = w ->> 0)),
           w ->> 1, (w ->> 2)::bigint, (w ->> 3)::bigint
    FROM jsonb_array_elements(given -> 'pending') WITH ORDINALITY AS t(w, place) ORDER BY place;
  END IF;
  -- An account is not closed while a credit is on its way to it: `wallet_pend` shares this lock.
  IF cardinality(closing) > 0 THEN
    IF NOT (SELECT bool_and(pg_try_advisory_xact_lock(hashtextextended(account_id, 0)))
            FROM unnest(closing) AS account_id) THEN
      RAISE EXCEPTION 'a credit is on its way to an account to be closed' USING ERRCODE = 'WG004';
    END IF;
    PERFORM 1 FROM pending_credits WHERE account_id = ANY (closing);
    IF FOUND THEN
      RAISE EXCEPTION 'a credit has come to an account to be closed' USING ERRCODE = 'WG004';
    END IF;
  END IF;
  IF given ? 'decision' THEN
    INSERT INTO decisions (attempt, verdict) VALUES (given ->> 'decision', 'commit');
  END IF;
END
$wallet$;
