-- The time by which rows are old enough to be pruned. It moves on as time passes, never by as much as a clock jumps.
ALTER TABLE key_state ADD COLUMN pruning_time BIGINT NOT NULL DEFAULT 0;
-- Grows each time the high-water time is set back: without it a stale reading would look like one.
ALTER TABLE key_state ADD COLUMN set_backs BIGINT NOT NULL DEFAULT 0;

-- Where no server has ever run, the latest record is the latest time that is known.
UPDATE key_state SET high_water = (SELECT COALESCE(MAX(at), 0) FROM key_events) WHERE high_water = 0;
UPDATE key_state SET high_water = (SELECT COALESCE(MAX(at), 0) FROM audit) WHERE high_water = 0;
UPDATE key_state SET pruning_time = high_water;
