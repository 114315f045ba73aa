"""Do: compare every row of a source with the target while both are live.

Two passes a table, since the two sides do not order keys alike (NOCASE, jsonb, numbers kept as text): the source's rows
looked up on the target, then the target's keys looked up at the source. Both look-ups are by key and exact.
The order is the argument: source view first (state at S), then wait until the target applied S, then one target snapshot.
Then a row that is equal is proven equal; one that is not is suspect and looked at again (verify/looks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapters.postgres import Postgres
from schemas.change import TableState
from schemas.model import Key, KeyKind, Table
from schemas.plan import plan_from_json
from schemas.ports import Clock, Source, SourceReader
from verify.canonical import digests, segment
from verify.compare import suspects, typed_key
from verify.looks import CHUNK_ROWS, Looks
from verify.report import Report, TableReport
from verify.sides import TargetSide


class Verification:
    """Verifies the tables of one source.

    Args:
        expected: tables that are replicated; one that the target does not know is reported as not compared.
        share: part of the chunks to compare, 0 < share <= 1; the rest counts as not compared.
    """

    def __init__(
        self,
        source: Source,
        reader: SourceReader,
        target: Postgres,
        clock: Clock,
        *,
        expected: Sequence[str],
        share: float = 1.0,
        said: Callable[[str, int], None] = lambda table, rows: None,  # noqa: ARG005
    ) -> None:
        self._source = source
        self._reader = reader
        self._target = target
        self._clock = clock
        self._looks = Looks(source, target, clock)
        self._expected = tuple(expected)
        self._share = share
        self._said = said
        self._seen: tuple[int, int] | None = None
        self._tables: Mapping[str, Table] = {}
        """As they were at that mark of the schema."""

    def run(self, only: Sequence[str] = ()) -> Report:
        """Every replicated table, or only those named."""
        database = self._reader.database()
        found = self._target.rows(
            'SELECT "table", state, plan::text FROM tailrace.tables WHERE source = %s ORDER BY "table"',
            (self._source.name,),
        )
        reports = []
        for name, state, plan in found:
            if (only and name not in only) or state == TableState.GONE:
                continue
            table = database.tables.get(name)
            if table is None or plan is None or TableState(state).held:
                rows = self._reader.count(table) if table is not None else 0
                why = f"the table is {state}" if table is not None else "the table is gone at the source"
                reports.append(TableReport(name, 0, not_compared=rows, reason=why))
                continue
            shape = plan_from_json(plan)
            if [key.lower() for key in shape.key] != [key.lower() for key in table.key_columns]:
                why = "another key identifies its rows now: it will be copied again"
                reports.append(TableReport(name, 0, not_compared=self._reader.count(table), reason=why))
                continue
            report = self._table(table, TargetSide(self._target, table, shape))
            self._store(report)
            reports.append(report)
        unknown = {*self._expected, *only} - {name for name, _, _ in found}
        for name in sorted(unknown & set(only) if only else unknown):
            table = database.tables.get(name)
            if table is not None and table.key.kind is KeyKind.WHOLE_ROW:
                # Not even counted: it may be one that cannot be read here.
                reports.append(TableReport(name, 0, reason=f"it stays behind: {table.key.reason}"))
                continue
            rows = self._reader.count(table) if table is not None else 0
            reports.append(TableReport(name, 0, not_compared=rows, reason="the target does not know this table"))
        return Report(self._source.name, reports)

    def of_keys(self, name: str, keys: Sequence[Key]) -> list[tuple[Key, str]]:
        """Those of these keys whose rows are not equal, each with what is wrong with it. Stores nothing."""
        found = self._target.rows(
            'SELECT plan::text FROM tailrace.tables WHERE source = %s AND "table" = %s AND plan IS NOT NULL '
            "AND state <> 'gone'",
            (self._source.name, name),
        )
        with self._source.view() as view:
            seen = view.mark()
        if self._seen != seen:
            self._seen, self._tables = seen, self._reader.database().tables
        table = self._tables.get(name)
        if table is None or not found:
            return [(key, "not_compared") for key in keys]
        side = TargetSide(self._target, table, plan_from_json(found[0][0]))
        distinct = {typed_key(key): key for key in keys}
        return [pair for pair in self._looks.settle(table, side, list(distinct.values())) if pair[1] != "equal"]

    def _table(self, table: Table, side: TargetSide) -> TableReport:
        counts = {"rows": 0, "not_compared": 0, "missing": 0, "extra": 0, "differing": 0}
        keys: list[Key] = []
        suspect: list[Key] = []
        head = self._from_source(table, side, counts, suspect)
        self._from_target(table, side, suspect)
        distinct = {typed_key(key): key for key in suspect}
        for key, word in self._looks.settle(table, side, list(distinct.values())):
            if word == "equal":
                continue
            counts[word] += 1
            if word != "not_compared":
                keys.append(key)
        quarantined = self._target.rows(
            'SELECT count(*) FROM tailrace.quarantine WHERE source = %s AND "table" = %s',
            (self._source.name, table.name),
        )[0][0]
        reason = f"{quarantined} rows are in quarantine" if quarantined else ""
        return TableReport(table.name, **counts, keys=tuple(keys), reason=reason, seq=head)

    def _from_source(self, table: Table, side: TargetSide, counts: dict[str, int], suspect: list[Key]) -> int:
        after: Key | None = None
        head, chunk = 0, 0
        while True:
            with self._source.view() as view:
                head = view.head()
                rows = self._reader.range(table, after, limit_rows=CHUNK_ROWS)
            if not rows:
                return head
            keys = [self._reader.key_of(table, row) for row in rows]
            after = keys[-1]
            chunk += 1
            if not self._chosen(chunk):
                counts["not_compared"] += len(rows)
                continue
            made = digests(rows, side.loose)
            counts["rows"] += len(rows)
            self._said(table.name, counts["rows"])
            # One figure for all rows of the segment; only where it differs the rows are asked for one by one.
            if self._looks.at_least(head, lambda keys=keys: side.segment(keys), lost=(0, 0)) == segment(made):  # type: ignore[misc]
                continue
            marks = {typed_key(key): key for key in keys}
            found = self._looks.digests(side, keys, head)
            suspect += suspects(dict(zip(marks, made, strict=True)), found, marks)

    def _from_target(self, table: Table, side: TargetSide, suspect: list[Key]) -> None:
        """Keys that only the target has. Sampling skips none of them: an extra row may be anywhere."""
        for keys in side.chunks(chunk_rows=CHUNK_ROWS):
            with self._source.view() as view:
                present = {typed_key(key) for key in view.rows(table, keys)}
            suspect += [key for key in keys if typed_key(key) not in present]

    def _chosen(self, chunk: int) -> bool:
        return self._share >= 1.0 or int(chunk * self._share) > int((chunk - 1) * self._share)

    def _store(self, report: TableReport) -> None:
        self._target.run(
            'INSERT INTO tailrace.verdicts VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (source, "table") '
            "DO UPDATE SET at_ms = EXCLUDED.at_ms, seq = EXCLUDED.seq, rows = EXCLUDED.rows, differing = "
            "EXCLUDED.differing, missing = EXCLUDED.missing, extra = EXCLUDED.extra, not_compared = EXCLUDED.not_compared",
            (
                self._source.name,
                report.table,
                self._clock.now_ms(),
                report.seq,
                report.rows,
                report.differing,
                report.missing,
                report.extra,
                report.not_compared,
            ),
        )
