-- A stage whose result was in the cache is `cached`, in one word everywhere.

UPDATE stage_rows SET status = 'cached' WHERE status = 'hit';
