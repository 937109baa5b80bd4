-- What a careful person would do with the sqlite3 shell: import into a table of texts, then insert what is new into a
-- typed table with cdrd's own columns and indexes. Left out, in its favour: normalised numbers, which legs are one call,
-- the record as it was written, hashes, archive, and any flush but the last.
PRAGMA page_size = 16384;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA cache_size = -65536;
-- SCHEMA
CREATE TEMP TABLE staging (accountcode, src, dst, dcontext, clid, channel, dstchannel, lastapp, lastdata, start, answer,
                           "end", duration, billsec, disposition, amaflags, uniqueid, userfield);
.import --csv --schema temp FILE staging
INSERT INTO cdr (key_day, identity, leg, origin, source, system, format, call_group, call_head, unique_id, started_at,
                 answered_at, ended_at, started_local, utc_offset_min, time_precision, time_ambiguous, duration_s, talk_s,
                 ring_s, direction, disposition, caller, caller_number, caller_name, callee, callee_number, account_code,
                 channel, dst_channel, context, extra, delivery_id, document_id, row_number, byte_offset, byte_length,
                 versions, version_hash, change_seq, stored_at)
SELECT CAST(uniqueid AS INTEGER) / 86400, CAST(uniqueid || channel || dstchannel AS BLOB), 0, 'pbx', 'inbox', 'asterisk',
       'asterisk-cdr-csv', uniqueid, 1, uniqueid, start || '.000', iif(answer = '', NULL, answer || '.000'), "end" || '.000',
       start, 0, 'second', 0, CAST(duration AS INTEGER), CAST(billsec AS INTEGER),
       CAST(duration AS INTEGER) - CAST(billsec AS INTEGER), iif(dcontext = 'from-trunk', 'inbound', 'outbound'),
       CASE disposition WHEN 'ANSWERED' THEN 'answered' WHEN 'NO ANSWER' THEN 'no_answer' ELSE lower(disposition) END,
       src, src, substr(clid, 2, instr(clid, '" <') - 2), dst, dst, accountcode, channel, dstchannel, dcontext,
       json_object('last_app', lastapp, 'last_data', lastdata, 'amaflags', amaflags), '01JZZZZZZZZZZZZZZZZZZZZZZZ', 1,
       staging.rowid, 0, 0, 1, CAST(uniqueid || channel AS BLOB), staging.rowid, '2026-01-01 00:00:00.000'
  FROM staging WHERE true
    ON CONFLICT (key_day, identity, leg) DO NOTHING;
