-- Who may use the API, for what and until when. Of a grant's token only the hash is here.
CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    -- SHA-256 of the token, base64.
    token_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    -- JSON lists; NULL: all.
    spaces TEXT,
    feeds TEXT,
    -- A JSON object: a slug fixes a key, “*” opens it, one that is absent is closed.
    context TEXT NOT NULL,
    -- A JSON object of repositories, unless all, and actions.
    scope TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    -- Written now and then by servers; the only column that the MAC does not cover.
    last_used_at BIGINT,
    mac TEXT NOT NULL
);
