-- The numbers that stand in rejected rows, so that `cdrd find` needs not read them all. Internal.
CREATE TABLE rejected_number (
    number       TEXT NOT NULL,     -- the last seven digits of a number as written; empty: not listed here, read the row
    rejected_id  INTEGER NOT NULL,
    PRIMARY KEY (number, rejected_id)
) WITHOUT ROWID;

-- What was rejected before is read row by row.
INSERT INTO rejected_number (number, rejected_id) SELECT '', id FROM rejected;
