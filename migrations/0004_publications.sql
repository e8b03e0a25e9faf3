-- Places where copies of the public documents are published. While a row stands here, no key signs before
-- the place has shown it for `propagation`.
CREATE TABLE publication_targets (
    target TEXT PRIMARY KEY,
    registered_at BIGINT NOT NULL,
    -- What was last written there, or found there as it should be, and when.
    generation TEXT,
    shown_at BIGINT,
    -- When something was found there that carnet had not written.
    altered_at BIGINT,
    -- The failures since it last worked.
    failures BIGINT NOT NULL,
    failed_at BIGINT,
    error TEXT
);

-- The keys that a place shows, and since when.
CREATE TABLE published_keys (
    target TEXT NOT NULL REFERENCES publication_targets (target) ON DELETE CASCADE,
    kid TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (target, kid)
);

-- Grows with every change of what is shown where, so that a running server notices one by reading one row.
ALTER TABLE key_state ADD COLUMN publications BIGINT NOT NULL DEFAULT 0;
