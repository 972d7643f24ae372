-- The next accounts after one that have pending credits, by id. It jumps from one to the next, however many credits each
-- of them has.
CREATE OR REPLACE FUNCTION wallet_with_pending(after text, most bigint) RETURNS SETOF text LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $wallet$
DECLARE
  next text := after;
BEGIN
  FOR _ IN 1 .. most LOOP
    next := (SELECT p.account_id FROM pending_credits AS p WHERE p.account_id > next ORDER BY p.account_id LIMIT 1);
    EXIT WHEN next IS NULL;
    RETURN NEXT next;
  END LOOP;
END
$wallet$;
