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
