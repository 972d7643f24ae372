-- True if the node is at this epoch; raises otherwise. STABLE, so that it sees the snapshot of the statement that calls
-- it: a read that a node answers holds for the placement of slots that the process knows.
CREATE OR REPLACE FUNCTION wallet_at(known bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $wallet$
BEGIN
  PERFORM 1 FROM node WHERE epoch = known;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this process knows epoch % of the node', known USING ERRCODE = 'WG001';
  END IF;
  RETURN true;
END
$wallet$;
