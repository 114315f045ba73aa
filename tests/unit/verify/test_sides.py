"""Reading the target while its columns are being widened."""

from __future__ import annotations

from dataclasses import replace

from adapters.postgres import Postgres
from schemas.ddl import create_table
from schemas.evolution import evolve
from schemas.model import Affinity, Column, KeyKind, Table, TableKey
from schemas.plan import TablePlan, build_table_plan, with_codec
from schemas.profile import ColumnProfile, TableProfile
from schemas.rows import RowCodec
from verify.canonical import digests
from verify.sides import TargetSide

TABLE = Table(
    "t",
    (Column("id", "INTEGER", Affinity.INTEGER, pk_position=1), Column("v", "", Affinity.BLOB)),
    TableKey(KeyKind.ROWID_ALIAS, ("id",), "rowid"),
)


def narrow() -> TablePlan:
    profile = TableProfile(1, {"id": ColumnProfile(ints=1), "v": ColumnProfile(ints=1)})
    plan = build_table_plan(TABLE, profile, source="s", prefix="p", target_schema="public")
    return replace(plan, unique=False)


def test_a_retyped_column_is_read_on_the_same_session(database_url: str) -> None:
    """PostgreSQL refuses a prepared SELECT whose result types moved; psycopg prepares after five executions."""
    target = Postgres(database_url, application_name="tests")
    plan = narrow()
    for statement in create_table(plan, sink_role="sink", name="t"):
        target.run(statement)
    target.copy_in("COPY t FROM STDIN (FORMAT BINARY)", plan_types(plan), RowCodec(plan).rows_to_pg([(1, 7)]))
    before = TargetSide(target, TABLE, plan)
    for _ in range(8):
        assert digests([(1, 7)]) == list(before.digests([(1,)]).values())
        assert [[(1,)]] == list(before.chunks(chunk_rows=10))
    wide = evolve(plan, with_codec(plan, "v", "jsonb", ""))
    sink = Postgres(database_url, application_name="sink")  # psycopg forgets what it prepared when it alters itself
    for statement in wide.statements:
        sink.run(statement)
    sink.close()
    after = TargetSide(target, TABLE, wide.plan)
    assert digests([(1, 7)]) == list(after.digests([(1,)]).values())
    assert [[(1,)]] == list(after.chunks(chunk_rows=10))
    target.close()


def plan_types(plan: TablePlan) -> tuple[str, ...]:
    return RowCodec(plan).pg_types


def test_columns_that_only_unicode_folds_together(database_url: str) -> None:
    """SQLite folds ASCII alone: the values of É and é were read as one column's, and every row was called different."""
    table = replace(TABLE, columns=(*TABLE.columns[:1], *(Column(c, "", Affinity.INTEGER) for c in ("É", "é"))))
    plan = build_table_plan(
        table, TableProfile(0, {}), source="s", prefix="p", target_schema="public", target_table="folded"
    )
    target = Postgres(database_url, application_name="tests")
    for statement in create_table(plan, sink_role="sink", name="folded"):
        target.run(statement)
    target.copy_in("COPY folded FROM STDIN (FORMAT BINARY)", plan_types(plan), [(1, 7, 8)])
    assert digests([(1, 7, 8)]) == list(TargetSide(target, table, plan).digests([(1,)]).values())
    target.close()
