-- Names in these tables are a contract with everybody who writes SQL against them: migrations only add.

CREATE TABLE origin (
    name         TEXT PRIMARY KEY,
    key          TEXT NOT NULL UNIQUE,  -- part of every identity; renaming the origin keeps it
    tenant       TEXT,                  -- of its rows
    time_zone    TEXT NOT NULL,         -- as recorded at first start
    clock_fault  TEXT,                  -- the last difference between its zone and its ids that was reported
    created_at   TEXT NOT NULL
);

-- What rows of one shape look like; blobs in `stated` refer to it. Internal.
CREATE TABLE layout (
    id       INTEGER PRIMARY KEY,
    hash     BLOB NOT NULL,
    format   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    dialect  TEXT NOT NULL,  -- JSON
    headers  TEXT NOT NULL,  -- JSON list, in document order
    places   TEXT NOT NULL,  -- JSON list: where a row of `cdr` gives each value back, as the format was when it was stored
    UNIQUE (hash, dialect, headers, places)
);

-- The last number given: row ids, change_seq and stored_order come from this one sequence. Internal.
CREATE TABLE sequence (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    last  INTEGER NOT NULL
);
INSERT INTO sequence (only, last) VALUES (1, 0);

CREATE TABLE cdr (
    id                  INTEGER PRIMARY KEY,
    key_day             INTEGER NOT NULL,
    identity            BLOB NOT NULL,
    leg                 INTEGER NOT NULL,
    origin              TEXT NOT NULL,
    tenant              TEXT,
    source              TEXT NOT NULL,
    system              TEXT NOT NULL,
    format              TEXT NOT NULL,
    call_group          TEXT NOT NULL,
    call_head           INTEGER NOT NULL,
    unique_id           TEXT,
    linked_id           TEXT,
    sip_call_id         TEXT,
    started_at          TEXT NOT NULL,  -- UTC, YYYY-MM-DD HH:MM:SS.SSS
    answered_at         TEXT,
    ended_at            TEXT,
    started_local       TEXT,           -- as the PBX wrote it
    utc_offset_min      INTEGER,
    time_precision      TEXT NOT NULL,
    time_ambiguous      INTEGER NOT NULL,
    duration_s          NUMERIC,
    talk_s              NUMERIC,
    ring_s              NUMERIC,
    direction           TEXT NOT NULL,
    disposition         TEXT NOT NULL,
    caller              TEXT,
    caller_number       TEXT,
    caller_name         TEXT,
    callee              TEXT,
    callee_number       TEXT,
    callee_name         TEXT,
    dialled_number      TEXT,
    did                 TEXT,
    redirecting_number  TEXT,
    answered_by         TEXT,
    extension           TEXT,
    user_name           TEXT,
    location            TEXT,
    trunk_in            TEXT,
    trunk_out           TEXT,
    queue               TEXT,
    agent               TEXT,
    account_code        TEXT,
    channel             TEXT,
    dst_channel         TEXT,
    context             TEXT,
    hangup_cause_q850   INTEGER,
    hangup_text         TEXT,
    released_by         TEXT,
    cost                TEXT,
    currency            TEXT,
    codec               TEXT,
    recordings          TEXT,           -- JSON list
    extra               TEXT,           -- JSON object: what the format has and no column takes
    delivery_id         TEXT NOT NULL,
    document_id         INTEGER NOT NULL,
    row_number          INTEGER NOT NULL,
    byte_offset         INTEGER NOT NULL,
    byte_length         INTEGER NOT NULL,
    versions            INTEGER NOT NULL,
    version_hash        BLOB NOT NULL,
    stated              BLOB,           -- the one version, beside what the columns give back; NULL: see table version
    change_seq          INTEGER NOT NULL,
    stored_at           TEXT NOT NULL
);

CREATE UNIQUE INDEX cdr_key ON cdr (key_day, identity, leg);
CREATE INDEX cdr_started_at ON cdr (started_at);
CREATE INDEX cdr_call_group ON cdr (origin, call_group, call_head);  -- ends in call_head: one seek to a call's head
CREATE INDEX cdr_change_seq ON cdr (change_seq);
CREATE INDEX cdr_caller ON cdr (key_day, caller);
CREATE INDEX cdr_callee ON cdr (key_day, callee);

-- The versions of rows that have more than one.
CREATE TABLE version (
    key_day       INTEGER NOT NULL,
    identity      BLOB NOT NULL,
    version_hash  BLOB NOT NULL,
    leg           INTEGER NOT NULL,
    stored_order  INTEGER NOT NULL,
    origin        TEXT NOT NULL,
    source        TEXT NOT NULL,
    format        TEXT NOT NULL,
    delivery_id   TEXT NOT NULL,
    document_id   INTEGER NOT NULL,
    row_number    INTEGER NOT NULL,
    byte_offset   INTEGER NOT NULL,
    byte_length   INTEGER NOT NULL,
    stated        BLOB NOT NULL,
    stored_at     TEXT NOT NULL,
    PRIMARY KEY (key_day, identity, version_hash)
) WITHOUT ROWID;

CREATE VIEW cdr_version AS
    SELECT key_day, identity, leg, version_hash, origin, source, format, delivery_id, document_id, row_number,
           byte_offset, byte_length, stored_at
      FROM cdr WHERE versions = 1
    UNION ALL
    SELECT key_day, identity, leg, version_hash, origin, source, format, delivery_id, document_id, row_number,
           byte_offset, byte_length, stored_at
      FROM version;

