-- How a person said that a delivery is to be read, so that it can be read so again. NULL where nobody said anything,
-- and for deliveries from before this column.
ALTER TABLE delivery ADD COLUMN pinned_format TEXT;
ALTER TABLE delivery ADD COLUMN time_zone TEXT;
