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
