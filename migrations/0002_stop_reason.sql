-- Why sampling of a completion ended: stop_token, stop_string or length. `truncated` stays, and follows from it.

ALTER TABLE completions ADD COLUMN stop_reason TEXT NOT NULL DEFAULT 'stop_token'
    CHECK (stop_reason IN ('stop_token', 'stop_string', 'length'));
UPDATE completions SET stop_reason = 'length' WHERE truncated;
ALTER TABLE completions DROP COLUMN truncated;
ALTER TABLE completions ADD COLUMN truncated INTEGER GENERATED ALWAYS AS (stop_reason = 'length') VIRTUAL;
