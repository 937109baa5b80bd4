-- What a run of a poller asked for and found: its window (UTC; no end: up to now), and what the far side no longer had.
ALTER TABLE source_run ADD COLUMN window_from TEXT;
ALTER TABLE source_run ADD COLUMN window_to TEXT;
ALTER TABLE source_run ADD COLUMN pages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE source_run ADD COLUMN gap_from TEXT;
ALTER TABLE source_run ADD COLUMN gap_to TEXT;
-- Windows that somebody asked to be fetched again, until they are.
CREATE TABLE sync_wish (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    source   TEXT NOT NULL,
    from_at  TEXT,
    to_at    TEXT,
    asked_at TEXT NOT NULL,
    ended_at TEXT,
    requests INTEGER NOT NULL DEFAULT 0,
    pages    INTEGER NOT NULL DEFAULT 0,
    records  INTEGER NOT NULL DEFAULT 0,
    error    TEXT
);
CREATE INDEX sync_wish_open ON sync_wish (source) WHERE ended_at IS NULL;
-- Who may ask for something over HTTP: a hash of each token, never the token.
CREATE TABLE token (
    name       TEXT PRIMARY KEY,
    hash       BLOB NOT NULL,
    made_at    TEXT NOT NULL
) WITHOUT ROWID;
