-- Deliveries whose body grows with the file that a source follows: one for each life of that file, from its first byte
-- to its rotation. Their receipt is `unfinished` while everything that came is read.
CREATE TABLE growing (
    id         TEXT PRIMARY KEY REFERENCES receipt (id) ON DELETE CASCADE,
    continues  TEXT,             -- the delivery before it, where it is proven that nothing lies between them
    ended      INTEGER NOT NULL  -- 1: nothing follows
) WITHOUT ROWID;
