"""Do: count on the target what was applied: rows of an append-only table, each of which must arrive once.

The sample's `audit` is only ever added to. A trigger of our own on the target notes every change of it from `begin` on, in the
transaction of the change; a record that was applied twice is two notes of one row. Begun where the table follows: before,
a row may come with the copy and once more with the stream.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

_NOTE = """
CREATE TABLE public.applied(what text NOT NULL, op text NOT NULL);
GRANT ALL ON public.applied TO PUBLIC;
CREATE FUNCTION public.note_applied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.applied VALUES (CASE WHEN TG_OP = 'DELETE' THEN OLD::text ELSE NEW::text END, TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER note_applied AFTER INSERT OR UPDATE OR DELETE ON cases.audit
    FOR EACH ROW EXECUTE FUNCTION public.note_applied();
ALTER TABLE cases.audit ENABLE ALWAYS TRIGGER note_applied;
"""


class AppliedOnce:
    def __init__(self, folder: Path, url: str) -> None:
        self._source = folder / "cases.db"
        self._url = url
        self._before = -1

    def begin(self) -> None:
        """While nobody writes and everything is applied."""
        with psycopg.connect(self._url) as target:
            target.execute(_NOTE)
        self._before = self._rows()

    def check(self) -> int:
        """Once everything is applied: as many notes as rows were added, each of another row. Returns how many."""
        added = self._rows() - self._before
        with psycopg.connect(self._url) as target:
            found = target.execute(
                "SELECT count(*), count(DISTINCT what), count(*) FILTER (WHERE op <> 'INSERT') FROM public.applied"
            ).fetchone()
        assert (added, added, 0) == found
        return added

    def _rows(self) -> int:
        with closing(sqlite3.connect(self._source, timeout=30)) as app:
            return int(app.execute("SELECT count(*) FROM audit").fetchone()[0])
