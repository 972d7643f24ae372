-- Claim the rows of a batch for a fencing token, and only then read them. Rows that carry this token or a higher one are
-- somebody else's by now: then nothing is claimed, and the answer tells the highest token seen.
--
-- The claim's own commit need not reach the disk: whatever is decided on it is in the log behind it, so that no
-- decision is durable without its claim.
CREATE FUNCTION wallet_claim(want jsonb, token bigint) RETURNS text LANGUAGE plpgsql VOLATILE AS $wallet$
DECLARE
  wanted_accounts text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'accounts'));
  wanted_owners text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'wallets'));
  wanted_records jsonb := want -> 'records';
  highest bigint;
  more bigint;
BEGIN
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
-- Write a batch if every row that it claimed still carries its token. A decision waits for the gate and checks the node
-- list; a credit that was decided elsewhere passes both, for it can only be rolled forward. Intents stand for the
-- credits that other nodes still have to apply.
CREATE FUNCTION wallet_write_fenced(given jsonb) RETURNS void LANGUAGE plpgsql VOLATILE AS $wallet$
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

  PERFORM wallet_write(given);

  INSERT INTO intents (peer, transfer_id)
  SELECT w ->> 0, w ->> 1 FROM jsonb_array_elements(given -> 'intents') AS w ORDER BY 1, 2;
END
$wallet$;
