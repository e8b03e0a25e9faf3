-- What was done and tried, by whom: one row an event, each tied to the one before it by its MAC.
CREATE TABLE audit (
    -- Counts from 1 without gaps.
    seq BIGINT NOT NULL PRIMARY KEY,
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

CREATE INDEX audit_by_at ON audit (at);
CREATE INDEX audit_by_kind ON audit (kind, seq);
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_feed ON audit (space, feed, seq);
CREATE INDEX audit_by_grant ON audit (grant_id, seq) WHERE grant_id IS NOT NULL;
CREATE INDEX audit_by_jti ON audit (jti) WHERE jti IS NOT NULL;

-- One row: the last audit row that was pruned, or the beginning, with a MAC of its own.
CREATE TABLE audit_base (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    mac TEXT NOT NULL,
    tag TEXT NOT NULL
);
