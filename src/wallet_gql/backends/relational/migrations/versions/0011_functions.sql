-- Claim the rows of a batch for a fencing token, then read them. If a row carries this token or a higher one, another
-- holder has it: nothing is claimed, and the answer is the highest token seen.
--
-- The claim's commit does not wait for the disk. A decision that relies on it comes later in the log, so no decision is
-- durable without its claim.
CREATE OR REPLACE FUNCTION wallet_claim(want jsonb, token bigint) RETURNS text LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $wallet$
DECLARE
  wanted_accounts text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'accounts'));
  wanted_owners text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'wallets'));
  wanted_records jsonb := want -> 'records';
  highest bigint;
  more bigint;
BEGIN
  IF want ->> 'receive' IS NULL AND EXISTS (SELECT FROM pending_credits) THEN  -- on one node nothing is ever pending
    RAISE EXCEPTION 'the ledger was upgraded; restart this process with the release that did it' USING ERRCODE = 'WG001';
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM set_config('lock_timeout', want ->> 'patience_ms', true);
  IF wanted_records <> '[]' THEN
    SELECT max(fence) INTO highest FROM (
      SELECT r.fence FROM records AS r
      WHERE (r.kind, r.id, r.slot) IN (SELECT w ->> 0, w ->> 1, (w ->> 2)::bigint FROM jsonb_array_elements(wanted_records) AS w)
      ORDER BY r.kind, r.id, r.slot FOR NO KEY UPDATE) AS locked;
  END IF;
  SELECT max(fence) INTO more FROM (
    SELECT a.fence FROM accounts AS a WHERE a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners)
    ORDER BY a.id FOR NO KEY UPDATE) AS locked;
  highest := greatest(highest, more);
  IF highest >= token THEN
    RETURN json_build_object('stale', highest)::text;
  END IF;
  IF wanted_records <> '[]' THEN
    UPDATE records AS r SET fence = token
    WHERE (r.kind, r.id, r.slot) IN (SELECT w ->> 0, w ->> 1, (w ->> 2)::bigint FROM jsonb_array_elements(wanted_records) AS w);
  END IF;
  UPDATE accounts AS a SET fence = token WHERE a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners);
  RETURN wallet_load(want, 'read');
END
$wallet$;
-- next
-- Take in credits that other nodes have decided, as pending ones: inserts only, so it locks no row that anybody else
-- needs. Credits whose transfers are here are left out, so a credit may be sent any number of times. If two processes
-- send it at the same time, the transfers' key refuses the second one. Returns the transfers whose payees are not here.
--
-- Neither the gate nor the payee's status is asked, for a decided credit can only be rolled forward. Transfers and payees
-- are looked up by one statement: a slot is forgotten with both of them at once. And nothing is forgotten while the lock
-- is shared, so what was looked up holds until we have ended.
CREATE OR REPLACE FUNCTION wallet_credit(given jsonb) RETURNS text[] LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  out text[];
  lost text[];
BEGIN
  PERFORM set_config('lock_timeout', given ->> 'patience_ms', true);
  PERFORM pg_advisory_xact_lock_shared(7205759403792798);
  PERFORM wallet_at((given ->> 'epoch')::bigint);
  SELECT coalesce(array_agg(id) FILTER (WHERE known OR NOT has_payee), '{}'),
         coalesce(array_agg(id) FILTER (WHERE NOT has_payee), '{}')
  INTO out, lost
  FROM (SELECT w ->> 1 AS id, EXISTS (SELECT FROM transfers AS t WHERE t.id = w ->> 1) AS known,
               EXISTS (SELECT FROM accounts AS a WHERE a.id = w ->> 0) AS has_payee
        FROM jsonb_array_elements(given -> 'pending') AS w) AS sent;
  IF cardinality(out) = jsonb_array_length(given -> 'pending') THEN
    RETURN lost;
  END IF;
  IF out <> '{}' THEN
    given := given || jsonb_build_object(
      'pending', (SELECT jsonb_agg(w) FROM jsonb_array_elements(given -> 'pending') AS w WHERE w ->> 1 <> ALL (out)),
      'transfers', (SELECT jsonb_agg(w) FROM jsonb_array_elements(given -> 'transfers') AS w WHERE w ->> 0 <> ALL (out)),
      'system_entries', (SELECT jsonb_agg(w) FROM jsonb_array_elements(given -> 'system_entries') AS w
                         WHERE w ->> 0 <> ALL (out)));
  END IF;
  PERFORM wallet_write(given);
  RETURN lost;
END
$wallet$;
-- next
-- Write a batch if every row that it claimed still carries its token. It waits for the gate and checks the node list.
-- Intents are the credits that other nodes still have to take in.
--
-- The claim has read where pending credits lie in their table. Since then the table may have been rewritten (`VACUUM
-- FULL`), so we look again. From that look on nobody can rewrite it.
CREATE OR REPLACE FUNCTION wallet_write_fenced(given jsonb) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $wallet$
DECLARE
  token bigint := (given ->> 'token')::bigint;
  claimed_accounts text[] := ARRAY(SELECT jsonb_array_elements_text(given -> 'claimed_accounts'));
  claimed_records jsonb := given -> 'claimed_records';
  wanted bigint := cardinality(claimed_accounts) + jsonb_array_length(claimed_records);
  held bigint := 0;
  more bigint;
BEGIN
  PERFORM set_config('lock_timeout', given ->> 'patience_ms', true);
  IF given ? 'epoch' THEN
    PERFORM pg_advisory_xact_lock_shared(7205759403792794);
    PERFORM 1 FROM node WHERE epoch = (given ->> 'epoch')::bigint FOR KEY SHARE;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'this process knows epoch % of the node list', given ->> 'epoch' USING ERRCODE = 'WG001';
    END IF;
  END IF;
  IF claimed_records <> '[]' THEN
    SELECT count(*) FILTER (WHERE fence = token) INTO held FROM (
      SELECT r.fence FROM records AS r
      WHERE (r.kind, r.id, r.slot) IN (SELECT w ->> 0, w ->> 1, (w ->> 2)::bigint FROM jsonb_array_elements(claimed_records) AS w)
      ORDER BY r.kind, r.id, r.slot FOR UPDATE) AS locked;
  END IF;
  SELECT count(*) FILTER (WHERE fence = token) INTO more FROM (
    SELECT a.fence FROM accounts AS a WHERE a.id = ANY (claimed_accounts) ORDER BY a.id FOR NO KEY UPDATE) AS locked;
  IF held + more <> wanted THEN
    RAISE EXCEPTION 'token % holds % of % rows', token, held + more, wanted USING ERRCODE = 'WG003';
  END IF;
  IF given ? 'received' THEN
    SELECT count(*) INTO held FROM pending_credits AS p
    WHERE p.ctid = ANY (ARRAY(SELECT place::tid FROM jsonb_array_elements_text(given -> 'received') AS place))
          AND p.transfer_id = ANY (ARRAY(SELECT jsonb_array_elements_text(given -> 'received_transfers')));
    IF held <> jsonb_array_length(given -> 'received') THEN
      RAISE EXCEPTION 'pending credits are not where they were' USING ERRCODE = 'WG003';
    END IF;
  END IF;

  PERFORM wallet_write(given);

  INSERT INTO intents (peer, transfer_id)
  SELECT w ->> 0, w ->> 1 FROM jsonb_array_elements(given -> 'intents') AS w ORDER BY 1, 2;
END
$wallet$;
