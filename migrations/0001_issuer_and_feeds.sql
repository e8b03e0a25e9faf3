-- Portable to SQLite and PostgreSQL: TEXT, BIGINT and BOOLEAN only. Times are milliseconds since the
-- Unix epoch, durations are seconds, sealed bytes are base64.

-- One row, written when the issuer URL first becomes known.
CREATE TABLE issuer (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    url TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- One row: the rotation policy that every process obeys, and a number that grows with every change
-- of keys or policy, so that a running server notices one by reading one row.
CREATE TABLE key_state (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    generation BIGINT NOT NULL,
    rotate_every BIGINT NOT NULL,
    propagation BIGINT NOT NULL,
    max_token_lifetime BIGINT NOT NULL,
    leeway BIGINT NOT NULL,
    jwks_max_age BIGINT NOT NULL,
    rsa_bits BIGINT NOT NULL,
    -- The latest time that a process with a steady clock has seen.
    high_water BIGINT NOT NULL,
    -- The generation whose destroyed private halves may still stand in the write-ahead log.
    erasure_pending BIGINT,
    -- The scheduled rotation's failures since it last succeeded.
    rotation_failures BIGINT NOT NULL,
    rotation_failed_at BIGINT,
    rotation_error TEXT
);

-- What happened to keys, policy and master key: when, why, by whom.
CREATE TABLE key_events (
    seq BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    kid TEXT,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL
);

-- Who fetches the JWKS: one row a user agent, bounded in number.
CREATE TABLE jwks_clients (
    user_agent TEXT PRIMARY KEY,
    first_fetched_at BIGINT NOT NULL,
    last_fetched_at BIGINT NOT NULL,
    fetches BIGINT NOT NULL,
    generation BIGINT NOT NULL
);

-- Keys that the master key seals, such as the one that authenticates the rows of signing_keys.
CREATE TABLE sealed_keys (
    name TEXT PRIMARY KEY,
    master_key_id TEXT NOT NULL,
    sealed TEXT NOT NULL
);

CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    alg TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    prepared_at BIGINT NOT NULL,
    activated_at BIGINT,
    retired_at BIGINT,
    revoked_at BIGINT,
    published_until BIGINT,
    longest_lifetime BIGINT NOT NULL,
    -- The private half, present exactly while the key is prepared or active.
    sealed_private TEXT,
    master_key_id TEXT,
    -- Authenticates every column above but the sealed ones, which authenticate themselves.
    mac TEXT NOT NULL,
    CHECK ((sealed_private IS NULL) = (retired_at IS NOT NULL OR revoked_at IS NOT NULL)),
    CHECK ((sealed_private IS NULL) = (master_key_id IS NULL))
);

CREATE UNIQUE INDEX one_active_key ON signing_keys (alg)
    WHERE activated_at IS NOT NULL AND retired_at IS NULL AND revoked_at IS NULL;
CREATE UNIQUE INDEX one_prepared_key ON signing_keys (alg)
    WHERE activated_at IS NULL AND revoked_at IS NULL;

CREATE TABLE spaces (
    slug TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE feeds (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    space TEXT NOT NULL REFERENCES spaces (slug),
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    registry TEXT NOT NULL,
    audience TEXT NOT NULL,
    subject_keys TEXT NOT NULL,
    alg TEXT NOT NULL,
    token_lifetime BIGINT NOT NULL,
    -- JSON objects: the type's own fields, and endpoint overrides by name.
    settings TEXT NOT NULL,
    endpoints TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (space, slug)
);

-- The mark that a removed feed leaves: a new feed of the same name would inherit its trust.
CREATE TABLE removed_feeds (
    space TEXT NOT NULL,
    slug TEXT NOT NULL,
    feed_id TEXT NOT NULL,
    removed_at BIGINT NOT NULL,
    PRIMARY KEY (space, slug, feed_id)
);
