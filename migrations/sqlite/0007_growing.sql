-- Documents that grow are read on from where they were left, not from their start.

-- Where the row before next_row begins.
ALTER TABLE document ADD COLUMN resume_offset INTEGER;

-- How often rows that no id tells apart were seen in a stream: counted on for two days, also into its next document.
-- `before` is the count at the document's start, kept so that reading it again counts the same. Internal.
CREATE TABLE copies (
    document_id  INTEGER NOT NULL,
    row          BLOB NOT NULL,
    before       INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    seen_at      TEXT NOT NULL,
    PRIMARY KEY (document_id, row)
) WITHOUT ROWID;
