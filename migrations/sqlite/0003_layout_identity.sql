-- What identity is made of in rows of this layout, in words: an identity list that was changed since shows. Internal.
ALTER TABLE layout ADD COLUMN identity TEXT NOT NULL DEFAULT '';
