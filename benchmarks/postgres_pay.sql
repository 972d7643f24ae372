-- The work of one payment as one function and one transaction, on the wallet's own tables with their indexes: look the
-- key up, lock both accounts in one order, check the money, move it, write transfer, entries and receipt.
CREATE FUNCTION bench_pay(payer text, payee text, amount bigint, bench_key text) RETURNS text LANGUAGE plpgsql AS $bench$
DECLARE
  debit accounts%ROWTYPE;
  credit accounts%ROWTYPE;
  transfer text := 'trf_' || replace(gen_random_uuid()::text, '-', '');
  now_us bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
BEGIN
  PERFORM 1 FROM accounts WHERE id IN (payer, payee) ORDER BY id FOR UPDATE;
  PERFORM 1 FROM receipts AS r WHERE r.slot = 1 AND r.actor = payer AND r.key = bench_key;
  IF FOUND THEN
    RETURN 'replayed';
  END IF;
  SELECT * INTO debit FROM accounts WHERE id = payer;
  SELECT * INTO credit FROM accounts WHERE id = payee;
  IF debit.status <> 'open' OR credit.status = 'closed' OR debit.currency <> credit.currency
     OR debit.posted_minor - debit.held_minor < amount THEN
    RAISE EXCEPTION 'refused';
  END IF;
  UPDATE accounts SET posted_minor = posted_minor - amount, sequence = sequence + 1, changed_at = now_us WHERE id = payer;
  UPDATE accounts SET posted_minor = posted_minor + amount, sequence = sequence + 1, changed_at = now_us WHERE id = payee;
  INSERT INTO transfers (id, kind, debit_account_id, credit_account_id, amount_minor, currency, at, actor,
                         idempotency_key, fee_minor, reverses, hold_id, reference)
  VALUES (transfer, 'transfer', payer, payee, amount, debit.currency, now_us, debit.owner, bench_key, 0, NULL, NULL, '');
  INSERT INTO entries (account_id, sequence, transfer_id, amount_minor, balance_minor, at)
  VALUES (payer, debit.sequence + 1, transfer, -amount, debit.posted_minor - amount, now_us),
         (payee, credit.sequence + 1, transfer, amount, credit.posted_minor + amount, now_us);
  INSERT INTO receipts (slot, actor, key, operation, fingerprint, at, transfer_id, outcome, leader)
  VALUES (1, payer, bench_key, 'transfer', encode(sha256((payer || payee || amount)::bytea), 'hex'), now_us, transfer,
          NULL, NULL);
  RETURN transfer;
END
$bench$;
