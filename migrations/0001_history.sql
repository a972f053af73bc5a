-- The index of what runs did. Files under runs/ are the truth; deleting this database loses no result.

CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    started_at TEXT NOT NULL,
    ended_at   TEXT,
    status     TEXT NOT NULL CHECK (status IN ('running', 'ok', 'failed', 'interrupted')),
    host       TEXT NOT NULL,
    pid        INTEGER NOT NULL,
    version    TEXT NOT NULL
);

CREATE TABLE stages (
    run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    variants   TEXT NOT NULL, -- JSON array of recipe/variant
    status     TEXT NOT NULL CHECK (status IN ('pending', 'running', 'hit', 'ok', 'failed', 'skipped', 'interrupted')),
    started_at TEXT,
    seconds    REAL,
    message    TEXT,
    PRIMARY KEY (run, position)
);
CREATE INDEX stages_by_key ON stages (key);

-- What follows belongs to a cache key, because one stage may serve many runs.

CREATE TABLE metrics (
    key   TEXT NOT NULL,
    step  INTEGER NOT NULL,
    name  TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (key, name, step)
) WITHOUT ROWID;

CREATE TABLE results (
    key   TEXT NOT NULL,
    name  TEXT NOT NULL,
    value REAL NOT NULL,
    low   REAL,
    high  REAL,
    count INTEGER,
    PRIMARY KEY (key, name)
) WITHOUT ROWID;

CREATE TABLE completions (
    id         INTEGER PRIMARY KEY,
    key        TEXT NOT NULL,
    step       INTEGER NOT NULL,
    row        INTEGER NOT NULL,
    idx        INTEGER NOT NULL,
    prompt     TEXT NOT NULL,
    completion TEXT NOT NULL,
    reference  TEXT,
    answer     TEXT,
    tokens     INTEGER NOT NULL,
    truncated  INTEGER NOT NULL,
    reward     REAL,
    advantage  REAL
);
CREATE INDEX completions_by_step ON completions (key, step);

CREATE TABLE rewards (
    completion INTEGER NOT NULL REFERENCES completions (id) ON DELETE CASCADE,
    component  TEXT NOT NULL,
    value      REAL,
    weight     REAL NOT NULL,
    missing    TEXT,
    PRIMARY KEY (completion, component)
) WITHOUT ROWID;
