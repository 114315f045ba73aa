"""Do: each engine's own integrity, and whether everything that the plan promised is on the target, by name.

Invariant: fail closed. What could not be looked at is a finding, and so is a table that is not finished.
Order: the source's schema is read first; a table that changed since is then reported, never passed over. While the source
is the one that is written, a sequence may lag behind rows that came since its table caught up: the switch sets it again,
so that is a note; a sequence below what was set here is a finding at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.postgres import Postgres
from schemas.catalogue import SET_BEHIND, longest_of, longest_values, other_names
from schemas.change import TableState
from schemas.ddl import full_name, indexes
from schemas.errors import TailraceError
from schemas.model import Database, Table
from schemas.names import fold, quote, text_literal
from schemas.opening import after_switch, at_switch
from schemas.orphans import orphans
from schemas.plan import TablePlan, plan_from_json
from schemas.ports import Sqlite
from schemas.sequences import generated_key, highest, identity_of


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `kind`: source, table, key, index, unique, not null, sequence, constraint,
    default, generated column, corruption."""

    table: str
    kind: str
    name: str
    text: str

    def as_json(self) -> dict[str, str]:
        return {"table": self.table, "kind": self.kind, "name": self.name, "text": self.text}


@dataclass(slots=True)
class IntegrityReport:
    """`notes` say what an operator should know and what is right as it is."""

    source: str
    tables: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.tables > 0 and not self.findings

    def as_json(self) -> dict[str, Any]:
        found = [one.as_json() for one in self.findings]
        return {"tables": self.tables, "findings": found, "notes": self.notes, "clean": self.clean}


def check_source(db: Sqlite, database: Database, damage: Sequence[str], report: IntegrityReport) -> None:
    """`damage`: what SQLite's integrity_check says. Orphans are the source's own affair until the switch: a note."""
    report.findings += [Finding("", "source", "integrity_check", line) for line in damage]
    found = orphans(db, database.tables.values())
    for (table, at), count in sorted(found.rows.items()):
        parent = database.tables[table].foreign_keys[at].parent
        report.notes.append(f"{count} rows of {table} refer to rows of {parent} that are not there (foreign_key_check)")
    report.notes += [f"foreign keys of {table} cannot be checked: {why}" for table, why in found.unchecked.items()]


