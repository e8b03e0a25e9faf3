-- What must not take longer with every feed: counts, and indexes for reads that went through all of them.

-- Whether the feed's JWKS is uploaded, so that those feeds are found without reading all others. `settings` decides.
ALTER TABLE feeds ADD COLUMN has_uploaded_jwks BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE feeds SET has_uploaded_jwks = TRUE WHERE settings LIKE '%"jwks":"uploaded"%';
CREATE INDEX feeds_with_uploaded_jwks ON feeds (space, slug) WHERE has_uploaded_jwks = TRUE;

-- For grants that name feeds and no space, where many feeds have one registry.
CREATE INDEX feeds_by_registry_and_slug ON feeds (registry, slug);
-- For lifetimes beyond the policy.
CREATE INDEX feeds_by_lifetime ON feeds (token_lifetime);
-- For the verifiers that a revocation is to reach.
CREATE INDEX feeds_by_alg ON feeds (alg, id);

-- How many there are, counted by the transactions that add and remove them.
CREATE TABLE feed_counts (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    feeds BIGINT NOT NULL,
    spaces BIGINT NOT NULL
);
INSERT INTO feed_counts (id, feeds, spaces)
VALUES (1, (SELECT COUNT(*) FROM feeds), (SELECT COUNT(*) FROM spaces));
ALTER TABLE spaces ADD COLUMN feeds BIGINT NOT NULL DEFAULT 0;
UPDATE spaces SET feeds = (SELECT COUNT(*) FROM feeds WHERE feeds.space = spaces.slug);

-- For the latest event of a kind.
CREATE INDEX key_events_by_event ON key_events (event, seq);
