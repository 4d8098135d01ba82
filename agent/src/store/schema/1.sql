-- What enforces: written by the event loop, each commit waited for.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Ends are on the boot-time clock of the boot that `meta.saved` names, microseconds; NULL: until deleted.
CREATE TABLE decision (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    ends_us INTEGER,
    body TEXT NOT NULL
);
CREATE TABLE allow (
    prefix TEXT PRIMARY KEY,
    ends_us INTEGER,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- Whatever else has an identifier, a time and a subject, as JSON.
CREATE TABLE document (
    kind TEXT NOT NULL,
    id INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX document_by_subject ON document (kind, subject);

-- What happened: written by a thread of its own; the oldest goes first.
CREATE TABLE alert (
    id INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    -- 16 bytes, IPv4 as IPv4-mapped.
    source BLOB NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX alert_by_time ON alert (time_us);
CREATE INDEX alert_by_source ON alert (source, id);

-- How evidence went on behind an alert, nats.
CREATE TABLE course (
    alert_id INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    evidence REAL NOT NULL,
    proven REAL NOT NULL,
    PRIMARY KEY (alert_id, time_us)
) WITHOUT ROWID;

CREATE TABLE history (
    seq INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    decision_id INTEGER NOT NULL,
    change TEXT NOT NULL,
    target TEXT NOT NULL,
    mode TEXT NOT NULL,
    note TEXT NOT NULL,
    -- What the entry had met until then; NULL: not known.
    packets INTEGER,
    bytes INTEGER,
    -- The decision as it was then.
    body TEXT NOT NULL
);
CREATE INDEX history_by_time ON history (time_us);
CREATE INDEX history_by_target ON history (target, seq);
CREATE INDEX history_by_decision ON history (decision_id, seq);

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    caller TEXT NOT NULL,
    call TEXT NOT NULL,
    subject TEXT NOT NULL,
    ok INTEGER NOT NULL,
    result TEXT NOT NULL
);
CREATE INDEX audit_by_time ON audit (time_us);

CREATE TABLE evidence (
    id INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    source TEXT NOT NULL,
    alert_id INTEGER,
    decision_id INTEGER,
    body TEXT NOT NULL
);
CREATE INDEX evidence_by_time ON evidence (time_us);
CREATE INDEX evidence_by_alert ON evidence (alert_id);
CREATE INDEX evidence_by_decision ON evidence (decision_id);
