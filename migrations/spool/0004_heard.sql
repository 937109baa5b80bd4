-- When rows last came from a source, or since when it is watched; and since when it has been silent for too long.
ALTER TABLE source_state ADD COLUMN heard_at TEXT;
ALTER TABLE source_state ADD COLUMN silent_since TEXT;
