-- Whether the source wants to be told how the delivery ended.
ALTER TABLE receipt ADD COLUMN feedback INTEGER NOT NULL DEFAULT 0;
-- What it is told: written when the delivery is retired, gone when its source has told the sender.
ALTER TABLE outcome ADD COLUMN account TEXT;
ALTER TABLE outcome ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE outcome ADD COLUMN counts TEXT NOT NULL DEFAULT '{}';
ALTER TABLE outcome ADD COLUMN rejected_documents INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outcome ADD COLUMN rejections TEXT NOT NULL DEFAULT '[]';
