-- The texts that carnet last wrote at a place. After the keys of labels were replaced, a label does not authenticate
-- any more; the text is known by its digest then, and is no alarm.
ALTER TABLE publication_targets ADD COLUMN jwks_sha256 TEXT;
ALTER TABLE publication_targets ADD COLUMN discovery_sha256 TEXT;

-- What is still to be done after a revocation: verifiers are shown a token of a key that they cannot know, so that they
-- fetch the JWKS. Written by the transaction that revokes; removed once done.
CREATE TABLE nudges (
    -- The algorithm of the revoked keys.
    alg TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    -- 1 or 2.
    round BIGINT NOT NULL,
    -- The prepared key that signs; without one, a key is made for this alone.
    kid TEXT,
    due_at BIGINT NOT NULL,
    -- Until then, copies of the documents that do not show the revocation yet are waited for.
    wait_until BIGINT NOT NULL,
    -- When a process last said that it works on this.
    claimed_at BIGINT,
    PRIMARY KEY (alg, requested_at, round)
);
