-- Subjects that clouds may still trust, though the feed that gave them was removed or gives others now: a feed that
-- can give one of them would inherit that trust.
CREATE TABLE removed_subjects (
    space TEXT NOT NULL,
    slug TEXT NOT NULL,
    feed_id TEXT NOT NULL,
    -- As in feeds; empty if not known: then they count as any.
    subject_keys TEXT NOT NULL,
    removed_at BIGINT NOT NULL,
    -- Authenticates every column above. A row with another MAC counts as one whose keys are not known.
    mac TEXT NOT NULL,
    PRIMARY KEY (feed_id, subject_keys)
);

INSERT INTO removed_subjects (space, slug, feed_id, subject_keys, removed_at, mac)
SELECT space, slug, feed_id, '', removed_at, '' FROM removed_feeds;

DROP TABLE removed_feeds;

CREATE INDEX removed_subjects_by_name ON removed_subjects (space, slug);
CREATE INDEX removed_subjects_by_keys ON removed_subjects (space, subject_keys);

-- For the feeds of a space that can give a subject.
CREATE INDEX feeds_by_subject ON feeds (space, subject_keys);

-- For what a grant has made.
CREATE INDEX grants_by_maker ON grants (created_by);
