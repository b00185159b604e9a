"""The tables of the store, and its statements. `owners` says what each owner's entries take; triggers keep it."""

TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
    created REAL NOT NULL, changed REAL NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL,
    body BLOB NOT NULL, input BLOB NOT NULL, events BLOB NOT NULL,
    UNIQUE (owner, kind, id)
) STRICT;
CREATE INDEX by_owner_and_change ON entries (owner, changed);
CREATE INDEX by_change ON entries (changed);
CREATE TABLE owners (owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL, entries INTEGER NOT NULL) STRICT;
CREATE TRIGGER added AFTER INSERT ON entries BEGIN
    INSERT INTO owners VALUES (new.owner, new.size, 1)
        ON CONFLICT DO UPDATE SET bytes = bytes + new.size, entries = entries + 1;
END;
CREATE TRIGGER resized AFTER UPDATE OF size ON entries BEGIN
    UPDATE owners SET bytes = bytes + new.size - old.size WHERE owner = new.owner;
END;
CREATE TRIGGER removed AFTER DELETE ON entries BEGIN
    UPDATE owners SET bytes = bytes - old.size, entries = entries - 1 WHERE owner = old.owner;
    DELETE FROM owners WHERE owner = old.owner AND entries = 0;
END;
COMMIT;
"""
# What the store bounds by pushing out the oldest has no part in these, which a file of an earlier release gets, too: a
# file is there until it is deleted or expires, and a batch until it was over for as long.
BATCH_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL, expires INTEGER, record BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS files_by_owner ON files (owner);
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, input TEXT NOT NULL,
    is_over INTEGER NOT NULL, changed REAL NOT NULL, bytes INTEGER NOT NULL, record BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS batches_by_owner ON batches (owner);
CREATE INDEX IF NOT EXISTS batches_under_way ON batches (is_over, input);
CREATE TABLE IF NOT EXISTS lines (
    batch TEXT NOT NULL, number INTEGER NOT NULL, is_error INTEGER NOT NULL, text BLOB NOT NULL,
    PRIMARY KEY (batch, number)
) STRICT;
COMMIT;
"""
SELECT = (
    "SELECT kind, id, created, body, input, events, labels FROM entries WHERE owner = ? AND kind = ? AND changed > ?"
)
SELECT_ONE = f"{SELECT} AND id = ?"
WITH_LABEL = " AND EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)"
WRITE = """
INSERT INTO entries (owner, kind, id, created, changed, size, labels, body, input, events)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (owner, kind, id) DO UPDATE SET changed = excluded.changed, size = excluded.size,
labels = excluded.labels, body = excluded.body, input = excluded.input, events = excluded.events
RETURNING number
"""
