-- Documents of archives are noted beside whole bodies. Only a whole body has an original of its own, so that the door
-- answers with those alone; the pipeline takes both.
ALTER TABLE seen ADD COLUMN whole INTEGER NOT NULL DEFAULT 1;
