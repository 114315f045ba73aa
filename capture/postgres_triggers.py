"""Decide: the target's change log and its triggers, as statements: the same idea as in SQLite, keys only; pure.

Invariant: every key whose row may differ after a statement is in the log when that statement's transaction commits, under
the number of its top-level transaction: log ids are not in commit order here, the transaction's place in a snapshot is.
Statement triggers with transition tables see what ON CONFLICT, cascades and an application's own triggers change, each as
a statement of its own. They fire ALWAYS (a session in replica role writes too) and as their owner (the application's
role needs no right on the log). TRUNCATE names no key: it is refused.
`txid_*` instead of `pg_snapshot` functions: PostgreSQL 12 has no others, and 18 still has them; the text is the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from schemas.ddl import full_name
from schemas.names import beside_parameters, quote, short, text_literal
from schemas.plan import ColumnPlan, TablePlan

LOG = "tailrace.log"
ACKNOWLEDGED = "tailrace.log_acknowledged"
"""The watermark up to which entries of a source were taken out, since the target opened. Without it a stream that was lost with
its watermarks would be begun again at the open, and nobody would miss what the log no longer has."""
TRUNCATE_TRIGGER = "tailrace_log_truncate"
TRIGGERS = ("tailrace_log_insert", "tailrace_log_update", "tailrace_log_delete", TRUNCATE_TRIGGER)

LOG_STATEMENTS = (
    f"""CREATE TABLE IF NOT EXISTS {LOG}(
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, xid bigint NOT NULL DEFAULT txid_current(),
        ts timestamptz NOT NULL DEFAULT clock_timestamp(), source text NOT NULL, tab text NOT NULL,
        op "char" NOT NULL, key jsonb NOT NULL)""",
    f"CREATE INDEX IF NOT EXISTS tailrace_log_xid ON {LOG}(xid)",
    f"CREATE TABLE IF NOT EXISTS {ACKNOWLEDGED}(source text PRIMARY KEY, watermark text NOT NULL, topics text NOT NULL)",
    """CREATE OR REPLACE FUNCTION tailrace.refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $refuse$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of % would be lost to the way back: it names no rows', TG_TABLE_NAME
        USING ERRCODE = 'TR002', HINT = 'use DELETE until the migration is completed (tailrace complete)';
END $refuse$""",
)


def key_json(columns: Sequence[ColumnPlan], alias: str) -> str:
    """The key of a row as a jsonb array that does not depend on the session's settings (DateStyle, bytea_output)."""
    return f"jsonb_build_array({', '.join(_to_json(column, alias) for column in columns)})"


def _to_json(column: ColumnPlan, alias: str) -> str:
    name = f"{alias}.{quote(column.target)}"
    match column.pg_type:
        case "bytea":
            return f"encode({name}, 'hex')"
        case "double precision":
            # As a number -0.0 and infinity would be lost; the function sets extra_float_digits.
            return f"{name}::text"
        case _:
            return name


def key_value(column: ColumnPlan, element: str) -> str:
    """One element of such an array, typed again. `element`: SQL of the jsonb element."""
    text = f"({element} #>> '{{}}')"
    match column.pg_type:
        case "bytea":
            return f"decode({text}, 'hex')"
        case "jsonb":
            return element
        case kind:
            return f"{text}::{kind}"


def function_name(plan: TablePlan) -> str:
    return f"tailrace.{quote(short(f'log_{plan.target_schema}_{plan.target_table}'))}"


def trigger_statements(plan: TablePlan, present: Collection[str] = ()) -> list[str]:
    """The function and the triggers of one table; the triggers rest until they are enabled.

    Args:
        present: triggers that are there already: to drop one would wait for every reader.
    """
    key = [plan.columns[at] for at in plan.key_indexes]
    table, function = full_name(plan), function_name(plan)
    source, name = text_literal(plan.source), text_literal(plan.table)
    into = f"INSERT INTO {LOG}(source, tab, op, key) SELECT {source}, {name}"
    new, old = key_json(key, "n"), key_json(key, "o")
    body = f"""BEGIN
    IF TG_OP = 'INSERT' THEN
        {into}, 'c', {new} FROM tailrace_new n;
    ELSIF TG_OP = 'DELETE' THEN
        {into}, 'd', {old} FROM tailrace_old o;
    ELSE
        {into}, 'u', k FROM (SELECT {new} AS k FROM tailrace_new n UNION SELECT {old} FROM tailrace_old o) AS keys;
    END IF;
    RETURN NULL;
END"""
    made = [
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        f"SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $log${body}$log$"
    ]
    for event, referencing in (
        ("insert", "NEW TABLE AS tailrace_new"),
        ("update", "OLD TABLE AS tailrace_old NEW TABLE AS tailrace_new"),
        ("delete", "OLD TABLE AS tailrace_old"),
    ):
        if f"tailrace_log_{event}" not in present:
            made.append(
                f"CREATE TRIGGER tailrace_log_{event} AFTER {event.upper()} ON {table} REFERENCING {referencing} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
            )
    if TRUNCATE_TRIGGER not in present:
        made.append(
            f"CREATE TRIGGER {TRUNCATE_TRIGGER} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT "
            "EXECUTE FUNCTION tailrace.refuse_truncate()"
        )
    return made + resting(plan) if set(TRIGGERS) - set(present) else made