-- Summaries that hold a place because no leg of their call arrived yet: looked up when a leg of the session comes.
CREATE TABLE summary (
    origin        TEXT NOT NULL,
    linked_id     TEXT NOT NULL,
    key_day       INTEGER NOT NULL,
    identity      BLOB NOT NULL,
    version_hash  BLOB NOT NULL,
    PRIMARY KEY (origin, linked_id, key_day, identity, version_hash)
) WITHOUT ROWID;

-- Sessions stated only by versions that do not show in their row (another version of the leg states another session):
-- a summary of such a session has a leg all the same. Internal.
CREATE TABLE hidden_session (
    origin     TEXT NOT NULL,
    linked_id  TEXT NOT NULL,
    PRIMARY KEY (origin, linked_id)
) WITHOUT ROWID;

-- Link values other than the call group's own name.
CREATE TABLE call_link (
    origin      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    value       TEXT NOT NULL,
    call_group  TEXT NOT NULL,
    PRIMARY KEY (origin, value, kind)
) WITHOUT ROWID;
CREATE INDEX call_link_group ON call_link (origin, call_group);

-- A call: its head leg, and what its legs sum up to.
CREATE VIEW call AS
    SELECT head.origin, head.tenant, head.call_group, head.started_at, head.direction,
           head.caller, head.caller_number, head.caller_name, head.callee, head.callee_number,
           (SELECT count(*) FROM cdr l WHERE l.origin = head.origin AND l.call_group = head.call_group) AS legs,
           (SELECT min(l.answered_at) FROM cdr l
             WHERE l.origin = head.origin AND l.call_group = head.call_group) AS answered_at,
           (SELECT max(l.ended_at) FROM cdr l
             WHERE l.origin = head.origin AND l.call_group = head.call_group) AS ended_at
      FROM cdr head WHERE head.call_head = 1;

-- Rows that were withdrawn or gave up their leg number. Never purged: who copies changes needs them.
CREATE TABLE tombstone (
    change_seq    INTEGER NOT NULL,
    origin        TEXT NOT NULL,
    key_day       INTEGER NOT NULL,
    identity      BLOB NOT NULL,
    leg           INTEGER NOT NULL,
    withdrawn_at  TEXT NOT NULL,
    reason        TEXT NOT NULL  -- merged, summary, renumbered
);
CREATE INDEX tombstone_change_seq ON tombstone (change_seq);
CREATE INDEX tombstone_key ON tombstone (key_day, identity);

CREATE TABLE delivery (
    id            TEXT PRIMARY KEY,
    source        TEXT NOT NULL,
    account       TEXT,
    origin        TEXT NOT NULL,
    name          TEXT NOT NULL,
    peer          TEXT,
    content_hash  BLOB,
    bytes         INTEGER NOT NULL,
    received_at   TEXT NOT NULL,
    state         TEXT NOT NULL,
    rows_read     INTEGER NOT NULL DEFAULT 0,
    stored        INTEGER NOT NULL DEFAULT 0,
    duplicate     INTEGER NOT NULL DEFAULT 0,
    amended       INTEGER NOT NULL DEFAULT 0,
    rejected      INTEGER NOT NULL DEFAULT 0,
    skipped       INTEGER NOT NULL DEFAULT 0,
    held          INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX delivery_received_at ON delivery (received_at);
CREATE INDEX delivery_content_hash ON delivery (content_hash);

CREATE TABLE document (
    id              INTEGER PRIMARY KEY,
    delivery_id     TEXT NOT NULL,
    number          INTEGER NOT NULL,
    run             INTEGER NOT NULL,
    path            TEXT NOT NULL,
    content_hash    BLOB,
    format          TEXT,
    dialect         TEXT,
    state           TEXT NOT NULL,  -- reading, done, rejected, superseded
    next_row        INTEGER NOT NULL,
    claim           TEXT NOT NULL,
    rows_read       INTEGER NOT NULL DEFAULT 0,
    stored          INTEGER NOT NULL DEFAULT 0,
    duplicate       INTEGER NOT NULL DEFAULT 0,
    amended         INTEGER NOT NULL DEFAULT 0,
    rejected        INTEGER NOT NULL DEFAULT 0,
    skipped         INTEGER NOT NULL DEFAULT 0,
    held            INTEGER NOT NULL DEFAULT 0,
    legs_added      INTEGER NOT NULL DEFAULT 0,
    legs_withdrawn  INTEGER NOT NULL DEFAULT 0,
    first_start     TEXT,
    last_start      TEXT,
    flags           TEXT NOT NULL DEFAULT '',  -- identity_collision
    UNIQUE (delivery_id, number, run),
    -- The third promise: every row read ended in exactly one outcome.
    CHECK (rows_read = stored + duplicate + amended + rejected + skipped + held)
);

CREATE TABLE rejected (
    id           INTEGER PRIMARY KEY,
    document_id  INTEGER NOT NULL,
    row_number   INTEGER NOT NULL,  -- 0: the document
    byte_offset  INTEGER NOT NULL,
    byte_length  INTEGER NOT NULL,
    verbatim     BLOB NOT NULL,
    field        TEXT,
    reason       TEXT NOT NULL,
    message      TEXT NOT NULL,
    resolved_at  TEXT
);
CREATE INDEX rejected_document ON rejected (document_id);
