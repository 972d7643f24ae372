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
