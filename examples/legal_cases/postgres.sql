-- The triggers that the application has in SQLite, for its PostgreSQL schema "cases". Installed before the switch:
--     psql -v sink_role=ROLE -f postgres.sql          (ROLE: the login of Tailrace's sink)
--
-- Until the switch, and after a return, Tailrace writes the rows here, and with them the audit rows and counters that the
-- triggers in SQLite made. Fired once more, these would count twice. So they ask *who* writes, not *when*: the sink's own
-- login fires nothing, everybody else does. No step of the switch has to enable anything, so there is no moment in which a
-- write goes unaudited; and a transaction that began before the switch and writes after it is counted as any other, where
-- a trigger that asked a table for the state of the migration would see that state as it was when the transaction began.
-- The one condition is the guard's own: the application logs in as another role than the sink.

CREATE OR REPLACE FUNCTION cases.by_sink() RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT session_user = :'sink_role' $$;

-- One row is added to: two transactions that count all cases at once would both miss the other's.
CREATE OR REPLACE FUNCTION cases.case_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cases.audit(at, what, case_id) VALUES (to_char(timezone('UTC', now()), 'YYYY-MM-DD HH24:MI:SS'), 'added', NEW.id);
    INSERT INTO cases.counters VALUES ('cases', 1) ON CONFLICT (name) DO UPDATE SET value = counters.value + 1;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION cases.case_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cases.audit(at, what, case_id) VALUES (to_char(timezone('UTC', now()), 'YYYY-MM-DD HH24:MI:SS'), 'removed', OLD.id);
    UPDATE cases.counters SET value = value - 1 WHERE name = 'cases';
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS case_added ON cases.cases;
CREATE TRIGGER case_added AFTER INSERT ON cases.cases FOR EACH ROW WHEN (NOT cases.by_sink())
    EXECUTE FUNCTION cases.case_added();
DROP TRIGGER IF EXISTS case_removed ON cases.cases;
CREATE TRIGGER case_removed AFTER DELETE ON cases.cases FOR EACH ROW WHEN (NOT cases.by_sink())
    EXECUTE FUNCTION cases.case_removed();
