-- Tables are private from here on, and what may be asked stands in views (`src/store/schema.rs` documents their columns).
--
-- Nothing is copied: everything comes from the files under runs/, and the next question reads them again.

DROP TABLE rewards;
DROP TABLE completions;
DROP TABLE results;
DROP TABLE metrics;
DROP TABLE stages;
DROP TABLE runs;

-- Of which directory this is the index; one row.
CREATE TABLE source (runs TEXT NOT NULL);

CREATE TABLE run_rows (
    run        TEXT PRIMARY KEY,
    started_at TEXT NOT NULL,
    updated_at TEXT NOT NULL, -- of its newest event
    ended_at   TEXT,
    status     TEXT NOT NULL,
    host       TEXT NOT NULL,
    pid        INTEGER NOT NULL,
    version    TEXT NOT NULL,
    log_bytes  INTEGER NOT NULL -- of run.jsonl, that are in here
) WITHOUT ROWID;
CREATE INDEX running_runs ON run_rows (run) WHERE status = 'running';

-- A cache key and how much of its events is in here. One stage may serve many runs.
CREATE TABLE key_rows (
    id           INTEGER PRIMARY KEY,
    key          TEXT NOT NULL UNIQUE,
    events_head  TEXT, -- digest of the first line: another one is another attempt from the beginning
    events_bytes INTEGER NOT NULL DEFAULT 0,
    settled      INTEGER NOT NULL DEFAULT FALSE, -- no more events can come
    committed_at TEXT,
    bytes        INTEGER
);
CREATE INDEX unsettled_keys ON key_rows (id) WHERE NOT settled;

CREATE TABLE stage_rows (
    run        TEXT NOT NULL REFERENCES run_rows (run) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    stage      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key_id     INTEGER NOT NULL REFERENCES key_rows (id),
    recipe     TEXT NOT NULL,
    variant    TEXT NOT NULL,
    status     TEXT NOT NULL,
    started_at TEXT,
    seconds    REAL,
    message    TEXT,
    tries      INTEGER NOT NULL DEFAULT 0, -- workers that were started
    PRIMARY KEY (run DESC, position) -- the order of `history`
) WITHOUT ROWID;
CREATE INDEX stage_rows_by_key ON stage_rows (key_id);

CREATE TABLE step_rows (
    key_id INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    at     TEXT NOT NULL,
    PRIMARY KEY (key_id, step)
) WITHOUT ROWID;

CREATE TABLE metric_rows (
    key_id INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    name   TEXT NOT NULL,
    value  REAL NOT NULL,
    PRIMARY KEY (key_id, step, name)
) WITHOUT ROWID;

CREATE TABLE result_rows (
    key_id INTEGER NOT NULL,
    name   TEXT NOT NULL,
    value  REAL NOT NULL,
    low    REAL,
    high   REAL,
    count  INTEGER,
    PRIMARY KEY (key_id, name)
) WITHOUT ROWID;
CREATE INDEX result_rows_by_value ON result_rows (name, value);

CREATE TABLE completion_rows (
    id          INTEGER PRIMARY KEY,
    key_id      INTEGER NOT NULL,
    step        INTEGER NOT NULL,
    row         INTEGER NOT NULL,
    idx         INTEGER NOT NULL,
    prompt      TEXT NOT NULL,
    completion  TEXT NOT NULL,
    reference   TEXT,
    answer      TEXT,
    tokens      INTEGER NOT NULL,
    stop_reason TEXT NOT NULL,
    reward      REAL,
    advantage   REAL
);
CREATE INDEX completion_rows_by_step ON completion_rows (key_id, step);

CREATE TABLE reward_rows (
    completion_id INTEGER NOT NULL REFERENCES completion_rows (id) ON DELETE CASCADE,
    component     TEXT NOT NULL,
    value         REAL,
    weight        REAL NOT NULL,
    missing       TEXT,
    PRIMARY KEY (completion_id, component)
) WITHOUT ROWID;

CREATE VIEW runs AS
    SELECT run, status, started_at, ended_at, (julianday(ended_at) - julianday(started_at)) * 86400.0 AS seconds,
           host, pid, version
    FROM run_rows;

CREATE VIEW stages AS
    SELECT s.run, s.position, s.stage, s.kind, k.key, s.recipe, s.variant,
           CASE WHEN s.status = 'pending' AND r.status <> 'running' THEN 'not run' ELSE s.status END AS status,
           s.started_at, s.seconds, s.message, s.tries
    FROM stage_rows s JOIN run_rows r USING (run) JOIN key_rows k ON k.id = s.key_id;

CREATE VIEW metrics AS
    SELECT k.key, m.step, m.name, m.value, t.at
    FROM metric_rows m JOIN key_rows k ON k.id = m.key_id LEFT JOIN step_rows t ON t.key_id = m.key_id AND t.step = m.step;

CREATE VIEW results AS
    SELECT k.key, r.name, r.value, r.low, r.high, r.count
    FROM result_rows r JOIN key_rows k ON k.id = r.key_id;

CREATE VIEW completions AS
    SELECT c.id AS completion_id, k.key, c.step, c.row, c.idx, c.prompt, c.completion, c.reference, c.answer, c.tokens,
           c.stop_reason, c.stop_reason = 'length' AS truncated, c.reward, c.advantage
    FROM completion_rows c JOIN key_rows k ON k.id = c.key_id;

CREATE VIEW rewards AS
    SELECT w.completion_id, k.key, c.step, c.row, c.idx, w.component, w.value, w.weight, w.missing
    FROM reward_rows w JOIN completion_rows c ON c.id = w.completion_id JOIN key_rows k ON k.id = c.key_id;

CREATE VIEW cache AS
    SELECT k.key, s.stage, s.kind, k.committed_at, k.bytes,
           (SELECT COUNT(DISTINCT run) FROM stage_rows WHERE key_id = k.id) AS runs
    FROM key_rows k LEFT JOIN stage_rows s ON (s.run, s.position) =
        (SELECT run, position FROM stage_rows WHERE key_id = k.id ORDER BY run, position LIMIT 1)
    WHERE k.committed_at IS NOT NULL;