def resting(plan: TablePlan) -> list[str]:
    return [f"ALTER TABLE {full_name(plan)} {', '.join(f'DISABLE TRIGGER {name}' for name in TRIGGERS)}"]


def firing(plan: TablePlan) -> list[str]:
    """SHARE ROW EXCLUSIVE: waits for open writers, not for readers."""
    return [f"ALTER TABLE {full_name(plan)} {', '.join(f'ENABLE ALWAYS TRIGGER {name}' for name in TRIGGERS)}"]


def removed(plan: TablePlan) -> list[str]:
    table = full_name(plan)
    return [f"DROP TRIGGER IF EXISTS {name} ON {table}" for name in TRIGGERS] + [
        f"DROP FUNCTION IF EXISTS {function_name(plan)}()"
    ]


def rows_sql(plan: TablePlan) -> str:
    """Keys (one array parameter of jsonb texts) -> is the row there, typed key columns, all columns."""
    key = [plan.columns[at] for at in plan.key_indexes]
    values = [key_value(column, f"(e.key::jsonb -> {at})") for at, column in enumerate(key)]
    table = full_name(plan)
    match = " AND ".join(f"t.{quote(column.target)} = {value}" for column, value in zip(key, values, strict=True))
    columns = ", ".join(f"t.{quote(column.target)}" for column in plan.columns)
    return beside_parameters(
        f"SELECT t.tableoid IS NOT NULL, {', '.join(values)}, {columns} FROM unnest(CHUNK::text[]) AS e(key) "
        f"LEFT JOIN {table} AS t ON {match}"
    ).replace("CHUNK", "%s", 1)


def keys_sql(plan: TablePlan) -> str:
    """Keys (one array parameter of jsonb texts) -> typed key columns, in their order."""
    key = [plan.columns[at] for at in plan.key_indexes]
    values = ", ".join(key_value(column, f"(e.key::jsonb -> {at})") for at, column in enumerate(key))
    return beside_parameters(
        f"SELECT {values} FROM unnest(CHUNK::text[]) WITH ORDINALITY AS e(key, at) ORDER BY at"
    ).replace("CHUNK", "%s", 1)


def entries_sql() -> str:
    """Entries that the snapshot of this transaction sees and the last one did not, in the order of their ids.

    Parameters: the last snapshot's text, twice; the source; an id to begin behind; a limit.
    """
    return (
        f"SELECT id, (extract(epoch FROM ts) * 1000)::bigint, tab, op::text, key::text FROM {LOG} "
        "WHERE xid >= txid_snapshot_xmin(%s::txid_snapshot) AND NOT txid_visible_in_snapshot(xid, %s::txid_snapshot) "
        "AND source = %s AND id > %s ORDER BY id LIMIT %s"
    )


LABEL = "SELECT s::text, txid_snapshot_xmax(s) - (SELECT count(*) FROM txid_snapshot_xip(s)) FROM txid_current_snapshot() AS s"
"""(the whole snapshot, its label): a label is the number of transactions that have ended in it, so it never falls and two
snapshots with one xmin and different states have different ones (Case *xmin ties*)."""


ACKNOWLEDGE = (
    f"INSERT INTO {ACKNOWLEDGED} VALUES (%s, %s, %s) ON CONFLICT (source) DO UPDATE "
    "SET watermark = EXCLUDED.watermark, topics = EXCLUDED.topics"
)


def prune_sql() -> str:
    """Parameters: the source, its acknowledged snapshot's text, a limit.

    One log serves all sources, and each is captured at its own pace: what one has acknowledged, another may not have seen
    (test_pruning_for_one_source_leaves_the_entries_of_another).
    """
    return (
        f"DELETE FROM {LOG} WHERE id IN (SELECT id FROM {LOG} WHERE source = %s "
        "AND xid < txid_snapshot_xmin(%s::txid_snapshot) ORDER BY id LIMIT %s)"
    )