class TargetIntegrity:
    """Looks at the target's catalogue for one source's tables.

    Args:
        opened: the target has been opened; what comes at the switch is promised too.
    """

    def __init__(self, target: Postgres, report: IntegrityReport, *, opened: bool) -> None:
        self._target = target
        self._report = report
        self._opened = opened
        self._amcheck = bool(target.rows("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'"))
        if not self._amcheck:
            report.notes.append("amcheck is not installed on the target: the inside of its indexes was not looked at")

    def run(self, database: Database, expected: Sequence[str], only: Sequence[str] = ()) -> None:
        """`expected`: tables that are replicated; one that the target does not know is a finding."""
        found = self._target.rows(
            'SELECT "table", state, plan::text, reason FROM tailrace.tables WHERE source = %s ORDER BY "table"',
            (self._report.source,),
        )
        for name in sorted({*expected} - {row[0] for row in found}):
            if not only or name in only:
                self._find(name, "table", name, "the target does not know this table")
        parents: dict[str, tuple[Table, TablePlan]] = {}
        for name, state, plan, reason in found:
            table = database.tables.get(name)
            if state == TableState.GONE or (only and name not in only):
                continue
            self._report.tables += 1
            if table is None or plan is None or state != TableState.FOLLOWING:
                self._find(name, "table", name, f"it is {state}: what it is promised is not there yet")
                continue
            if reason:
                self._report.notes.append(f"{name}: {reason}")
            parents[fold(name)] = (table, plan_from_json(plan))
        for table, one in parents.values():
            try:
                self._table(table, one, database.sequences.get(table.name, 0))
            except TailraceError as error:
                self._find(table.name, "table", table.name, f"it could not be looked at: {error.message}")
        if self._opened:
            self._switched(parents)

    def _table(self, table: Table, plan: TablePlan, used: int) -> None:
        if not self._target.rows("SELECT to_regclass(%s) IS NOT NULL", (full_name(plan),))[0][0]:
            self._find(table.name, "table", plan.target_table, "the table is missing on the target")
            return
        columns = dict(
            self._target.rows(
                "SELECT attname::text, attnotnull FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND "
                "NOT attisdropped",
                (full_name(plan),),
            )
        )
        for column in plan.columns:
            if column.target not in columns:
                self._find(table.name, "column", column.target, "the column is missing")
            elif column.not_null and not columns[column.target]:
                self._find(table.name, "not null", column.target, "NOT NULL is missing")
        self._indexes(table, plan)
        self._sequence(table, plan, used)

    def _indexes(self, table: Table, plan: TablePlan) -> None:
        there = {
            name: (unique, valid, primary)
            for name, unique, valid, primary in self._target.rows(
                "SELECT c.relname::text, indisunique, indisvalid AND indisready AND indislive, indisprimary FROM pg_index "
                "JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = to_regclass(%s)",
                (full_name(plan),),
            )
        }
        if not any(primary for _, _, primary in there.values()):
            self._find(table.name, "key", plan.target_table, "the primary key is missing")
        wide = longest_values(plan)
        longest = dict(longest_of(plan, self._target.rows(wide, prepare=False)[0])) if wide else {}
        taken = [name for (name,) in self._target.rows(other_names(plan))]
        for one in indexes(table, plan, longest=longest, taken=taken):
            if not one.sql:
                continue
            unique = one.sql.startswith("CREATE UNIQUE")
            kind = "unique" if unique else "index"
            if one.name not in there:
                self._find(table.name, kind, one.name, f"the {'unique index' if unique else 'index'} is missing")
            elif unique and not there[one.name][0]:
                self._find(table.name, kind, one.name, "the index is there and is not unique")
        for name, (_, valid, _) in there.items():
            if not valid:
                self._find(table.name, "index", name, "the index is not valid")
            elif self._amcheck:
                self._inside(table, plan, name)

    def _inside(self, table: Table, plan: TablePlan, name: str) -> None:
        try:
            self._target.rows(f"SELECT bt_index_check({text_literal(full_name(plan, name))}::regclass)")
        except TailraceError as error:
            self._find(table.name, "corruption", name, error.message)

    def _sequence(self, table: Table, plan: TablePlan, used: int) -> None:
        column = generated_key(table, plan)
        if column is None:
            return
        name = self._target.rows(identity_of(plan, column))[0][0]
        if name is None:
            self._find(table.name, "sequence", column.target, "the identity is missing: an INSERT without a key fails")
            return
        last, called, said = self._target.rows(
            f"SELECT last_value, is_called, obj_description({text_literal(name)}::regclass, 'pg_class') FROM {name}"
        )[0]
        top = max(self._target.rows(highest(plan, column))[0][0], used)
        given = last if called else last - 1
        once = (
            int(said[len(SET_BEHIND) :])
            if said and said.startswith(SET_BEHIND) and said[len(SET_BEHIND) :].isdigit()
            else None
        )
        if once is not None and last < once:
            self._find(table.name, "sequence", name, f"its value is {last}, it was set to {once}")
        elif given < top and self._collides(plan, column.target, given):
            text = f"its value is {given}, the highest key is {top}"
            if self._opened:
                self._find(table.name, "sequence", name, f"{text}: an INSERT without a key will collide")
            else:
                self._report.notes.append(f"{table.name}: sequence {name}: {text}; the switch sets it again")

    def _collides(self, plan: TablePlan, column: str, given: int) -> bool:
        """A table whose last key is 2^63-1 gives keys from a gap: the next thousand are free there."""
        key = quote(column)
        return bool(
            self._target.rows(
                f"SELECT EXISTS (SELECT 1 FROM {full_name(plan)} WHERE {key} BETWEEN {given + 1} AND {given + 1000}) OR "
                f"coalesce((SELECT max({key}) FROM {full_name(plan)}), 0) < 9223372036854775807"
            )[0][0]
        )

    def _switched(self, parents: Mapping[str, tuple[Table, TablePlan]]) -> None:
        for step in at_switch(parents):
            if step.present and not self._target.rows(step.present)[0][0]:
                self._find(step.table, "constraint", step.name, f"the {step.kind} is missing")
        for step in after_switch(parents):
            if not self._target.rows(step.present)[0][0]:
                self._find(step.table, "constraint", step.name, "it is not validated: rows may break it")

    def _find(self, table: str, kind: str, name: str, text: str) -> None:
        self._report.findings.append(Finding(table, kind, name, text))
