-- The epoch of the symmetric keys in sealed_keys: a rewrap makes all of them anew and begins the next one. Every
-- writing transaction reads it.
ALTER TABLE key_state ADD COLUMN epoch BIGINT NOT NULL DEFAULT 1;
-- The version of the list of purposes that the keys in sealed_keys are complete for; 0: made before there was one.
ALTER TABLE key_state ADD COLUMN purposes BIGINT NOT NULL DEFAULT 0;

-- The epochs of the audit chain that have ended: where, and the key of its rows, sealed for reading alone. The tag
-- is a MAC under the key of the present epoch.
CREATE TABLE audit_epochs (
    epoch BIGINT PRIMARY KEY,
    end_seq BIGINT NOT NULL,
    end_mac TEXT NOT NULL,
    master_key_id TEXT NOT NULL,
    sealed TEXT NOT NULL,
    tag TEXT NOT NULL
);

-- The master keys that running servers can open, and when each server last said so.
CREATE TABLE server_master_keys (
    server TEXT NOT NULL,
    master_key_id TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (server, master_key_id)
);
