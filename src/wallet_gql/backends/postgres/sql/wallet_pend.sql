-- Take in credits that another node decides: inserts only. A prepared transaction that holds them locks no row that
-- anybody else needs. The advisory locks keep the payees' accounts from being closed meanwhile; everybody shares them
-- but a commit that closes an account.
CREATE OR REPLACE FUNCTION wallet_pend(given jsonb) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  payees text[] := ARRAY(SELECT DISTINCT w ->> 0 FROM jsonb_array_elements(given -> 'pending') AS w);
BEGIN
  -- Whoever changes the node list takes this lock exclusively first, so the epoch stays what it is until we end.
  PERFORM pg_advisory_xact_lock_shared(7205759403792794);
  PERFORM 1 FROM node WHERE epoch = (given ->> 'epoch')::bigint;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this process knows epoch % of the node list', given ->> 'epoch' USING ERRCODE = 'WG001';
  END IF;
  -- It does not wait: whoever closes an account may have stopped before his commit.
  IF NOT (SELECT bool_and(pg_try_advisory_xact_lock_shared(hashtextextended(payee, 0))) FROM unnest(payees) AS payee) THEN
    RAISE EXCEPTION 'a payee is being closed' USING ERRCODE = 'WG004';
  END IF;
  -- A statement of its own: its snapshot is newer than the locks, so it sees a commit that has just freed one.
  IF (SELECT count(*) FROM accounts AS a WHERE a.id = ANY (payees) AND a.status <> 'closed') <> cardinality(payees) THEN
    RAISE EXCEPTION 'a payee was closed meanwhile' USING ERRCODE = 'WG004';
  END IF;
  PERFORM wallet_write(given);
END
$wallet$;
