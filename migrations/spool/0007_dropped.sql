-- Originals of deliveries that nobody could read, which were dropped because they were too old or too many. Their
-- rejections stay listed.
CREATE TABLE dropped_original (
    id          TEXT PRIMARY KEY,  -- the delivery
    bytes       INTEGER NOT NULL,  -- of the original as it lay there, packed
    dropped_at  TEXT NOT NULL
) WITHOUT ROWID;
