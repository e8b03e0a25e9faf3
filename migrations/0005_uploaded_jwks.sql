-- Which keys stand in the JWKS that somebody uploads for a feed, because Google cannot fetch it: by that
-- person's word, since when.
CREATE TABLE confirmed_keys (
    feed_id TEXT NOT NULL REFERENCES feeds (id) ON DELETE CASCADE,
    kid TEXT NOT NULL,
    confirmed_at BIGINT NOT NULL,
    PRIMARY KEY (feed_id, kid)
);
