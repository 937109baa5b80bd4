-- What has been received and is not yet retired, and how far each source has read.
-- Names are a contract: `cdrd sql` shows these tables as `spool`. Migrations only add.

CREATE TABLE receipt (
    id            TEXT PRIMARY KEY,
    state         TEXT NOT NULL CHECK (state IN ('claiming', 'waiting', 'reading', 'unfinished')),
    origin        TEXT NOT NULL,
    source        TEXT NOT NULL,
    account       TEXT,
    peer          TEXT,
    name          TEXT NOT NULL,
    received_at   TEXT NOT NULL,
    pinned_format TEXT,
    time_zone     TEXT,
    reading       BLOB NOT NULL,
    bytes         INTEGER NOT NULL,
    content_hash  BLOB,
    repeat_of     TEXT,
    body_kind     TEXT NOT NULL CHECK (body_kind IN ('inline', 'spool', 'claimed')),
    body_path     BLOB,
    device        INTEGER,
    inode         INTEGER,
    mtime_ns      INTEGER,
    original_path BLOB
);
-- An index carries the row number, so that the oldest of a state is its first entry.
CREATE INDEX receipt_state ON receipt (state);
CREATE INDEX receipt_body_path ON receipt (body_path) WHERE body_path IS NOT NULL;

CREATE TABLE body (
    id    TEXT PRIMARY KEY REFERENCES receipt (id) ON DELETE CASCADE,
    bytes BLOB NOT NULL
);

-- Deliveries that ended without a rejection. No account and no pinned format are '', because NULLs are never equal.
CREATE TABLE seen (
    origin        TEXT NOT NULL,
    source        TEXT NOT NULL,
    account       TEXT NOT NULL,
    pinned_format TEXT NOT NULL,
    content_hash  BLOB NOT NULL,
    bytes         INTEGER NOT NULL,
    reading       BLOB NOT NULL,
    delivery_id   TEXT NOT NULL,
    seen_at       TEXT NOT NULL,
    PRIMARY KEY (origin, source, account, pinned_format, content_hash)
) WITHOUT ROWID;
-- A file is hashed at the door only if its size is known here.
CREATE INDEX seen_bytes ON seen (bytes);

CREATE TABLE bookmark (
    source TEXT NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (source, key)
) WITHOUT ROWID;

CREATE TABLE source_run (
    id           INTEGER PRIMARY KEY,
    source       TEXT NOT NULL,
    started_at   TEXT NOT NULL,
    ended_at     TEXT,
    requests     INTEGER NOT NULL DEFAULT 0,
    records      INTEGER NOT NULL DEFAULT 0,
    error        TEXT,
    recovered_at TEXT
);
CREATE INDEX source_run_source ON source_run (source, started_at);

CREATE TABLE source_state (
    source     TEXT PRIMARY KEY,
    health     TEXT NOT NULL CHECK (health IN ('ok', 'late', 'retrying', 'stopped', 'off')),
    message    TEXT NOT NULL,
    since      TEXT NOT NULL,
    updated_at TEXT NOT NULL
) WITHOUT ROWID;

-- How deliveries ended, until their source has told the sender.
CREATE TABLE outcome (
    delivery_id  TEXT PRIMARY KEY,
    source       TEXT NOT NULL,
    state        TEXT NOT NULL,
    message      TEXT NOT NULL DEFAULT '',
    ended_at     TEXT NOT NULL,
    confirmed_at TEXT
);
CREATE INDEX outcome_open ON outcome (source) WHERE confirmed_at IS NULL;

-- Files of retired deliveries that may still have to be unlinked; emptied by recovery and by later retirements.
CREATE TABLE leftover (
    path BLOB PRIMARY KEY
) WITHOUT ROWID;
