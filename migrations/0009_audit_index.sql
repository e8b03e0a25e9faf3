-- The audit log in the order of its rows, with an index for every filter, and one number that says whether any
-- feed was changed.

-- Audit rows hold no secrets, so that the pages of the old table need not be overwritten: with a million rows that
-- alone would take longer than everything else here.
PRAGMA secure_delete = OFF;

-- As before, but that SQLite keeps the rows themselves in the order of `seq`. Only INTEGER, not BIGINT, makes a column
-- SQLite's row number; PostgreSQL's column is BIGINT.
CREATE TABLE audit_in_order (
    -- Counts from 1 without gaps.
    seq INTEGER NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    actor TEXT NOT NULL,
    space TEXT,
    feed TEXT,
    feed_id TEXT,
    grant_id TEXT,
    jti TEXT,
    sub TEXT,
    aud TEXT,
    kid TEXT,
    request_id TEXT,
    upstream_request_id TEXT,
    client TEXT,
    is_check BOOLEAN NOT NULL,
    detail TEXT,
    count BIGINT NOT NULL,
    -- HMAC-SHA-256 over the MAC before it and every column above, base64url.
    mac TEXT NOT NULL
);

INSERT INTO audit_in_order (seq, at, kind, outcome, actor, space, feed, feed_id, grant_id, jti, sub, aud, kid,
    request_id, upstream_request_id, client, is_check, detail, count, mac)
SELECT seq, at, kind, outcome, actor, space, feed, feed_id, grant_id, jti, sub, aud, kid,
    request_id, upstream_request_id, client, is_check, detail, count, mac
FROM audit ORDER BY seq;

DROP TABLE audit;
ALTER TABLE audit_in_order RENAME TO audit;

-- One for each filter of the log, in the order of its pages: the newest row first.
CREATE INDEX audit_by_kind ON audit (kind, seq);
CREATE INDEX audit_by_outcome ON audit (outcome, seq);
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_feed ON audit (feed, seq) WHERE feed IS NOT NULL;
CREATE INDEX audit_by_grant ON audit (grant_id, seq) WHERE grant_id IS NOT NULL;
CREATE INDEX audit_by_jti ON audit (jti, seq) WHERE jti IS NOT NULL;
-- And for callers who see some spaces and feeds only.
CREATE INDEX audit_by_space ON audit (space, seq, kind, outcome) WHERE space IS NOT NULL;
CREATE INDEX audit_by_space_and_feed ON audit (space, feed, seq) WHERE space IS NOT NULL;

-- One row, by which times become bounds on `seq`: the latest `at` so far, and by how much a row was ever written
-- with an earlier `at` than a row before it, because a clock was set back or two clocks differ.
CREATE TABLE audit_times (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    latest BIGINT NOT NULL,
    behind BIGINT NOT NULL
);

INSERT INTO audit_times (id, latest, behind)
SELECT 1, COALESCE(MAX(latest), 0), COALESCE(MAX(latest - at), 0)
FROM (SELECT at, MAX(at) OVER (ORDER BY seq) AS latest FROM audit) AS times;

CREATE INDEX feeds_by_registry ON feeds (registry, space, slug);
CREATE INDEX feeds_by_type ON feeds (type, space, slug);

-- Grows with every change of a feed, in the transaction that makes it.
ALTER TABLE key_state ADD COLUMN feeds BIGINT NOT NULL DEFAULT 0;

PRAGMA secure_delete = ON;
