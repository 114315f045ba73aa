"""Do: read rows of one table from both sides by key, as SQLite values in the source's column order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.postgres import Postgres
from schemas.ddl import full_name
from schemas.model import Key, Row, Table
from schemas.names import beside_parameters, fold, quote
from schemas.plan import TablePlan
from schemas.rows import RowCodec
from verify.compare import typed_key


class TargetSide:
    """One table on the target. Reads inside the caller's snapshot."""

    def __init__(self, target: Postgres, table: Table, plan: TablePlan) -> None:
        self._target = target
        self._plan = plan
        self._codec = RowCodec(plan)
        # Matched by target name: the source may have renamed a column in case only.
        names = [fold(column.name) for column in plan.columns]
        self._order = [names.index(fold(name)) for name in table.row_columns]
        self._key_order = [table.row_columns.index(name) for name in table.key_columns]

    def rows(self, keys: Sequence[Key]) -> dict[str, Row]:
        """Rows of these keys, under their typed keys."""
        if not keys:
            return {}
        plan = self._plan
        types = [plan.columns[at].pg_type for at in plan.key_indexes]
        arrays = ", ".join(f"%b::{'text' if kind in ('jsonb', 'json') else kind}[]" for kind in types)
        names = ", ".join(f"k{at}" for at in range(len(types)))
        equal = " AND ".join(
            f"t.{beside_parameters(quote(name))} = u.k{at}::{kind}"
            for at, (name, kind) in enumerate(zip(plan.target_key, types, strict=True))
        )
        columns = beside_parameters(", ".join(f"t.{quote(column.target)}" for column in plan.columns))
        table = beside_parameters(full_name(plan))
        parameters = [list(column) for column in zip(*self._codec.sqlite_keys_to_pg(keys), strict=True)]
        sql = f"SELECT {columns} FROM unnest({arrays}) AS u({names}) JOIN {table} AS t ON {equal}"
        return self._keyed(self._target.rows(sql, parameters, prepare=False))

    def chunks(self, *, chunk_rows: int) -> Iterator[list[Key]]:
        """All keys, in the target's own order, each chunk by its own statement: no long transaction is held."""
        plan = self._plan
        key = ", ".join(quote(name) for name in plan.target_key)
        columns = ", ".join(quote(column.target) for column in plan.columns)
        types = [plan.columns[at].pg_type for at in plan.key_indexes]
        after: tuple[object, ...] | None = None
        while True:
            head, tail = f"SELECT {columns} FROM {full_name(plan)}", f" ORDER BY {key} LIMIT {chunk_rows}"
            if after is None:
                found = self._target.rows(head + tail, prepare=False)
            else:
                marks = ", ".join(f"%s::{kind}" for kind in types)
                where = f" WHERE ({beside_parameters(key)}) > ({marks})"
                sql = beside_parameters(head) + where + beside_parameters(tail)
                found = self._target.rows(sql, after, prepare=False)
            if not found:
                return
            after = tuple(found[-1][at] for at in plan.key_indexes)
            yield [self._key(row) for row in self._decoded(found)]

    def count(self) -> int:
        return int(self._target.rows(f"SELECT count(*) FROM {full_name(self._plan)}")[0][0])

    def _decoded(self, found: list[tuple[object, ...]]) -> list[Row]:
        return [tuple([row[at] for at in self._order]) for row in self._codec.rows_from_pg(found)]

    def _key(self, row: Row) -> Key:
        return tuple([row[at] for at in self._key_order])

    def _keyed(self, found: list[tuple[object, ...]]) -> dict[str, Row]:
        return {typed_key(self._key(row)): row for row in self._decoded(found)}
