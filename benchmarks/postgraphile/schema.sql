-- The wallet's rows for PostGraphile, and a transfer that promises what the wallet's does: a key is used once, the
-- payer is not overdrawn, and both balances and both entries are of the same commit.
DROP SCHEMA IF EXISTS rival CASCADE;
CREATE SCHEMA rival;
CREATE TABLE rival.users (id text PRIMARY KEY, username text NOT NULL UNIQUE, email text NOT NULL, created_at bigint NOT NULL);
CREATE TABLE rival.accounts (
    id text PRIMARY KEY, owner text NOT NULL REFERENCES rival.users, currency text NOT NULL, status text NOT NULL,
    posted_minor bigint NOT NULL CHECK (posted_minor >= held_minor), held_minor bigint NOT NULL CHECK (held_minor >= 0),
    sequence bigint NOT NULL, created_at bigint NOT NULL
);
CREATE INDEX ON rival.accounts (owner);
CREATE TABLE rival.transfers (
    id text PRIMARY KEY, kind text NOT NULL, debit_account_id text REFERENCES rival.accounts,
    credit_account_id text REFERENCES rival.accounts, amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL, at bigint NOT NULL, reference text NOT NULL
);
CREATE TABLE rival.entries (
    account_id text NOT NULL REFERENCES rival.accounts, sequence bigint NOT NULL,
    transfer_id text NOT NULL REFERENCES rival.transfers, amount_minor bigint NOT NULL,
    balance_minor bigint NOT NULL CHECK (balance_minor >= 0), at bigint NOT NULL, PRIMARY KEY (account_id, sequence)
);
CREATE TABLE rival.receipts (
    actor text NOT NULL, key text NOT NULL, transfer_id text NOT NULL REFERENCES rival.transfers, PRIMARY KEY (actor, key)
);
INSERT INTO rival.users
    SELECT id, body::jsonb ->> 'username', body::jsonb ->> 'email', 0 FROM public.records WHERE kind = 'user';
INSERT INTO rival.accounts
    SELECT id, owner, currency, status, posted_minor, held_minor, sequence, created_at FROM public.accounts
    WHERE owner IN (SELECT id FROM rival.users);
INSERT INTO rival.transfers
    SELECT t.id, kind, debit.id, credit.id, amount_minor, t.currency, at, reference FROM public.transfers AS t
    LEFT JOIN rival.accounts AS debit ON debit.id = debit_account_id
    LEFT JOIN rival.accounts AS credit ON credit.id = credit_account_id;
INSERT INTO rival.entries
    SELECT account_id, sequence, transfer_id, amount_minor, balance_minor, at FROM public.entries
    WHERE account_id IN (SELECT id FROM rival.accounts);

CREATE FUNCTION rival.pay(idempotency_key text, source text, target text, amount bigint, reference text)
RETURNS rival.transfers LANGUAGE plpgsql AS $$
DECLARE
    payer rival.accounts;
    payee rival.accounts;
    paid rival.transfers;
    now_us bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
BEGIN
    PERFORM 1 FROM rival.accounts WHERE id IN (source, target) ORDER BY id FOR UPDATE;
    SELECT * INTO payer FROM rival.accounts WHERE id = source;
    SELECT * INTO payee FROM rival.accounts WHERE id = target;
    IF payer.id IS NULL OR payee.id IS NULL OR payer.id = payee.id THEN RAISE EXCEPTION 'ACCOUNT_NOT_FOUND'; END IF;
    SELECT t.* INTO paid FROM rival.receipts r JOIN rival.transfers t ON t.id = r.transfer_id
        WHERE r.actor = payer.owner AND r.key = idempotency_key;
    IF FOUND THEN
        IF (paid.debit_account_id, paid.credit_account_id, paid.amount_minor) <> (source, target, amount) THEN
            RAISE EXCEPTION 'KEY_REUSED';
        END IF;
        RETURN paid;
    END IF;
    IF payer.status <> 'open' OR payee.status <> 'open' THEN RAISE EXCEPTION 'ACCOUNT_NOT_OPEN'; END IF;
    IF payer.currency <> payee.currency THEN RAISE EXCEPTION 'CURRENCY_MISMATCH'; END IF;
    IF amount <= 0 OR payer.posted_minor - payer.held_minor < amount THEN RAISE EXCEPTION 'INSUFFICIENT_FUNDS'; END IF;
    INSERT INTO rival.transfers VALUES
        (gen_random_uuid()::text, 'transfer', source, target, amount, payer.currency, now_us, reference)
        RETURNING * INTO paid;
    INSERT INTO rival.entries VALUES
        (source, payer.sequence + 1, paid.id, -amount, payer.posted_minor - amount, now_us),
        (target, payee.sequence + 1, paid.id, amount, payee.posted_minor + amount, now_us);
    UPDATE rival.accounts SET posted_minor = posted_minor - amount, sequence = sequence + 1 WHERE id = source;
    UPDATE rival.accounts SET posted_minor = posted_minor + amount, sequence = sequence + 1 WHERE id = target;
    INSERT INTO rival.receipts VALUES (payer.owner, idempotency_key, paid.id);
    RETURN paid;
END $$;
