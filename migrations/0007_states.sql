-- The states of the rows that count (keys, grants, policy): a database that was put back to an earlier one, in whole
-- or row by row, lacks the last ones. Each follows from the one before; the MAC authenticates the last.
CREATE TABLE states (
    n BIGINT PRIMARY KEY,
    -- The id of this database, made with it; the same in every row.
    database_id TEXT NOT NULL,
    -- SHA-256 over the MACs of the rows, and the policy.
    digest TEXT NOT NULL,
    -- SHA-256 over the head before, the id, n and the digest.
    head TEXT NOT NULL,
    mac TEXT NOT NULL
);
