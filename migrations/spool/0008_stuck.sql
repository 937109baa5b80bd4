-- Why a delivery waits for a person, in the words that were said when it was last tried; NULL: it waits for nobody.
ALTER TABLE receipt ADD COLUMN stuck_reason TEXT;
