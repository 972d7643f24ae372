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
