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
