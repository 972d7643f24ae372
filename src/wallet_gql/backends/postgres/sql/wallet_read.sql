-- Answer as `wallet_load` does, without locks and as of one moment, at which the node is at the epoch that is wanted.
CREATE OR REPLACE FUNCTION wallet_read(want jsonb) RETURNS text LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $wallet$
DECLARE
  wanted_accounts text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'accounts'));
  wanted_owners text[] := ARRAY(SELECT jsonb_array_elements_text(want -> 'wallets'));
  found text[];
  since bigint[];
  holding text[];
  accounts json;
BEGIN
  IF want ? 'epoch' THEN
    PERFORM wallet_at((want ->> 'epoch')::bigint);
  END IF;
  SELECT array_agg(a.id), array_agg(a.pending_from), array_agg(a.id) FILTER (WHERE a.held_minor > 0), json_agg(
      json_build_array(a.id, a.owner, a.currency, a.created_at, a.changed_at, a.status, a.posted_minor, a.held_minor,
                       a.sequence))
  INTO found, since, holding, accounts
  FROM accounts AS a WHERE a.id = ANY (wanted_accounts) OR a.owner = ANY (wanted_owners);
  RETURN wallet_found(want, found, since, holding, accounts, NULL, NULL);
END
$wallet$;
